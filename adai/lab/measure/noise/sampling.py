"""Gradient noise as minibatches give it."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from adai.lab.measure.objective import Objective, Progress, silent

Array = NDArray[np.float64]


class Noise(NamedTuple):
    """Noise of minibatch gradients, ∂L̂/∂θ − ∂L/∂θ, the second over all samples.

    Args:
        B: batch size.
        samples: n.
        across_parameters: (size,), one minibatch's noise.
        across_minibatches: (minibatches, parameters), noise of some parameters.
        parameters: the numbers of those parameters, (parameters,).
        gradient: ∂L/∂θ of those parameters, (parameters,).
        squares: ‖noise‖² of each minibatch, all parameters, (minibatches,).
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
    """The noise of minibatches drawn independently of each other, each without repeating a sample.

    With an objective of batch statistics the minibatch's own are taken, as in training; the full gradient is then the
    mean over its minibatches of ``objective.batch``, and makes sense only for B = ``objective.batch``.

    Args:
        objective: the loss.
        B: batch size.
        minibatches: how many.
        parameters: how many to follow, chosen at random among all; all of them if there are fewer.
        seed: of the minibatches and of that choice.
        progress: told what is being done, how many more, and of how many.

    Raises:
        ValueError: B is not from 1 to the number of samples, fewer than 2 minibatches or no parameter.
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
