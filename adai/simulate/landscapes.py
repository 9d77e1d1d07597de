"""The landscapes of the escape times: the start of a replica, its gradients, and its exit.

All are sums over coordinates, so the gradient is a loop over them. k is the sharpness: θ is scaled by sqrt(k), which
multiplies every curvature by k.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from adai.theory.parabolas import Parabolas
from adai.theory.styblinski import PRINTED_MINIMUM, PRINTED_SADDLE

Array = NDArray[np.float64]
Samples = NDArray[np.float32]

SAMPLES, ADDITIVE, PARABOLAS = range(3)
DIMENSIONS = 10
SAMPLE_COUNT = 50_000
NOISE = 70.0
NO_DATA = np.zeros((0, 0), dtype=np.float32)


class Landscape(NamedTuple):
    """A landscape as numbers, for the compiled loops.

    Args:
        kind: the kind of noise, one of the constants above.
        start: coordinates at which every replica starts.
        bound: the saddle, whose first passage is recorded.
        exit: a replica has left beyond this point; ``bound`` itself, or further down on the other side.
        exits: the number of coordinates, from the first, along which a replica can leave.
        k: sharpness.
        noise: standard deviation of the gradient noise at k = 1; for `PARABOLAS` at |H| = 1.
        batch: minibatch size of `SAMPLES`.
        data: training samples (N, dimensions) of `SAMPLES`.
        curvatures: H_a and H_b of the escape coordinate, then H of the others, of `PARABOLAS`.
        junction: the point at which the two parabolas of the escape coordinate are joined.
        first_v: the second moment of the gradient at the start, for replicas that start with a settled v.
    """

    kind: int
    start: Array
    bound: float
    exit: float
    exits: int
    k: float
    noise: float
    batch: int
    data: Samples
    curvatures: Array
    junction: float
    first_v: Array


def appendix_e(k: float, batch: int = 10, sd: float = 2.0) -> Landscape:
    """Appendix E as printed: L = f(sqrt(k) θ - x), f Styblinski-Tang in 10 dimensions, 50,000 samples x ~ N(0, 4 I).

    At sd = 2 the mean loss is convex: the time is that of a walk up its wall, not of an escape through a saddle.
    """
    return _styblinski(SAMPLES, k, batch=batch, data=_samples(sd))


@cache
def _samples(sd: float) -> Samples:
    return (sd * np.random.default_rng(0).standard_normal((SAMPLE_COUNT, DIMENSIONS))).astype(np.float32)


def double_well(k: float, noise: float = NOISE) -> Landscape:
    """A real double well: g = sqrt(k) (f'(sqrt(k) θ) + 70 z), z ~ N(0, I); minimum and saddle are the printed ones."""
    return _styblinski(ADDITIVE, k, noise=noise)


def matched(
    k: float, others: tuple[float, ...] = (0.1, 0.1, 0.4), *, eta: float, B: float, delta_L: float
) -> Landscape:
    """Matched parabolas of curvature k and -k: the escape theory's assumptions hold exactly.

    The noise has the variance |H|/B of the side that a replica is on. A replica has left when it is five standard
    deviations sqrt(η/2B) beyond the saddle, from where almost none returns. The other coordinates are valleys of
    curvature ``others`` times k, which count in Adai's mean of v̂.
    """
    well = Parabolas(k, -k, delta_L)
    curvatures = np.array([k, -k, *(k * h for h in others)])
    first_v = np.abs(np.delete(curvatures, 1)) / B
    return Landscape(
        kind=PARABOLAS,
        start=np.zeros(1 + len(others)),
        bound=well.b,
        exit=well.b + 5 * np.sqrt(eta / (2 * B)),
        exits=1,
        k=k,
        noise=1 / np.sqrt(B),
        batch=1,
        data=NO_DATA,
        curvatures=curvatures,
        junction=well.junction,
        first_v=first_v,
    )


def _styblinski(kind: int, k: float, *, noise: float = 0.0, batch: int = 1, data: Samples = NO_DATA) -> Landscape:
    start = np.full(DIMENSIONS, PRINTED_MINIMUM / np.sqrt(k))
    bound = PRINTED_SADDLE / np.sqrt(k)
    return Landscape(
        kind, start, bound, bound, DIMENSIONS, k, noise, batch, data, np.zeros(0), 0.0, np.zeros(DIMENSIONS)
    )


@njit(nogil=True, cache=True, fastmath=True)
def gradient(landscape: Landscape, theta: Array, g: Array) -> None:
    """Fill g with a stochastic gradient at theta, drawn from the thread's generator."""
    root = np.sqrt(landscape.k)
    if landscape.kind == SAMPLES:
        # Draw all indices before the first read, with a fixed length and float32: then the reads overlap and the
        # compiler vectorises the loops.
        rows = np.random.randint(0, landscape.data.shape[0], landscape.batch)
        g[:] = 0
        for row in rows:
            for i in range(DIMENSIONS):
                u = root * theta[i] - landscape.data[row, i]
                g[i] += (2 * u * u - 16) * u
        for i in range(DIMENSIONS):
            g[i] = root * (g[i] / landscape.batch + 2.5)
    elif landscape.kind == ADDITIVE:
        for i in range(theta.size):
            u = root * theta[i]
            g[i] = root * ((2 * u * u - 16) * u + 2.5 + landscape.noise * np.random.standard_normal())
    else:
        h = landscape.curvatures
        for i in range(theta.size):
            curvature, centre = h[i + 1], 0.0
            if i == 0 and theta[0] < landscape.junction:
                curvature = h[0]
            elif i == 0:
                centre = landscape.bound
            noise = landscape.noise * np.sqrt(abs(curvature)) * np.random.standard_normal()
            g[i] = curvature * (theta[i] - centre) + noise
