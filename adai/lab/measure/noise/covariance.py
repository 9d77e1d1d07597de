"""The exact covariance of minibatch gradient noise, and eq. 5: is it the Hessian over the batch size?"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adai.lab.measure.objective import Objective, Progress, silent
from adai.theory.estimate import Interval

Array = NDArray[np.float64]


def batch_factor(B: int, n: int, *, replacement: bool = False) -> float:
    """The covariance of the mean gradient over a minibatch of B out of n, divided by that of one sample's gradient.

    It is 1/B with replacement and (1/B) (n − B)/(n − 1) without, which is 0 for the whole data. The n samples are the
    whole population, so C₁ = (1/n) Σ (g_i − ∇L)(g_i − ∇L)ᵀ is exact, with n and not n − 1.

    Raises:
        ValueError: B is not from 1 to n.
    """
    if not 1 <= B <= n:
        raise ValueError(f"B = {B}, but has to be from 1 to the number of samples, {n}")
    return 1 / B if replacement or n == 1 else (n - B) / (n - 1) / B


def noise_covariance(
    objective: Objective, basis: Tensor | None = None, *, progress: Callable[[int], None] = lambda samples: None
) -> Tensor:
    """C₁ = (1/n) Σ (g_i − ∇L)(g_i − ∇L)ᵀ over the n samples' gradients, centred; or UᵀC₁U.

    C for minibatches of B is C₁ times `batch_factor`. It is not the Fisher matrix, nor the second moment (1/n) Σ g gᵀ,
    which is C₁ plus ∇L ∇Lᵀ. It has the precision of the objective: use float64 to compare it with a formula.

    Args:
        objective: the loss, without batch statistics.
        basis: U (size, k); default the unit basis, for which C₁ is (size, size).
        progress: called with the number of samples just done.
    """
    mean = objective.gradient()
    k = objective.size if basis is None else basis.shape[1]
    C = torch.zeros(k, k).to(objective.theta)
    for gradients in objective.sample_gradients():
        noise = gradients - mean
        seen = noise if basis is None else noise @ basis
        C.addmm_(seen.T, seen, alpha=1 / objective.samples)
        progress(len(gradients))
    return C


class Directions(NamedTuple):
    """Curvature and noise along unit directions u_i: uᵢᵀHuᵢ, uᵢᵀC₁uᵢ, and how much of C₁ is off the diagonal.

    Args:
        H: (k,); eigenvalues if ``exact``.
        C: (k,).
        off_diagonal: Frobenius norm of C₁ off the diagonal over that of all of C₁ in this basis; 0 if C₁ and H commute.
        correlation: root mean square of C_ij / √(C_ii C_jj) off the diagonal. It measures the same with equal weight
            for every direction, and is about 1/√samples for independent directions.
        exact: true if the directions are all eigenvectors of H, False if they are some eigenvectors and random ones.
        kind: ``eigenvector`` or ``random``, for each direction.
        samples: n, the number of samples that H and C₁ were computed from.
    """

    H: Array
    C: Array
    off_diagonal: float
    correlation: float
    exact: bool
    kind: tuple[str, ...]
    samples: int

    def within(self, low: float, high: float) -> NDArray[np.bool_]:
        """Which directions have H from low to high."""
        curvature = self.H
        return np.asarray((curvature >= low) & (curvature <= high))


def eigenbasis(
    objective: Objective,
    *,
    progress: Progress = silent,
) -> Directions:
    """H and C₁ along every eigenvector of H: for nets of up to about 8,000 parameters, in float64.

    It computes the whole H. For 8,000 parameters this takes minutes, and 0.5 GB each for H, its eigenvectors, C₁ and
    work space.

    Args:
        objective: the loss.
        progress: called with the name of the work, the units just done, and their total.
    """
    H = objective.hessian(lambda columns: progress("Hessian", columns, objective.size))
    progress("eigenvectors", 0, 1)
    values, U = torch.linalg.eigh(H)
    progress("eigenvectors", 1, 1)
    del H
    C = noise_covariance(objective, U, progress=lambda samples: progress("covariance", samples, objective.samples))
    return _directions(values, C, ("eigenvector",) * objective.size, exact=True, samples=objective.samples)


def projected(
    objective: Objective,
    vectors: Tensor,
    random: int = 50,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> Directions:
    """H and C₁ along given eigenvectors and along random directions orthogonal to them: for nets of any size.

    Along a random direction uᵀHu is a mean over all eigenvalues: it shows the whole bulk, not single flat directions.

    Args:
        objective: the loss.
        vectors: (size, k), orthonormal eigenvectors, for example of the eigenvalues with the largest magnitude.
        random: the largest number of random directions.
        seed: of the random directions.
        progress: called with the name of the work, the units just done, and their total.
    """
    random = min(random, objective.size - vectors.shape[1])
    generator = torch.Generator().manual_seed(seed)
    R = torch.randn(objective.size, random, generator=generator, dtype=torch.float64).to(vectors)
    U = torch.linalg.qr(torch.cat([vectors, R], dim=1)).Q
    H = []
    for u in U.T:
        H.append(u @ objective.hvp(u))
        progress("products", 1, U.shape[1])
    C = noise_covariance(objective, U, progress=lambda samples: progress("covariance", samples, objective.samples))
    kind = ("eigenvector",) * vectors.shape[1] + ("random",) * random
    return _directions(torch.stack(H), C, kind, exact=False, samples=objective.samples)


def _directions(H: Tensor, C: Tensor, kind: tuple[str, ...], *, exact: bool, samples: int) -> Directions:
    C = C.double()
    diagonal = C.diagonal().clone()
    whole = C.norm()
    off = (C - torch.diag(diagonal)).norm() / whole if whole > 0 else whole
    root = diagonal.sqrt().clamp_min(torch.finfo(C.dtype).tiny)
    correlations = C.div_(root).div_(root[:, None]).fill_diagonal_(0)
    count = max(1, len(C) * (len(C) - 1))
    rms = float(correlations.square().sum().div(count).sqrt())
    H64: Array = H.double().cpu().numpy()
    return Directions(H64, diagonal.cpu().numpy(), float(off), rms, exact, kind, samples)


class Eq5(NamedTuple):
    """How well C = [H]⁺/B holds over the directions with H in a range.

    Args:
        B: batch size.
        directions: the number of directions in the range.
        slope: of log C against log H, least squares: 1 if C is proportional to H.
        correlation: of log C and log H.
        factor: geometric mean of B C / H: 1 if C = H/B.
    """

    B: int
    directions: int
    slope: Interval
    correlation: Interval
    factor: Interval


LOW, HIGH = 1e-4, 0.5  # the range of H that the paper shows


def eq5(
    directions: Directions,
    B: int,
    *,
    low: float = LOW,
    high: float = HIGH,
    resamples: int = 2000,
    seed: int = 0,
) -> Eq5 | None:
    """Slope, correlation and factor of eq. 5, 95 % percentile intervals over resampled directions.

    The intervals show how well the directions agree with each other, for these data and this θ. They do not cover other
    data or seeds, and eigenvectors of one matrix are not independent draws.

    Args:
        directions: H and C₁.
        B: batch size; minibatches are drawn without replacement.
        low: the smallest H to use, above 0.
        high: the largest H to use.
        resamples: the number of resamples.
        seed: of the resampling.

    Returns:
        None if fewer than 3 directions are in the range.
    """
    C = directions.C * batch_factor(B, directions.samples)
    kept = directions.within(low, high) & (C > 0)
    x, y = np.log(directions.H[kept]), np.log(C[kept])
    if len(x) < 3:
        return None
    rng = np.random.default_rng(seed)
    draws = np.array([_line(x[i], y[i], B) for i in rng.integers(len(x), size=(resamples, len(x)))])
    ends = np.nanquantile(draws, [0.025, 0.975], axis=0).T
    intervals: Sequence[Interval] = [
        Interval(value, float(a), float(b)) for value, (a, b) in zip(_line(x, y, B), ends, strict=True)
    ]
    return Eq5(B, len(x), *intervals)


def _line(x: Array, y: Array, B: int) -> tuple[float, float, float]:
    """Slope, correlation, and geometric mean of B e^y / e^x; nan without spread."""
    dx, dy = x - x.mean(), y - y.mean()
    xx, xy, yy = float(dx @ dx), float(dx @ dy), float(dy @ dy)
    slope = xy / xx if xx > 0 else float("nan")
    correlation = xy / (xx * yy) ** 0.5 if xx > 0 and yy > 0 else float("nan")
    return slope, correlation, float(B * np.exp(np.mean(y - x)))
