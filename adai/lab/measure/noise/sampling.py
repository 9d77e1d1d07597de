"""Samples of the gradient noise of minibatches."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from adai.lab.measure.objective import Objective, Progress, silent

Array = NDArray[np.float64]


class Noise(NamedTuple):
    """Noise of minibatch gradients, ∂L̂/∂θ − ∂L/∂θ, where L is over all samples.

    Args:
        B: batch size.
        samples: n.
        across_parameters: (size,), one minibatch's noise.
        across_minibatches: (minibatches, parameters), the noise of the followed parameters.
        parameters: the indices of the followed parameters, (parameters,).
        gradient: ∂L/∂θ of the followed parameters, (parameters,).
        squares: ‖noise‖² of each minibatch over all parameters, (minibatches,).
        gradient_square: ‖∂L/∂θ‖².
    """

    B: int
    samples: int
    across_parameters: Array
    across_minibatches: Array
    parameters: NDArray[np.int64]
    gradient: Array
    squares: Array
    gradient_square: float


def minibatch_noise(
    objective: Objective,
    *,
    B: int = 128,
    minibatches: int = 1000,
    parameters: int = 500,
    seed: int = 0,
    progress: Progress = silent,
) -> Noise:
    """The noise of minibatches that are drawn independently of each other, each without repeating a sample.

    If the objective has batch statistics, each minibatch uses its own, as in training. The full gradient is then the
    mean over minibatches of ``objective.batch``, which makes sense only for B = ``objective.batch``.

    Args:
        objective: the loss.
        B: batch size.
        minibatches: the number of minibatches.
        parameters: the number of parameters to follow, chosen at random; all parameters if there are fewer.
        seed: of the minibatches and of the choice of parameters.
        progress: called with the name of the work, the units just done, and their total.

    Raises:
        ValueError: B is not from 1 to the number of samples, there are fewer than 2 minibatches, or no parameter.
    """
    n = objective.samples
    if not 1 <= B <= n or minibatches < 2 or parameters < 1:
        raise ValueError(
            f"B = {B}, minibatches = {minibatches}, parameters = {parameters}: B has to be from 1 to the number of "
            f"samples, {n}, with at least 2 minibatches and 1 parameter"
        )
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(objective.size, size=min(parameters, objective.size), replace=False))
    full = objective.gradient(progress=lambda samples: progress("full gradient", samples, n))
    where = torch.from_numpy(chosen).to(full.device)
    followed = np.empty((minibatches, len(chosen)))
    squares = np.empty(minibatches)
    first: Array = np.empty(0)
    for i in range(minibatches):
        noise = objective.minibatch_gradient(torch.from_numpy(rng.choice(n, size=B, replace=False))) - full
        followed[i] = noise[where].double().cpu().numpy()
        squares[i] = float(noise.double().square().sum())
        if not i:
            first = noise.double().cpu().numpy()
        progress("minibatches", 1, minibatches)
    gradient: Array = full[where].double().cpu().numpy()
    return Noise(B, n, first, followed, chosen, gradient, squares, float(full.double().square().sum()))
