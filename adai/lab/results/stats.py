"""Means over seeds, and differences between two optimizers with their intervals."""

import statistics
from collections.abc import Sequence
from math import inf, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from scipy.stats import t as student_t

# With fewer seeds there is no verdict on a difference.
MIN_SEEDS = 3

# From this number of seeds on, the interval also takes a bootstrap into account. With fewer seeds there are too few
# different resamples for the tails.
BOOTSTRAP_SEEDS = 10
RESAMPLES = 9999

_Array = NDArray[np.float64]


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds. With one seed the deviation is nan, without seeds both are."""

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
        """Whether there are at least `MIN_SEEDS` seeds and the interval does not contain 0."""
        return self.seeds >= MIN_SEEDS and not self.low <= 0 <= self.high


class Correlation(NamedTuple):
    """A rank correlation with its 95 % interval, which is nan if there is none, and the number of things."""

    value: float
    low: float
    high: float
    number: int


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> Correlation:
    """Spearman's rank correlation, with the interval of Fisher's z: tanh(artanh ρ ± 1.96 · sqrt((1 + ρ²/2) / (n − 3))).

    There is no interval for fewer than four things, or if the two orders are equal or the reverse of each other.

    Args:
        a: a number for each thing.
        b: another number for each, in the same order.

    Source: D. G. Bonett and T. A. Wright, Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations, Psychometrika 65 (2000), 23-28.
    """
    number = len(a)
    value = float(spearmanr(a, b).statistic) if number > 1 else nan
    if number < 4 or not abs(value) < 1 - 1e-9:  # |ρ| = 1 up to rounding
        return Correlation(value, nan, nan, number)
    z, half = np.arctanh(value), 1.96 * np.sqrt((1 + value**2 / 2) / (number - 3))
    return Correlation(value, float(np.tanh(z - half)), float(np.tanh(z + half)), number)


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of the values."""
    if not values:
        return Spread(nan, nan)
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else nan)


def paired_difference(a: Sequence[float], b: Sequence[float], *, comparisons: int = 1) -> Difference:
    """The mean of a - b over seeds, with a 95 % interval.

    Student's interval: mean ± t · sd / sqrt(n). From `BOOTSTRAP_SEEDS` seeds on, each end is the outer one of Student's
    interval and the studentised bootstrap's, which adapts to a skewed distribution.

    Quantiles of resampled means are not used, because they fail with few seeds: they lie between the smallest and the
    largest difference, and n differences of two equal optimizers all have the same sign with probability 2^(1-n), which
    is 25 % for three seeds. If all differences are the same number other than 0, which happens with coarse errors and
    few seeds, their spread is unknown and the interval is unbounded. ``benchmarks/intervals.py`` measures how often the
    interval contains the true difference.

    Args:
        a: a number for each seed.
        b: the other optimizer's number for each seed, in the same order.
        comparisons: the number of such intervals in one sentence. Each has the level 1 - 0.05 / comparisons
            (Bonferroni), so that all of them hold at once in at least 95 % of cases.

    Raises:
        ValueError: there are fewer than two pairs, or the lists have different lengths.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12.
    """
    differences = np.array([x - y for x, y in zip(a, b, strict=True)], dtype=np.float64)
    n = differences.size
    if n < 2:
        raise ValueError(f"paired_difference needs at least 2 pairs, but got {n}")
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / n**0.5)
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():  # equal up to rounding
        return Difference(mean, -inf if mean else 0.0, inf if mean else 0.0, n)
    level = 1 - 0.05 / comparisons
    t = float(student_t.ppf((1 + level) / 2, n - 1))
    below, above = t, t
    if n >= BOOTSTRAP_SEEDS:
        low, high = _studentised(differences, level)
        below, above = max(t, high), max(t, -low)
    return Difference(mean, mean - below * error, mean + above * error, n)


def _studentised(differences: _Array, level: float) -> tuple[float, float]:
    """Quantiles of t* = (resample's mean - mean) / resample's standard error; the same in every call.

    scipy.stats.bootstrap is not used: its intervals are for the mean, and its t* is nan if all values of a resample are
    equal. Here t* is then infinite, or 0 if the resample has the same mean.
    """
    resamples = np.random.default_rng(0).choice(differences, (RESAMPLES, differences.size))
    shift = resamples.mean(axis=1) - differences.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(shift == 0, 0.0, shift / (resamples.std(axis=1, ddof=1) / differences.size**0.5))
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
