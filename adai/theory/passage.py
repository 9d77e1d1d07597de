"""Exact mean first-passage times in one dimension, for SGD in continuous time and for SGD itself.

Use them to measure the error of a formula for the escape time, for any landscape and noise.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from adai.theory.bounds import Array, checked
from adai.theory.parabolas import Parabolas

NODES = 16
LARGEST = 4000  # nodes of the integral equation: a second or two
LONGEST = 1e12  # iterations; the rounding errors of a linear system grow with its solution
Function = Callable[[Array], Array]


class Unresolved(ValueError):
    """The integral equation cannot be solved with this number of nodes in float64."""


def continuous(
    gradient: Function, diffusion: Function, *, start: float, bound: float, floor: float, knots: Sequence[float] = ()
) -> float:
    """Mean first time at which dθ = -L'(θ) dt + sqrt(2D(θ)) dW (eq. 2, Itô) reaches the bound.

    ∫_start^bound e^{Φ(y)} ∫_floor^y e^{-Φ(z)} / D(z) dz dy,  Φ' = L'/D,  by Gauss's rule on panels.

    Args:
        gradient: L'(θ), of an array.
        diffusion: D(θ) > 0, of an array.
        start: the initial θ.
        bound: the θ to reach, above start.
        floor: a reflecting wall, far enough below that θ never reaches it; 12 standard deviations are plenty.
        knots: the points at which gradient or diffusion jumps.

    Returns:
        The mean in dynamical time; infinite beyond float64.

    Raises:
        ValueError: floor < start < bound does not hold, or D is not above 0 somewhere (as for C = |L''|, which vanishes
            at every inflexion point, so that θ never passes it).
    """
    edges = _edges(floor, bound, [start, *knots], 400)
    nodes, weights = _gauss(edges)
    D = _positive(diffusion(nodes), nodes)
    cumulative = _indefinite()
    width = np.diff(edges)[:, None]
    phi = _running(gradient(nodes) / D, cumulative, weights, width)
    low, high = phi.min(), phi.max()
    # scaled by the extremes of Φ, so that neither exponential overflows
    inner = _running(np.exp(low - phi) / D, cumulative, weights, width)
    outer = np.exp(phi - high) * inner * weights
    with np.errstate(over="ignore"):
        return float(np.sum(outer[nodes[:, 0] > start]) * np.exp(high - low))


def discrete(
    gradient: Function,
    noise: Function,
    *,
    eta: float,
    start: float,
    bound: float,
    floor: float,
    knots: Sequence[float] = (),
) -> float:
    """Mean number of iterations after which θ - η (L'(θ) + sqrt(C(θ)) ζ) (eq. 1) is at or above the bound.

    The mean m(x) from x satisfies m(x) = 1 + ∫_floor^bound p(x, y) m(y) dy with the Gaussian density p of one step. It
    is solved on Gauss's nodes, with panels three times as wide as the smallest step: exact to about ten digits, for
    steps of any size.

    Args:
        gradient: L'(θ), of an array.
        noise: C(θ) > 0, of an array.
        eta: learning rate.
        start: the initial θ.
        bound: the θ to reach, above start.
        floor: a lower end, far enough below that θ never reaches it.
        knots: the points at which gradient or noise jumps.

    Raises:
        ValueError: floor < start < bound does not hold, or C is not above 0 somewhere.
        Unresolved: the steps are too small, or the time is too long.
    """
    checked(eta=eta)
    rough, _ = _gauss(_edges(floor, bound, [start, *knots], 50))
    step = eta * float(np.sqrt(_positive(noise(rough), rough).min()))
    panels = int(np.ceil((bound - floor) / (3 * step)))
    if panels * NODES > LARGEST:
        raise Unresolved(f"steps of {step:g} from {floor:g} to {bound:g} need {panels * NODES} nodes; use continuous()")
    nodes, weights = (array.ravel() for array in _gauss(_edges(floor, bound, list(knots), panels)))
    x = np.append(nodes, start)
    mean, sd = x - eta * gradient(x), eta * np.sqrt(noise(x))
    density = np.exp(-(((nodes - mean[:, None]) / sd[:, None]) ** 2) / 2) / (np.sqrt(2 * np.pi) * sd[:, None])
    kernel = density * weights
    times = np.linalg.solve(np.eye(len(nodes)) - kernel[:-1], np.ones(len(nodes)))
    mean_time = float(1 + kernel[-1] @ times)
    if not 0 < mean_time < LONGEST:
        raise Unresolved(
            f"the mean is above {LONGEST:g} iterations, too many for the digits of float64; use continuous()"
        )
    return mean_time


def parabolas_continuous(eta: float, B: float, H_a: float, H_b: float, delta_L: float) -> float:
    """τ in dynamical time of `continuous` on two parabolas with their noise, to 5 standard deviations past the top."""
    land, sd, ends = _parabolas(eta, B, H_a, H_b, delta_L)
    return continuous(
        land.gradient, lambda x: sd**2 * np.abs(land.curvature(x)), start=0.0, knots=[land.junction], **ends
    )


def parabolas_discrete(eta: float, B: float, H_a: float, H_b: float, delta_L: float) -> float:
    """τ = η × iterations of `discrete` on two parabolas with their noise, to 5 standard deviations past the top.

    It is nan if the steps are too small or τ is too long for the integral equation.
    """
    land, _, ends = _parabolas(eta, B, H_a, H_b, delta_L)
    try:
        iterations = discrete(
            land.gradient, lambda x: np.abs(land.curvature(x)) / B, eta=eta, start=0.0, knots=[land.junction], **ends
        )
    except Unresolved:
        return float("nan")
    return eta * iterations


def _parabolas(
    eta: float, B: float, H_a: float, H_b: float, delta_L: float
) -> tuple[Parabolas, float, dict[str, float]]:
    """The landscape, the standard deviation sqrt(η/2B) of its noise everywhere, and the range of θ."""
    checked(eta=eta, B=B)
    land = Parabolas(H_a, H_b, delta_L)
    sd = float(np.sqrt(eta / (2 * B)))
    return land, sd, {"bound": land.b + 5 * sd, "floor": -12 * sd}


def _edges(floor: float, bound: float, inside: Sequence[float], panels: int) -> Array:
    if not floor < bound or not all(floor < x < bound for x in inside):
        raise ValueError(
            f"start and knots are {list(inside)}, but have to be between floor = {floor} and bound = {bound}"
        )
    corners = np.unique([floor, *inside, bound])
    widest = (bound - floor) / panels
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / widest)) + 1)[:-1] for a, b in pairwise(corners)]
    return np.append(np.concatenate(pieces), bound)


def _gauss(edges: Array) -> tuple[Array, Array]:
    """Nodes and weights, (panels, NODES)."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    return edges[:-1, None] + half * (nodes + 1), half * weights


def _indefinite() -> Array:
    """The matrix from a polynomial's values at the nodes of a panel of width 1 to its integral up to each node."""
    nodes, _ = np.polynomial.legendre.leggauss(NODES)
    # computed from the coefficients of Legendre polynomials, whose integrals are known
    vandermonde = np.polynomial.legendre.legvander(nodes, NODES - 1)
    integrals = np.stack(
        [np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legint(unit, lbnd=-1)) for unit in np.eye(NODES)],
        axis=-1,
    )
    return np.asarray(integrals @ np.linalg.inv(vandermonde) / 2)


def _running(values: Array, indefinite: Array, weights: Array, width: Array) -> Array:
    """The integral of a function from the first edge up to each node."""
    whole = np.sum(values * weights, axis=-1)
    before = np.cumsum(whole) - whole
    return np.asarray(before[:, None] + width * (values @ indefinite.T))


def _positive(values: Array, nodes: Array) -> Array:
    if not np.all(values > 0):
        raise ValueError(
            f"the noise is {values[~(values > 0)][0]:g} at θ = {nodes[~(values > 0)][0]:g}; it has to be above 0"
        )
    return values
