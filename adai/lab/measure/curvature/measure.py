"""All measures of the curvature at one set of parameters, as numbers that can be compared."""

from functools import partial
from typing import NamedTuple

from adai.lab.measure.curvature.density import Quadrature, lanczos_quadrature
from adai.lab.measure.curvature.eigenpairs import Eigenpairs, expected_products, top_eigenpairs
from adai.lab.measure.curvature.sharpness import Average, Worst, average_sharpness, filter_scale, worst_sharpness
from adai.lab.measure.curvature.surface import Surface, loss_surface
from adai.lab.measure.curvature.trace import Trace, trace
from adai.lab.measure.objective import Objective, Progress, silent


class Effort(NamedTuple):
    """How much to compute.

    Args:
        top: the number of eigenpairs, at least 2 for a surface.
        products: the number of products H v for the trace.
        steps: the number of steps of Lanczos for the density.
        probes: the number of random vectors for the density.
        rho: radius of SAM's ball.
        filter_rho: radius of the ball in units of the filters' norms.
        filter_radius: step along random directions, as a fraction of the filters' norms.
        ascent: the number of steps of ascent in either ball.
        directions: the number of random directions.
        points: points of the surface along each side; 0 for no surface.
        surface_radius: how far the surface goes to each side.
        seed: of all random numbers.
    """

    top: int = 5
    products: int = 30
    steps: int = 30
    probes: int = 3
    rho: float = 0.05
    filter_rho: float = 0.5
    filter_radius: float = 0.1
    ascent: int = 10
    directions: int = 10
    points: int = 11
    surface_radius: float = 0.5
    seed: int = 0


class Flatness(NamedTuple):
    """The measures that are single numbers; see the functions of the same names."""

    loss: float
    gradient_norm: float
    eigenpairs: Eigenpairs
    trace: Trace
    sam: Worst
    filter_worst: Worst
    filter_average: Average


class Curvature(NamedTuple):
    """The flatness, the spectral density, and the surface if there is one."""

    flatness: Flatness
    quadrature: Quadrature
    surface: Surface | None


class Row(NamedTuple):
    """The flatness at one set of parameters, as numbers.

    Args:
        parameters: the name of the set of parameters.
        loss: in nats.
        gradient_norm: ‖∇L‖. If it is far from 0, this is not a critical point, and eigenvalues alone say little.
        largest: eigenvalue, λ₁.
        largest_residual: ‖H u − λ u‖ of it.
        trace: of H.
        trace_se: its standard error.
        sam: rise of the loss in the worst direction in a ball.
        sam_first_order: rise along the gradient.
        filter_worst: as ``sam``, in units of the filters' norms.
        filter_average: mean rise along random filter-normalised directions.
        filter_average_se: its standard error.
    """

    parameters: str
    loss: float
    gradient_norm: float
    largest: float
    largest_residual: float
    trace: float
    trace_se: float
    sam: float
    sam_first_order: float
    filter_worst: float
    filter_average: float
    filter_average_se: float


def row(name: str, found: Flatness) -> Row:
    """The numbers of one set of parameters."""
    return Row(
        name,
        found.loss,
        found.gradient_norm,
        float(found.eigenpairs.values[0]),
        float(found.eigenpairs.residuals[0]),
        found.trace.value,
        found.trace.se,
        *found.sam,
        found.filter_worst.value,
        *found.filter_average,
    )


def measure(objective: Objective, effort: Effort, progress: Progress = silent) -> Curvature:
    """Compute all measures at the objective's parameters.

    Args:
        objective: the loss.
        effort: how much to compute.
        progress: called with the name of the work, the units just done, and their total.
    """
    flatness = measure_flatness(objective, effort, progress)
    lines = effort.steps * effort.probes
    quadrature = lanczos_quadrature(
        objective,
        steps=effort.steps,
        probes=effort.probes,
        seed=effort.seed,
        progress=lambda n: progress("spectral density", n, lines),
    )
    return Curvature(flatness, quadrature, _surface(objective, flatness.eigenpairs, effort, progress))


def measure_flatness(objective: Objective, effort: Effort, progress: Progress = silent) -> Flatness:
    """Compute only the numbers, which is about half of the work; arguments as in `measure`."""
    scale = filter_scale(objective)
    expected = expected_products(effort.top)
    pairs = top_eigenpairs(
        objective, effort.top, seed=effort.seed, progress=lambda n: progress("eigenvalues", n, expected)
    )
    progress("eigenvalues", max(0, expected - pairs.products), expected)  # the expected number was an estimate
    worst = partial(
        worst_sharpness,
        objective,
        steps=effort.ascent,
        starts=1,
        directions=pairs.vectors[:, :1],
        seed=effort.seed,
    )
    ascents = 4 * effort.ascent  # from the gradient, a random start, and both sides of the eigenvector
    return Flatness(
        loss=objective.loss(),
        gradient_norm=float(objective.gradient().double().norm()),
        eigenpairs=pairs,
        trace=trace(
            objective,
            effort.products,
            seed=effort.seed,
            progress=lambda n: progress("trace", n, effort.products),
        ),
        sam=worst(rho=effort.rho, progress=lambda n: progress("SAM sharpness", n, ascents)),
        filter_worst=worst(
            rho=effort.filter_rho,
            scale=scale,
            progress=lambda n: progress("filter-normalised sharpness", n, ascents),
        ),
        filter_average=average_sharpness(
            objective,
            effort.filter_radius,
            scale=scale,
            directions=effort.directions,
            seed=effort.seed,
            progress=lambda n: progress("random directions", n, effort.directions),
        ),
    )


def _surface(objective: Objective, pairs: Eigenpairs, effort: Effort, progress: Progress) -> Surface | None:
    if not effort.points or pairs.vectors.shape[1] < 2:
        return None
    return loss_surface(
        objective,
        pairs.vectors[:, 0],
        pairs.vectors[:, 1],
        radius=effort.surface_radius,
        points=effort.points,
        progress=lambda n: progress("loss surface", n, effort.points**2),
    )
