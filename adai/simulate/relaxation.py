"""Runs optimizers to see how the directions of a minimum relax when the gradient noise follows the Hessian."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.optim import Optimizer

from adai.theory.bounds import checked


def mean_path(
    make: Callable[[list[torch.Tensor]], Optimizer],
    H: ArrayLike,
    *,
    B: float,
    T: int,
    settle: int,
    replicas: int = 200,
    seed: int = 0,
) -> NDArray[np.float64]:
    """The mean of θ_t/θ_0, t = 0 … T, with one column per eigenvalue: (T + 1, n).

    g_i = H_i θ_i + sqrt(H_i/B) z_i. One float64 parameter contains all replicas. First the averages settle on the noise
    with θ at the minimum. Then each θ_i starts at 0.15/√(B H_i), close enough that v̂ comes from the noise and not from
    the slope. Every replica runs from θ_0 and from -θ_0 with the same noise, so half the difference contains no noise.

    Args:
        make: makes the optimizer of a list of parameters, for example ``lambda params: Adai(params, lr=0.1)``.
        H: eigenvalues, above 0.
        B: batch size.
        T: iterations after the start.
        settle: iterations before the start; several times 1/(1 - μ) and 1/(1 - beta2).
        replicas: the number of replicas of each sign.
        seed: of the noise.

    Raises:
        ValueError: an eigenvalue is not above 0, or B or T is below its bound.
    """
    H, *_ = checked(H=H, B=B, T=T)
    if np.any(H <= 0):
        raise ValueError(f"H = {H[H <= 0][0]:g}, but has to be above 0: only a minimum pulls back")
    generator = torch.Generator().manual_seed(seed)
    curvature = torch.from_numpy(H)
    noise, start = (curvature / B).sqrt(), 0.15 / (B * curvature).sqrt()
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
    theta = torch.zeros(2, replicas, H.size, dtype=torch.float64)
    optimizer = make([theta])
    path = np.ones((T + 1, H.size))
    for t in range(1 - settle, T + 1):
        if t <= 1:
            theta.copy_(signs * start if t == 1 else torch.zeros(()))
        theta.grad = curvature * theta + noise * torch.randn(replicas, H.size, dtype=torch.float64, generator=generator)
        optimizer.step()
        if t > 0:
            path[t] = ((theta[0] - theta[1]) / (2 * start)).mean(0).numpy()
    return path
