"""Rates from escape times: known numbers, coverage by Monte Carlo, censoring, bootstrap."""

import re

import numpy as np
import pytest

from adai.theory import estimate
from tests.tolerance import approx

TIMES = np.arange(1.0, 101.0)


def test_a_hundred_times_from_1_to_100():
    assert estimate.rate(TIMES, estimator="paper") == approx(0.0194059, abs=5e-8)
    assert estimate.rate(TIMES, estimator="mvue") == approx(99 / 5050, rel=1e-14)
    assert estimate.rate(TIMES) == approx(100 / 5050, rel=1e-14)
    printed, exact = estimate.rate_interval_printed(TIMES), estimate.rate_interval(TIMES)
    np.testing.assert_allclose(printed[1:], [0.0156024, 0.0232095], atol=5e-8)
    np.testing.assert_allclose(exact[1:], [0.0161117, 0.0238671], atol=5e-8)
    np.testing.assert_allclose(np.array(exact[1:]) * 5050, [81.3640, 120.529], rtol=5e-6)
    tau = estimate.mean_interval(TIMES)
    np.testing.assert_allclose(tau, [1 / exact.value, 1 / exact.high, 1 / exact.low], rtol=1e-14)


@pytest.mark.parametrize(
    ("estimator", "bias", "rmse"), [("mle", 1.01010, 0.102534), ("mvue", 1, 0.101015), ("paper", 0.989899, 0.100504)]
)
def test_bias_and_error_of_the_estimators(estimator, bias, rmse):
    assert estimate.bias(100, estimator) == approx(bias, abs=5e-6)
    assert estimate.rmse(100, estimator) == approx(rmse, abs=5e-7)
    runs = np.random.default_rng(0).exponential(size=(20000, 100))
    rates = (100 - {"mle": 0, "mvue": 1, "paper": 2}[estimator]) / runs.sum(axis=1)
    assert np.mean(rates) == approx(bias, abs=4 * rmse / np.sqrt(20000))
    assert rates[0] == approx(estimate.rate(runs[0], estimator=estimator), rel=1e-12)


@pytest.mark.parametrize(("n", "coverage"), [(10, 0.830207), (30, 0.914955), (100, 0.939973), (1000, 0.949019)])
def test_the_printed_interval_covers_less_than_95_percent(n, coverage):
    assert estimate.coverage_printed(n) == approx(coverage, abs=5e-7)


def test_coverage_by_monte_carlo():
    """Rate 1: the exact interval covers 95 %, the printed one what coverage_printed says; 4 standard errors."""
    runs = np.random.default_rng(0).exponential(size=(4000, 30))
    for interval, expected in (
        (estimate.rate_interval, 0.95),
        (estimate.rate_interval_printed, float(estimate.coverage_printed(30))),
    ):
        covered = np.mean([low <= 1 <= high for _, low, high in map(interval, runs)])
        assert covered == approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize("cap", [0.1, 0.7, 2.0])
def test_censored_runs_stay_honest(cap):
    """The rate is not that of the escapes alone, and the interval covers at least 95 % whatever the cap."""
    runs = np.random.default_rng(1).exponential(size=(4000, 30))
    watched, censored = np.minimum(runs, cap), runs > cap
    pairs = list(zip(watched, censored, strict=True))
    covered = np.mean([i.low <= 1 <= i.high for i in (estimate.rate_interval(t, c) for t, c in pairs)])
    assert covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 4000)
    together = estimate.rate(watched.ravel(), censored.ravel())
    escapes = np.sum(~censored)
    assert together == approx(1, abs=4 / np.sqrt(escapes))
    assert 1 / np.mean(watched[~censored]) > 1.3  # averaging the escapes alone would be wrong


def test_nobody_escaped():
    gamma = estimate.rate_interval([5.0, 5.0], [True, True])
    assert gamma.value == gamma.low == 0
    assert gamma.high == approx(-2 * np.log(0.025) / 20, rel=1e-12)  # χ² with two degrees: exponential
    assert estimate.mean_interval([5.0, 5.0], [True, True]) == (np.inf, 1 / gamma.high, np.inf)
    assert estimate.rate([5.0], [True], "paper") == 0
    assert estimate.bootstrap_mean([5.0, 5.0], [True, True]) == (np.inf, np.inf, np.inf)


