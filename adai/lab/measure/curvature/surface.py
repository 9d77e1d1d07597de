"""The loss over a plane through the parameters."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adai.lab.measure.objective import Objective


class Surface(NamedTuple):
    """The steps along each direction, (points,), and L at θ + a d₁ + b d₂, (points, points), a by row."""

    steps: NDArray[np.float64]
    loss: NDArray[np.float64]


def loss_surface(
    objective: Objective,
    first: Tensor,
    second: Tensor,
    *,
    radius: float = 1.0,
    points: int = 25,
    progress: Callable[[int], None] = lambda losses: None,
) -> Surface:
    """L over a square grid from −radius to radius along two directions (size,), such as the top two eigenvectors.

    Compare two nets only along directions of the same meaning and at the same radius; see `filter_scale`.

    Args:
        objective: the loss.
        first: d₁.
        second: d₂.
        radius: how far the grid goes to each side, in units of the directions.
        points: the number of points along each side; an odd number has θ itself in the middle.
        progress: called with the number of losses just computed; there are points² in all.
    """
    steps = np.linspace(-radius, radius, points)
    loss = np.empty((points, points))
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            loss[i, j] = objective.loss(objective.theta + float(a) * first + float(b) * second)
            progress(1)
    return Surface(steps, loss)
