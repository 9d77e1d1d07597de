"""Symmetric Lévy-stable laws: fit, density and random values."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import levy_stable

Array = NDArray[np.float64]

_T = np.linspace(0.1, 1.0, 10)  # the t at which |φ| is evaluated, in units of 1/scale


class Stable(NamedTuple):
    """A symmetric stable law, φ(t) = exp(i location t − |scale t|^α): Gaussian of variance 2 scale² for α = 2."""

    alpha: float
    location: float
    scale: float

    def density(self, x: ArrayLike) -> Array:
        """The density at x, by scipy's quadrature: about a millisecond for each x."""
        result: Array = levy_stable.pdf(np.asarray(x), self.alpha, 0, loc=self.location, scale=self.scale)
        return result

    def draw(self, count: int, seed: int = 0) -> Array:
        """Random values."""
        rng = np.random.default_rng(seed)
        result: Array = levy_stable.rvs(
            self.alpha, 0, loc=self.location, scale=self.scale, size=count, random_state=rng
        )
        return result


def fit_stable(x: ArrayLike, *, rounds: int = 5) -> Stable:
    """The symmetric stable law closest to the values, by their characteristic function.

    −log|φ(t)| = scale^α |t|^α, so log(−log|φ̂(t)|) is a straight line in log t with slope α. It is fitted by least
    squares over ten t from 0.1 to 1 in units of 1/scale. Each round uses the scale of the round before; the first scale
    comes from the quartiles. |φ| does not depend on location or skewness: the location is the median, and the skewness
    is assumed to be 0. This is fast; scipy's likelihood takes minutes.

    The fit assumes a stable law: do not take α < 2 as evidence against a finite variance.

    Args:
        x: values, with an interquartile range above 0.
        rounds: the number of rounds.

    Raises:
        ValueError: there are fewer than 10 values, or the quartiles are equal.

    Source: I. Koutrouvelis, JASA 75 (1980); the ten points of S. Kogon, D. Williams, Characteristic Function Based
    Estimation of Stable Distribution Parameters, in A Practical Guide to Heavy Tails, Birkhäuser 1998.
    """
    values = np.asarray(x, dtype=np.float64).ravel()
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else (0.0, 0.0, 0.0)
    if len(values) < 10 or not high > low:
        raise ValueError(
            f"{len(values)} values with quartiles {low:g} and {high:g}: at least 10 values and different quartiles are "
            "needed"
        )
    centred, scale, alpha = values - middle, float(high - low) / 2, 2.0
    for _ in range(rounds):
        size = np.abs(_characteristic(centred / scale))
        slope, intercept = np.polyfit(np.log(_T), np.log(-np.log(np.minimum(size, 1 - 1e-12))), 1)
        alpha = float(np.clip(slope, 0.1, 2.0))
        scale *= float(np.exp(intercept / alpha))
    return Stable(alpha, float(middle), scale)


def _characteristic(x: Array) -> Array:
    """φ̂ at the ten points, computed from a million values at a time."""
    total = np.zeros(len(_T), dtype=np.complex128)
    for part in np.array_split(x, max(1, len(x) // 10**6)):
        total += np.exp(1j * np.outer(_T, part)).sum(axis=1)
    return np.asarray(total / len(x))