def test_the_coefficient_of_variation():
    rng = np.random.default_rng(0)
    assert estimate.coefficient_of_variation(rng.exponential(3.0, 40000)) == approx(1, abs=4 / np.sqrt(40000))
    assert estimate.coefficient_of_variation([1.0, 3.0]) == approx(np.sqrt(2) / 2, rel=1e-14)


def test_bootstrap_of_a_mean_and_a_ratio_against_theory():
    """Exponential times: the standard error of a mean is 1/sqrt(n), of a log ratio sqrt(2/n)."""
    rng = np.random.default_rng(0)
    times, others = rng.exponential(50.0, 1000), rng.exponential(40.0, 1000)
    mean = estimate.bootstrap_mean(times)
    assert mean.value == times.mean()
    assert (mean.high - mean.low) / mean.value == approx(2 * 1.96 / np.sqrt(1000), rel=0.1)
    ratio = estimate.bootstrap_ratio(times, others)
    assert ratio.value == approx(times.mean() / others.mean(), rel=1e-14)
    assert np.log(ratio.high / ratio.low) == approx(2 * 1.96 * np.sqrt(2 / 1000), rel=0.1)
    assert ratio.low < 1.25 < ratio.high


def test_bootstrap_is_reproducible_and_counts_censored_replicas():
    times, censored = np.minimum(TIMES, 60), TIMES > 60
    first = estimate.bootstrap_mean(times, censored, seed=3)
    assert first == estimate.bootstrap_mean(times, censored, seed=3)
    assert first != estimate.bootstrap_mean(times, censored, seed=4)
    assert first.value == approx(times.sum() / 60, rel=1e-14)
    assert first.low < first.value < first.high


def test_r_squared_is_the_squared_correlation():
    x, y = np.random.default_rng(0).standard_normal((2, 9))
    assert estimate.r_squared(x, y) == approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-12)
    np.testing.assert_allclose(estimate.r_squared(x, np.stack([y, 2 * x + 1]))[1], 1, rtol=1e-14)


def test_fits_tell_the_right_abscissa():
    """log τ = 6/k: the line in 1/k fits better than in 1/sqrt(k), and the interval of the difference says so."""
    rng = np.random.default_rng(0)
    k = np.linspace(0.8, 2, 8)
    times = [rng.exponential(np.exp(6 / x), 1000) for x in k]
    caps = [np.quantile(t, 0.95) for t in times]
    fits = estimate.bootstrap_fits(
        [np.minimum(t, c) for t, c in zip(times, caps, strict=True)],
        1 / k,
        1 / np.sqrt(k),
        [t > c for t, c in zip(times, caps, strict=True)],
        resamples=500,
    )
    assert 0.99 < fits.first.low < fits.first.high <= 1
    assert fits.difference.value == approx(fits.first.value - fits.second.value, rel=1e-12)
    assert fits.difference.low > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimate.rate([]), "times has to be a list of finite numbers above 0"),
        (lambda: estimate.rate([1.0, 0.0]), "times has to be a list of finite numbers above 0"),
        (lambda: estimate.rate([1.0, np.nan]), "times has to be a list of finite numbers above 0"),
        (lambda: estimate.rate([1.0], [True, False]), "censored has 2 flags for 1 times"),
        (lambda: estimate.rate([1.0, 2.0], estimator="paper"), "2 escapes are too few for the estimator 'paper'"),
        (lambda: estimate.rate_interval([1.0], level=1), "level = 1, but has to be in (0, 1)"),
        (lambda: estimate.coverage_printed(2), "n = 2, but has to be 3 or above"),
        (lambda: estimate.coefficient_of_variation([1.0]), "needs at least 2 times"),
        (lambda: estimate.r_squared([1, 2], [1, 2]), "R² needs at least 3 points"),
        (lambda: estimate.bootstrap_fits([[1.0], [1.0]], [1, 2], [1, 2], [[True], [False]]), "no replica escaped"),
        (lambda: estimate.bootstrap_ratio([1.0], [1.0], [True]), "needs an escape on both sides"),
    ],
)
def test_what_cannot_be_estimated_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
