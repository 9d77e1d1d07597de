"""Statistics over several tasks: performance profiles, mean ranks, and steps to a target.

All of them take a number for each task, optimizer and seed. Lower is better, and ``inf`` means that a run died or did
not reach the target.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]
Scores = Mapping[str, Mapping[str, Mapping[int, float]]]
"""The numbers by task, optimizer and seed."""

RESAMPLES = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


class Profile(NamedTuple):
    """The performance profile of an optimizer: the share of tasks on which it is within a factor of the best.

    Attributes:
        factors: τ, at least 1.
        share: ρ(τ), between 0 and 1.
        low: the lower end of its 95 % bootstrap band.
        high: the upper end of the band.
    """

    factors: Array
    share: Array
    low: Array
    high: Array


def typical(values: Sequence[float]) -> float:
    """The median over seeds; inf if at least half of the runs died. A mean would be inf for a single dead run."""
    return float(np.median(values)) if len(values) else math.inf


def ratios(scores: Scores, middle: Callable[[Sequence[float]], float] = typical) -> dict[str, dict[str, float]]:
    """The factor by which each optimizer is worse than the best one on the task, by task and optimizer.

    It is inf if the optimizer's number is inf, also if this holds for all optimizers of the task.

    Args:
        scores: the numbers.
        middle: the function that gives one number for the seeds of an optimizer.
    """
    found = {}
    for task, of in scores.items():
        middles = {name: middle(list(values.values())) for name, values in of.items()}
        best = min(middles.values(), default=math.inf)
        found[task] = {name: _ratio(value, best) for name, value in middles.items()}
    return found


def _ratio(value: float, best: float) -> float:
    if math.isinf(value):
        return math.inf
    if best <= 0:
        return 1.0 if value == best else math.inf
    return value / best


def profiles(scores: Scores, factors: Sequence[float]) -> dict[str, Profile]:
    """The performance profile of each optimizer, with a band from resampled seeds.

    ρ(τ) = (number of tasks with value ≤ τ · best) / (number of tasks). The band shows how much the profile depends on
    the seeds, not how much it depends on the choice of tasks.

    Args:
        scores: positive numbers.
        factors: τ, each at least 1.

    Source: Dolan and Moré, Benchmarking optimization software with performance profiles, Math. Program. 91 (2002).
    """
    names = _names(scores)
    at = np.asarray(factors, dtype=np.float64)
    drawn = np.array([_shares(ratios(again), names, at) for again in _resampled(scores)])
    low, high = _quantiles(drawn)
    share = _shares(ratios(scores), names, at)
    return {name: Profile(at, share[i], low[i], high[i]) for i, name in enumerate(names)}


def _shares(found: Mapping[str, Mapping[str, float]], names: Sequence[str], factors: Array) -> Array:
    """ρ as (optimizers, factors)."""
    table = np.array([[of.get(name, math.inf) for name in names] for of in found.values()])
    within = table[:, :, None] <= factors * (1 + 1e-12)
    shares: Array = within.mean(axis=0)
    return shares


def mean_ranks(scores: Scores) -> dict[str, Interval]:
    """The mean rank of each optimizer over the tasks, with a bootstrap interval over seeds. The best has rank 1.

    Equal optimizers share the mean of their ranks. A rank does not show how far two optimizers are apart, and depends
    on which optimizers take part: read it together with the differences.
    """
    names = _names(scores)
    drawn = np.array([_ranks(again, names) for again in _resampled(scores)])
    low, high = _quantiles(drawn)
    ranks = _ranks(scores, names)
    return {name: Interval(float(ranks[i]), float(low[i]), float(high[i])) for i, name in enumerate(names)}


def _ranks(scores: Scores, names: Sequence[str]) -> Array:
    places = [rankdata([typical(list(of.get(name, {}).values())) for name in names]) for of in scores.values()]
    means: Array = np.mean(places, axis=0)
    return means


def _names(scores: Scores) -> list[str]:
    return list(dict.fromkeys(name for of in scores.values() for name in of))


def _resampled(scores: Scores) -> list[Scores]:
    """The scores of resampled seeds, the same in every call. The optimizers of a task share the resampled seeds.

    A run that is missing leaves a gap. An optimizer that has none of the seeds drawn keeps all its runs.
    """
    random = np.random.default_rng(0)
    drawn: list[Scores] = []
    for _ in range(RESAMPLES):
        again: dict[str, Mapping[str, Mapping[int, float]]] = {}
        for task, of in scores.items():
            seeds = sorted({seed for values in of.values() for seed in values})
            chosen = [seeds[place] for place in random.integers(0, max(len(seeds), 1), len(seeds))]
            again[task] = {
                name: {i: values[seed] for i, seed in enumerate(chosen) if seed in values} or values
                for name, values in of.items()
            }
        drawn.append(again)
    return drawn


def _quantiles(drawn: Array) -> tuple[Array, Array]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="inverted_cdf")
    return low, high


def first_at(values: Sequence[float], target: float, *, lower_is_better: bool = True) -> int | None:
    """The first epoch, counted from 1, whose value is at least as good as the target; None if there is none."""
    for epoch, value in enumerate(values, start=1):
        if value <= target if lower_is_better else value >= target:
            return epoch
    return None
