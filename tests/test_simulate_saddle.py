"""Displacement at a saddle against the exact recursions."""

import numpy as np
import pytest

from adai.report import saddle as report
from adai.simulate import rules
from adai.simulate.escape import replica_seeds
from adai.simulate.saddle import displacements
from adai.theory import exact

H = np.array([-1.0, -0.01, 0.01, 1.0])
REPLICAS = 4000


def run(rule, settle, H=H):
    return displacements(rule, H, replica_seeds(0, "test", 0, REPLICAS), B=1.0, T=60, settle=settle, coast=settle)


def assert_variance(squares, expected, slack=0.0):
    """The mean of squares of Gaussians has relative standard error sqrt(2/n): within 4, and what theory leaves out."""
    ratio = squares.mean(axis=0) / expected
    assert np.all(np.abs(ratio - 1) < 4 * np.sqrt(2 / REPLICAS) + slack), ratio


@pytest.mark.parametrize(
    ("rule", "settle"), [(rules.sgd(0.02), 1), (rules.momentum(0.002), 100), (rules.ema(0.02), 100)]
)
def test_sgd_and_momentum_are_exact(rule, settle):
    squares = run(rule, settle)
    name = {rules.SGD: "sgd", rules.MOMENTUM: "momentum", rules.EMA: "ema"}[rule.kind]
    expected = report.theory(name, rule, H, 1.0, 60)
    assert_variance(squares.settled, expected.exact)
    if rule.kind == rules.SGD:
        assert not squares.drift.any()
        assert_variance(squares.cold, expected.exact)
    else:
        assert_variance(squares.drift, expected.drift_exact)
    if rule.kind == rules.MOMENTUM:
        assert_variance(squares.cold, exact.momentum(0.002, 0.9, 1.0, H, np.abs(H), 60, "cold"))


def test_adam_drift_does_not_depend_on_the_hessian():
    """Up to what v̂ fluctuates: its relative variance is (1 - beta2)/(1 + beta2) · 2, 0.1 %."""
    rule = rules.adam(0.001)
    squares = run(rule, 3000)
    expected = report.theory("adam", rule, H, 1.0, 60)
    assert_variance(squares.drift, expected.drift_exact, slack=0.05)  # v̂ decays while the momentum runs out
    assert_variance(squares.settled, expected.exact, slack=0.02)


def test_adai_drift_does_not_depend_on_the_hessian_until_clipping():
    """Between a tenth of the mean and the mean it does not; where 1 - mu is at its floor eps it falls with |H|."""
    eigenvalues = np.array([-1e-4, 0.05, -0.1, 0.2, -0.5, 0.6, -0.7, 0.8])
    rule = rules.adai(0.02)
    squares = displacements(rule, eigenvalues, replica_seeds(0, "test", 0, 1000), B=1.0, T=60, settle=4000, coast=6000)
    expected = report.theory("adai", rule, eigenvalues, 1.0, 60)
    ratio = squares.drift.mean(axis=0) / expected.drift_exact
    assert np.all(np.abs(ratio - 1) < 4 * np.sqrt(2 / 1000) + 0.05), ratio  # v̂ fluctuates by 10 %
    drift = squares.drift.mean(axis=0)
    assert drift[1:].max() / drift[1:].min() < 2
    assert drift[0] < drift[1] / 3
    assert np.allclose(expected.drift_printed, expected.drift_printed[0])


def test_without_curvature_there_is_no_noise():
    with pytest.raises(ValueError, match="H = 0, but has to be other than 0"):
        displacements(rules.sgd(0.1), [0.0], replica_seeds(0, "", 0, 1), B=1.0, T=1, settle=1, coast=1)
