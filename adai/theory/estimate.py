"""Escape rates from measured escape times: estimators, exact intervals, censored runs, and checks of the assumptions.

With n escape times, and S the total time for which the replicas were observed, the rate Γ = 1/τ of an exponential law
is estimated by c/S; 2ΓS is χ² with 2n degrees of freedom. A replica that has not escaped when its run ends is censored:
it counts in S but not in n.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from adai.theory.bounds import Array, checked

Estimator = Literal["mle", "mvue", "paper"]
_LESS: dict[Estimator, int] = {"mle": 0, "mvue": 1, "paper": 2}


class Interval(NamedTuple):
    """An estimate between its bounds."""

    value: float
    low: float
    high: float


class Sample(NamedTuple):
    """The statistics of escape times: the number of escapes, and the total time observed."""

    escapes: int
    total: float


def sample(times: ArrayLike, censored: ArrayLike | None = None) -> Sample:
    """Count escapes and add up times.

    Args:
        times: when each replica escaped, or when its observation ended.
        censored: true for each replica that had not escaped by then.

    Raises:
        ValueError: there are no times, a time is not above 0, or the flags have another shape.
    """
    times = np.asarray(times, dtype=np.float64)
    flags = np.zeros(times.shape, bool) if censored is None else np.asarray(censored, dtype=bool)
    if times.ndim != 1 or not times.size or not np.all((times > 0) & np.isfinite(times)):
        raise ValueError("times has to be a list of finite numbers above 0 with at least one in it")
    if flags.shape != times.shape:
        raise ValueError(f"censored has {flags.size} flags for {times.size} times; give one for each")
    return Sample(int(np.sum(~flags)), float(np.sum(times)))


def rate(times: ArrayLike, censored: ArrayLike | None = None, estimator: Estimator = "mle") -> float:
    """Γ = c / S with c = n (mle), n - 1 (mvue: unbiased), n - 2 (paper, eq. 71: least mean squared error).

    These properties hold for runs without censoring. The rate is 0 if no replica escaped.

    Raises:
        ValueError: as `sample`; or there are too few escapes for the estimator.
    """
    escapes, total = sample(times, censored)
    if escapes and escapes <= _LESS[estimator]:
        raise ValueError(f"{escapes} escapes are too few for the estimator {estimator!r}; use 'mle'")
    return max(0, escapes - _LESS[estimator]) / total


def rate_interval(times: ArrayLike, censored: ArrayLike | None = None, level: float = 0.95) -> Interval:
    """Γ by maximum likelihood with the χ² interval [χ²_{α/2, 2n}, χ²_{1-α/2, 2n}] / (2S).

    It is exact for exponential times without censoring, and for runs stopped at the n-th escape. If runs are stopped at
    a fixed time, n is random, and the upper bound uses 2n + 2 degrees of freedom; the coverage is then at least the
    level. Without any escape it is [0, χ²_{1-α/2, 2} / (2S)].

    Do not use it if `coefficient_of_variation` is far from 1; use `bootstrap_mean`.
    """
    escapes, total = sample(times, censored)
    tail = _tail(level)
    replicas = np.asarray(times).size
    low = float(chi2.ppf(tail, 2 * escapes)) if escapes else 0.0
    high = float(chi2.ppf(1 - tail, 2 * escapes + (2 if escapes < replicas else 0)))
    return Interval(escapes / total, low / (2 * total), high / (2 * total))


def mean_interval(times: ArrayLike, censored: ArrayLike | None = None, level: float = 0.95) -> Interval:
    """τ = S / n with the exact interval: one over `rate_interval`; infinite if no replica escaped."""
    gamma, low, high = rate_interval(times, censored, level)
    return Interval(*(1 / x if x > 0 else float("inf") for x in (gamma, high, low)))


def rate_interval_printed(times: ArrayLike) -> Interval:
    """(n-2)/S (1 ± 1.96/sqrt(n)) (eqs. 71 and 72), 95 %: normal and symmetric; its coverage is 94.0 % at n = 100.

    Raises:
        ValueError: as `sample`; or there are fewer than 3 times.
    """
    estimate = rate(times, estimator="paper")
    half = 1.96 / np.sqrt(np.asarray(times).size)
    return Interval(estimate, float(estimate * (1 - half)), float(estimate * (1 + half)))


def bias(n: ArrayLike, estimator: Estimator) -> Array:
    """E[Γ̂] / Γ = c / (n - 1) of c / S, exponential times without censoring."""
    (n,) = checked(n=n)
    return (n - _LESS[estimator]) / (n - 1)


def rmse(n: ArrayLike, estimator: Estimator) -> Array:
    """sqrt(E[(Γ̂ - Γ)²]) / Γ of c / S: variance c² / ((n-1)²(n-2)), plus the bias squared. Least at c = n - 2."""
    ratio = bias(n, estimator)
    (n,) = checked(n=n)
    return np.asarray(np.sqrt(ratio**2 / (n - 2) + (ratio - 1) ** 2))


def coverage_printed(n: ArrayLike) -> Array:
    """The probability that eq. 72's interval contains Γ, from the Gamma distribution of ΓS with shape n."""
    (n,) = checked(n=n)
    half = 1.96 / np.sqrt(n)
    below, above = (2 * (n - 2) * (1 + sign * half) for sign in (1, -1))
    return np.asarray(chi2.cdf(below, 2 * n) - chi2.cdf(above, 2 * n))


