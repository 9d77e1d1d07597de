"""Means over seeds, and what a difference between two optimizers is worth."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy.stats import t as student_t


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds; the deviation of a single seed is nan."""

    mean: float
    sd: float


class Difference(NamedTuple):
    """Mean of the differences over shared seeds, with a 95 % interval."""

    mean: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of the values."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan"))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Mean of a - b over the seeds that both lists hold in the same order, with Student's t interval.

    The interval takes the differences to be Gaussian, and is wide with few seeds: the factor on the standard error is
    4.3 with three.

    Raises:
        ValueError: fewer than two pairs, or lists of different lengths.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if len(differences) < 2:
        raise ValueError(f"paired_difference needs at least 2 pairs, but got {len(differences)}")
    mean, sd = spread(differences)
    half = float(student_t.ppf(0.975, len(differences) - 1)) * sd / len(differences) ** 0.5
    return Difference(mean, mean - half, mean + half)
