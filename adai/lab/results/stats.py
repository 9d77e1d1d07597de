"""Means over seeds, and what a difference between two optimizers is worth."""

import statistics
from collections.abc import Sequence
from math import inf, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student_t

# Below this many seeds nothing is said about a difference.
MIN_SEEDS = 3

# From this many seeds on the interval is a bootstrap's too. With fewer there are too few resamples to take tails from.
BOOTSTRAP_SEEDS = 10
RESAMPLES = 9999

_Array = NDArray[np.float64]


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds; of a single seed the deviation is nan, of none both are."""

    mean: float
    sd: float


class Difference(NamedTuple):
    """Mean of the differences over shared seeds, with its interval and the number of seeds."""

    mean: float
    low: float
    high: float
    seeds: int

    @property
    def shown(self) -> bool:
        """Whether there are seeds enough and the interval leaves 0 out."""
        return self.seeds >= MIN_SEEDS and not self.low <= 0 <= self.high


class Correlation(NamedTuple):
    """Between two orders of the same things, with its 95 % interval, nan where there is none, and how many they are."""

    value: float
    low: float
    high: float
    number: int


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> Correlation:
    """Spearman's, with the interval of Fisher's z: tanh(artanh ρ ± 1.96 · sqrt((1 + ρ²/2) / (n − 3))).

    There is no interval below four things, nor where the orders are the same or the reverse of each other.

    Source: D. G. Bonett and T. A. Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations, Psychometrika 65 (2000), 23-28.
    """
    number = len(a)
    value = float(spearmanr(a, b).statistic) if number > 1 else nan
    if number < 4 or not abs(value) < 1 - 1e-9:  # 1 but for rounding
        return Correlation(value, nan, nan, number)
    z, half = np.arctanh(value), 1.96 * np.sqrt((1 + value**2 / 2) / (number - 3))
    return Correlation(value, float(np.tanh(z - half)), float(np.tanh(z + half)), number)


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of the values."""
    if not values:
        return Spread(nan, nan)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else nan)


def paired_difference(a: Sequence[float], b: Sequence[float], *, comparisons: int = 1) -> Difference:
    """Mean of a - b over the seeds that both lists hold in the same order, with a 95 % interval.

    Student's interval: mean ± t · sd / sqrt(n). From `BOOTSTRAP_SEEDS` seeds on, each end is the farther out of
    Student's and the studentised bootstrap's, which follows a skewed law. No interval that takes quantiles of resampled
    means can do with a handful of seeds: it lies between the least and the greatest difference, and with n seeds of two
    equal optimizers all differences have one sign in 2^(1-n) of all cases, 25 % at three. Where all differences are the
    same number other than 0, as coarse errors over few seeds can be, they tell nothing of their spread, and the
    interval is unbounded. ``benchmarks/intervals.py`` measures how often the interval holds.

    Args:
        a: one number a seed.
        b: the other optimizer's.
        comparisons: how many such intervals stand in one sentence; each is given the level 1 - 0.05 / comparisons
            (Bonferroni), so that all of them hold at once in at least 95 % of cases.

    Raises:
        ValueError: fewer than two pairs, or lists of different lengths.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12.
    """
    differences = np.array([x - y for x, y in zip(a, b, strict=True)], dtype=np.float64)
    n = differences.size
    if n < 2:
        raise ValueError(f"paired_difference needs at least 2 pairs, but got {n}")
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / n**0.5)
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():  # equal but for rounding
        return Difference(mean, -inf if mean else 0.0, inf if mean else 0.0, n)
    level = 1 - 0.05 / comparisons
    t = float(student_t.ppf((1 + level) / 2, n - 1))
    below, above = t, t
    if n >= BOOTSTRAP_SEEDS:
        low, high = _studentised(differences, level)
        below, above = max(t, high), max(t, -low)
    return Difference(mean, mean - below * error, mean + above * error, n)


def _studentised(differences: _Array, level: float) -> tuple[float, float]:
    """Quantiles of t* = (resample's mean - mean) / resample's standard error; the same at every call.

    Written out, because scipy.stats.bootstrap's own intervals are of the mean, and its spread of t* is nan where ties
    make a resample without spread. Such a resample is infinitely far out, or at the mean.
    """
    resamples = np.random.default_rng(0).choice(differences, (RESAMPLES, differences.size))
    shift = resamples.mean(axis=1) - differences.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(shift == 0, 0.0, shift / (resamples.std(axis=1, ddof=1) / differences.size**0.5))
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