def coefficient_of_variation(times: ArrayLike) -> float:
    """Sample standard deviation over mean: 1 for exponential times, less if transit or start-up take part of the time.

    All interval formulas above assume that it is near 1 (its own standard error is about 1/sqrt(n)). Without censoring.
    """
    times = np.asarray(times, dtype=np.float64)
    if sample(times).escapes < 2:
        raise ValueError("the coefficient of variation needs at least 2 times")
    return float(np.std(times, ddof=1) / np.mean(times))


def bootstrap_mean(
    times: ArrayLike, censored: ArrayLike | None = None, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """τ = S / n with the percentile interval over resampled replicas; it assumes no law. Infinite if none escaped."""
    sample(times, censored)  # raises the errors
    draws = _resampled_means(np.random.default_rng(seed), times, censored, resamples)
    escapes, total = sample(times, censored)
    low, high = np.quantile(draws, [_tail(level), 1 - _tail(level)], method="nearest")
    return Interval(total / escapes if escapes else float("inf"), float(low), float(high))


def bootstrap_ratio(
    times: ArrayLike,
    others: ArrayLike,
    censored: ArrayLike | None = None,
    others_censored: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """The ratio of two mean escape times, first over second, with the percentile interval."""
    rng = np.random.default_rng(seed)
    draws = _resampled_means(rng, times, censored, resamples) / _resampled_means(
        rng, others, others_censored, resamples
    )
    (n, S), (m, R) = sample(times, censored), sample(others, others_censored)
    if not n or not m:
        raise ValueError("a ratio of mean escape times needs an escape on both sides; observe for longer")
    low, high = np.quantile(draws, [_tail(level), 1 - _tail(level)])
    return Interval((S / n) / (R / m), float(low), float(high))


def r_squared(x: ArrayLike, y: ArrayLike) -> Array:
    """R² of a straight line through y (…, points) against x (points,): the squared correlation."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.size < 3 or y.shape[-1:] != x.shape:
        raise ValueError(f"R² needs at least 3 points, and as many x as y, but got shapes {x.shape} and {y.shape}")
    dx, dy = x - np.mean(x), y - np.mean(y, axis=-1, keepdims=True)
    return np.asarray(np.sum(dx * dy, axis=-1) ** 2 / (np.sum(dx**2) * np.sum(dy**2, axis=-1)))


class Fits(NamedTuple):
    """R² of log τ against two abscissae, and the first minus the second; each with its interval."""

    first: Interval
    second: Interval
    difference: Interval


def bootstrap_fits(
    times: Sequence[ArrayLike],
    first: ArrayLike,
    second: ArrayLike,
    censored: Sequence[ArrayLike] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Fits:
    """R² of log τ against two abscissae, such as 1/k and 1/sqrt(k), with replicas resampled at each point.

    Args:
        times: escape times at each point.
        first: the first abscissae.
        second: the second abscissae.
        censored: flags at each point.
        level: of the intervals.
        resamples: the number of resamples.
        seed: of the resampling.

    Raises:
        ValueError: as `sample` and `r_squared`; or no replica escaped at some point.
    """
    rng = np.random.default_rng(seed)
    flags = [None] * len(times) if censored is None else list(censored)
    samples = [sample(t, c) for t, c in zip(times, flags, strict=True)]
    if not all(s.escapes for s in samples):
        raise ValueError("no replica escaped at one of the points; observe for longer or leave the point out")
    measured = np.log([s.total / s.escapes for s in samples])
    draws = np.log(
        np.stack([_resampled_means(rng, t, c, resamples) for t, c in zip(times, flags, strict=True)], axis=-1)
    )
    draws = draws[np.all(np.isfinite(draws), axis=-1)]  # a resample without any escape gives no point on the line
    values = [(r_squared(x, measured), r_squared(x, draws)) for x in (first, second)]
    values.append((values[0][0] - values[1][0], values[0][1] - values[1][1]))
    ends = [np.quantile(drawn, [_tail(level), 1 - _tail(level)]) for _, drawn in values]
    return Fits(*(Interval(float(v), float(e[0]), float(e[1])) for (v, _), e in zip(values, ends, strict=True)))


def _tail(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level = {level:g}, but has to be in (0, 1)")
    return (1 - level) / 2


def _resampled_means(rng: np.random.Generator, times: ArrayLike, censored: ArrayLike | None, resamples: int) -> Array:
    """S / n of each resample; infinite if it has no escape. One resample at a time, to save memory."""
    times = np.asarray(times, dtype=np.float64)
    escaped = np.ones(times.shape, bool) if censored is None else ~np.asarray(censored, dtype=bool)
    means = np.empty(resamples)
    for i in range(resamples):
        chosen = rng.integers(times.size, size=times.size)
        escapes = np.count_nonzero(escaped[chosen])
        means[i] = times[chosen].sum() / escapes if escapes else np.inf
    return means
