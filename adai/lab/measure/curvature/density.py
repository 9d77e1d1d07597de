"""The density of the Hessian's eigenvalues."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from adai.lab.measure.objective import Objective

Array = NDArray[np.float64]


class Quadrature(NamedTuple):
    """Nodes and weights (probes, steps): Σ w f(node), averaged over probes, estimates the mean of f over eigenvalues.

    A row may have fewer nodes if Lanczos found all eigenvalues; it is filled up with nodes of weight 0.
    """

    nodes: Array
    weights: Array

    def moment(self, power: int) -> tuple[float, float]:
        """tr H^power / size, the mean over all eigenvalues, with its standard error over probes (nan for one)."""
        each = np.sum(self.weights * self.nodes**power, axis=1)
        se = float(np.std(each, ddof=1) / len(each) ** 0.5) if len(each) > 1 else float("nan")
        return float(np.mean(each)), se

    def density(self, at: Array, width: float) -> tuple[Array, Array]:
        """The density at these eigenvalues, with a Gaussian of this width for each node; and its standard error."""
        z = (at - self.nodes[..., None]) / width
        each = np.sum(self.weights[..., None] * np.exp(-0.5 * z**2), axis=1) / (width * np.sqrt(2 * np.pi))
        se = np.std(each, axis=0, ddof=1) / len(each) ** 0.5 if len(each) > 1 else np.full_like(at, np.nan)
        return np.mean(each, axis=0), se

    def grid(self, points: int = 1000) -> tuple[Array, float]:
        """Eigenvalues over the whole range with a margin, and a width to draw with: 1/100 of the range."""
        low, high = float(self.nodes.min()), float(self.nodes.max())
        width = max((high - low) / 100, 1e-6 * max(abs(low), abs(high)), 1e-12)
        return np.linspace(low - 5 * width, high + 5 * width, points), width


def lanczos_quadrature(
    objective: Objective,
    *,
    steps: int = 40,
    probes: int = 5,
    seed: int = 0,
    progress: Callable[[int], None] = lambda products: None,
) -> Quadrature:
    """Stochastic Lanczos quadrature: Lanczos from random unit vectors; Ritz values, weighted by squared first entries.

    Use it for the shape of the bulk and for outliers; moments up to order 2 steps − 1 are exact for each probe. Do not
    use it for single eigenvalues within the bulk. It computes steps × probes products and keeps the same number of
    vectors in memory, fully reorthogonalised.

    Args:
        objective: the loss.
        steps: the number of steps of Lanczos, at most the number of parameters; more steps give a finer resolution.
        probes: the number of random vectors; more probes give a smaller standard error.
        seed: of the vectors.
        progress: called with the number of products just computed.

    Source: S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 38 (2017); for nets B. Ghorbani, S. Krishnan,
    Y. Xiao, arXiv 1901.10159, and V. Papyan, arXiv 1811.07062.
    """
    steps = min(steps, objective.size)
    generator = torch.Generator().manual_seed(seed)
    starts = [torch.randn(objective.size, generator=generator, dtype=torch.float64) for _ in range(probes)]
    lines = [_Lanczos(start.to(objective.theta), steps) for start in starts]
    for _ in range(steps):
        going = [line for line in lines if not line.over]
        if going:  # all at once, because the products share the forward pass through the model
            for line, w in zip(going, objective.hvp(torch.stack([line.v for line in going])), strict=True):
                line.go_on(w)
        progress(probes)
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    for probe, line in enumerate(lines):
        values, vectors = eigh_tridiagonal(line.diagonal, line.off)
        nodes[probe] = values[0]  # fill with a value within the range
        nodes[probe, : len(values)], weights[probe, : len(values)] = values, vectors[0] ** 2
    return Quadrature(nodes, weights)


class _Lanczos:
    """Builds the diagonals of a tridiagonal matrix of at most ``steps`` rows from products H v with each ``v``."""

    def __init__(self, start: Tensor, steps: int) -> None:
        self.v = start / start.norm()
        self.over = False
        self.diagonal: list[float] = []
        self.off: list[float] = []
        self._basis = torch.zeros(steps, start.numel()).to(start)

    def go_on(self, w: Tensor) -> None:
        """Add w = H v and compute the next ``v``."""
        step = len(self.diagonal)
        self._basis[step] = self.v
        self.diagonal.append(float(w @ self.v))
        for _ in range(2):  # in floating point, one orthogonalisation is not enough, but two are
            w = w - self._basis[: step + 1].T @ (self._basis[: step + 1] @ w)
        norm = float(w.norm())
        largest = max(map(abs, self.diagonal + self.off))
        if step + 1 == len(self._basis) or norm <= 100 * torch.finfo(w.dtype).eps * largest:
            self.over = True  # the basis is complete or spans an invariant subspace
            return
        self.off.append(norm)
        self.v = w / norm
