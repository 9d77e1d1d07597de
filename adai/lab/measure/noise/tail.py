"""Tail index estimators: the α with which P(|X| > x) falls as x^−α."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Tail(NamedTuple):
    """An estimate of α and its standard error."""

    alpha: float
    se: float


def mohammadi(x: ArrayLike, *, block: int | None = None, seed: int | None = 0) -> float:
    """α of a symmetric stable law, as Simsekli et al. estimated it, from sums over blocks of K₁ values.

    A sum of K₁ independent stable values is K₁^{1/α} times as wide as one value:
    1/α̂ = [mean log|Σ block| − mean log|x|] / log K₁. For a Gaussian α = 2.

    Do not use it to show that values are *not* Gaussian: it assumes a stable law and derives α from the growth of sums.
    Independent values of finite variance but different scales (gradients of many parameters) give α below 2. The values
    must be centred and, above all, independent. Neighbouring parameters are not, so the values are shuffled first.
    Zeros are left out.

    Args:
        x: values.
        block: K₁; default the largest whole number up to √N. Values that do not fill a block are left out.
        seed: of the shuffling; None keeps the order, as Simsekli et al. did.

    Raises:
        ValueError: fewer than 4 values are not 0, or ``block`` is not from 2 to their number.

    Source: M. Mohammadi, A. Mohammadpour, H. Ogata, Metrika 78 (2015), Corollary 2.4; used in U. Simsekli, L. Sagun,
    M. Gurbuzbalaban, arXiv 1901.06053, section 4.
    """
    values = _nonzero(x)
    if seed is not None:
        values = np.random.default_rng(seed).permutation(values)
    K1 = math.isqrt(len(values)) if block is None else block
    if len(values) < 4 or not 2 <= K1 <= len(values):
        raise ValueError(f"{len(values)} values other than 0 in blocks of {K1}: needs at least 4, and blocks that fit")
    values = values[: len(values) // K1 * K1]
    sums = np.abs(values.reshape(-1, K1).sum(axis=1))
    grows = (np.mean(np.log(sums[sums > 0])) - np.mean(np.log(np.abs(values)))) / math.log(K1)
    return float(1 / grows)


def hill(x: ArrayLike, *, share: float = 0.05) -> Tail:
    """Hill's estimator: 1/α̂ = mean of log(|x|_(i) / |x|_(k+1)) over the k largest; standard error α̂/√k.

    Use it for laws whose tail is a power. A Gaussian has no such tail, and α̂ grows slowly without bound as the share
    gets smaller. For stable laws with α above 1.5, α̂ is far above α at any usual share, because the largest values are
    not yet in the power tail.

    Args:
        x: values; only their absolute values count.
        share: k / N.

    Raises:
        ValueError: the share is not in (0, 1), or contains fewer than 2 values.

    Source: B. Hill, Annals of Statistics 3 (1975).
    """
    sizes = np.sort(np.abs(_nonzero(x)))[::-1]
    k = int(share * len(sizes))
    if not 0 < share < 1 or k < 2:
        raise ValueError(f"share = {share:g} of {len(sizes)} values other than 0: needs one in (0, 1), 2 values in it")
    inverse = float(np.mean(np.log(sizes[:k] / sizes[k])))
    alpha = 1 / inverse if inverse > 0 else float("inf")
    return Tail(alpha, alpha / math.sqrt(k))


def _nonzero(x: ArrayLike) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.asarray(x, dtype=np.float64).ravel()
    kept: NDArray[np.float64] = values[values != 0]
    return kept
