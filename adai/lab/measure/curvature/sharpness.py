"""How much the loss rises near the parameters: in the worst direction, and on average."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from adai.lab.measure.objective import Objective


class Worst(NamedTuple):
    """max of L − L(θ) over the ball, as a lower bound found by ascent; and the value at one step along the gradient."""

    value: float
    first_order: float


class Average(NamedTuple):
    """A mean over random directions, and its standard error."""

    value: float
    se: float


def filter_scale(objective: Objective) -> Tensor:
    """s (size,): ‖filter‖ for all weights of a filter, |θ_i| for elements of one-dimensional tensors (biases, norms).

    A filter computes one output: a row of a matrix, a kernel of a convolution. A measure in units of s does not change
    if a layer's weights and biases are multiplied by a > 0 and the next layer's weights are divided by it, which does
    not change the function of a net with rectifiers.

    Source: J. Kwon, J. Kim, H. Park, I. Choi, ASAM, arXiv 2102.11600, section 3; H. Li, Z. Xu, G. Taylor, C. Studer,
    T. Goldstein, arXiv 1712.09913, section 4.
    """
    scales = []
    for t in objective.split(objective.theta).values():
        norms = t.abs() if t.ndim < 2 else t.flatten(1).norm(dim=1).view(-1, *[1] * (t.ndim - 1)).expand_as(t)
        scales.append(norms.reshape(-1))
    return torch.cat(scales)


def worst_sharpness(
    objective: Objective,
    rho: float = 0.05,
    *,
    scale: Tensor | None = None,
    steps: int = 20,
    starts: int = 2,
    directions: Tensor | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda gradients: None,
) -> Worst:
    """The SAM quantity: max of L(θ + s∘u) − L(θ) over ‖u‖ ≤ ρ, by projected gradient ascent.

    With s = 1 it is SAM's, with s = `filter_scale` ASAM's, which makes nets of different scales comparable. If the
    gradient is small compared with ρλ_max, it is about ρ²λ_max/2 for s = 1. The maximum over the ball is not a concave
    problem, so ascent finds a lower bound.

    Args:
        objective: the loss.
        rho: radius of the ball.
        scale: s (size,), default 1.
        steps: the number of steps of ascent from each start, of length ρ/2 before projection.
        starts: the number of random starts, in addition to the gradient's direction.
        directions: (size, k), further starts, each to both sides, for example eigenvectors.
        seed: of the random starts.
        progress: called with the number of gradients just computed: ``steps`` in total for each start.

    Returns:
        The highest value found, and ``first_order``: the rise at u = ρ s∘∇L / ‖s∘∇L‖, one step of SAM.

    Raises:
        ValueError: rho is not above 0.

    Source: P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, SAM, arXiv 2010.01412, eq. 2.
    """
    if not rho > 0:
        raise ValueError(f"rho = {rho:g}, but has to be above 0")
    s = torch.ones_like(objective.theta) if scale is None else scale
    base = objective.loss()

    def rise(u: Tensor) -> float:
        return objective.loss(objective.theta + s * u) - base

    def onto(u: Tensor) -> Tensor:
        """u scaled to length ρ; a zero vector stays zero."""
        tiny = torch.finfo(u.dtype).tiny
        u = u / u.abs().max().clamp_min(tiny)  # squares of a fitted net's gradient would underflow
        on_sphere: Tensor = u * rho / u.norm().clamp_min(tiny)
        return on_sphere

    uphill = onto(s * objective.gradient())
    first_order = rise(uphill)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(starts, objective.size, generator=generator, dtype=torch.float64).to(s)
    given = torch.empty(0, objective.size).to(s) if directions is None else directions.T * s
    best = max(0.0, first_order)
    for start in [uphill, *noise, *given, *-given]:
        u = onto(start)
        for _ in range(steps):
            g = s * objective.gradient(objective.theta + s * u)
            u = u + onto(g) / 2
            u = onto(u) if u.norm() > rho else u
            progress(1)
        best = max(best, rise(u))
    return Worst(best, first_order)


def average_sharpness(
    objective: Objective,
    radius: float = 0.05,
    *,
    scale: Tensor | None = None,
    directions: int = 10,
    seed: int = 0,
    progress: Callable[[int], None] = lambda directions: None,
) -> Average:
    """Mean over random directions d of [L(θ + r d) + L(θ − r d)]/2 − L(θ), with standard error.

    With s = `filter_scale` it is the rise along the filter-normalised directions of Li et al.: in each filter d is
    Gaussian, scaled to the filter's norm; biases move by ± their size. Without s, d is Gaussian and has norm 1.

    Args:
        objective: the loss.
        radius: r; with ``scale``, the fraction of a filter's norm by which it moves.
        scale: `filter_scale`, or None.
        directions: the number of directions, at least 2.
        seed: of the directions.
        progress: called with the number of directions just done.

    Raises:
        ValueError: there are fewer than 2 directions.

    Source: H. Li et al., Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913, section 4.
    """
    if directions < 2:
        raise ValueError(f"directions = {directions}, but a standard error needs at least 2")
    generator = torch.Generator().manual_seed(seed)
    base = objective.loss()
    rises = []
    for _ in range(directions):
        d = torch.randn(objective.size, generator=generator, dtype=torch.float64).to(objective.theta)
        step = radius * (d / d.norm() if scale is None else _of_unit_filters(objective, d) * scale)
        both = [objective.loss(objective.theta + sign * step) for sign in (1, -1)]
        rises.append(sum(both) / 2 - base)
        progress(1)
    values = torch.tensor(rises, dtype=torch.float64)
    return Average(values.mean().item(), (values.std() / directions**0.5).item())


def _of_unit_filters(objective: Objective, d: Tensor) -> Tensor:
    """d with each filter scaled to norm 1, and the sign of the rest; times `filter_scale` it has the filters' norms."""
    parts = []
    for t in objective.split(d).values():
        unit = t.sign() if t.ndim < 2 else t / t.flatten(1).norm(dim=1).view(-1, *[1] * (t.ndim - 1))
        parts.append(unit.reshape(-1))
    return torch.cat(parts)
