"""Landscapes and escape times: the gradients, the reference times, reproducibility, censoring."""

import numpy as np
import pytest
from numba import njit
from scipy.optimize import approx_fprime
from scipy.stats import norm

from adai.simulate import landscapes, rules
from adai.simulate.escape import escape_times, replica_seeds
from adai.simulate.settings import DELTA_L, ETA, SETTINGS, B
from adai.theory.parabolas import Parabolas
from adai.theory.styblinski import PRINTED_MINIMUM, gradient_variance, mean_gradient


@njit
def draws(landscape, theta, count, seed):
    np.random.seed(seed)
    g = np.zeros((count, theta.size))
    for i in range(count):
        landscapes.gradient(landscape, theta, g[i])
    return g


def assert_moments(sample, mean, variance):
    """Within 4 standard errors, that of the variance from the fourth moment, for the tails may be heavy."""
    n = len(sample)
    assert np.all(np.abs(sample.mean(axis=0) - mean) < 4 * np.sqrt(variance / n))
    squares = (sample - mean) ** 2
    assert np.all(np.abs(squares.mean(axis=0) - variance) < 4 * squares.std(axis=0) / np.sqrt(n))


def test_appendix_e_gradients_have_the_moments_of_the_loss():
    """sqrt(k) f'(u - x) averaged over a batch of 10: mean sqrt(k) E f', variance k Var f' / 10, u = sqrt(k) θ."""
    k, theta = 1.7, np.linspace(-2, 1, 10)
    landscape = landscapes.appendix_e(k)
    g = draws(landscape, theta, 40_000, 0)
    u = np.sqrt(k) * theta
    # The 50,000 samples are a draw themselves, which moves mean and variance by more than the draws from them do.
    own = np.sqrt(k) * (2 * (u - landscape.data) ** 3 - 16 * (u - landscape.data) + 2.5)
    assert_moments(g, own.mean(axis=0), own.var(axis=0) / 10)
    exact = np.sqrt(k) * mean_gradient(u, 2.0)
    assert np.all(np.abs(own.mean(axis=0) - exact) < 4 * np.sqrt(k * gradient_variance(u, 2.0) / 50_000))


def test_double_well_gradients():
    k, theta = 1.7, np.linspace(-2, 1, 10)
    g = draws(landscapes.double_well(k), theta, 20_000, 0)
    assert_moments(g, np.sqrt(k) * mean_gradient(np.sqrt(k) * theta, 0.0), k * 70.0**2)


@pytest.mark.parametrize("place", [0.1, 0.9])
def test_matched_gradients_are_those_of_the_loss_with_the_noise_of_the_side(place):
    k, others = 1.3, (0.1, 0.4)
    landscape = landscapes.matched(k, others, eta=0.02, B=4.0, delta_L=0.06)
    well = Parabolas(k, -k, 0.06)
    theta = np.array([place * well.b, 0.3, -0.2])
    slope = approx_fprime(theta[:1], lambda x: float(well.loss(x[0])), 1e-7)[0]
    g = draws(landscape, theta, 20_000, 0)
    assert_moments(g, [slope, 0.1 * k * 0.3, -0.4 * k * 0.2], np.array([k, 0.1 * k, 0.4 * k]) / 4 + 1e-12)
    assert landscape.start.size == 3
    assert landscape.bound == well.b < landscape.exit


def test_all_start_in_the_valley():
    assert landscapes.appendix_e(4.0).start == pytest.approx(np.full(10, PRINTED_MINIMUM / 2))
    assert np.all(landscapes.double_well(4.0).start < landscapes.double_well(4.0).bound)


# Section 13 and 14 of the ground truth: mean and half the width of its 95 % interval, 1,000 replicas each.
REFERENCE = {
    ("paper", "adai"): {2.5: (435.51, 26), 3: (177.04, 13), 3.6: (58.677, 4.8), 4.5: (20.034, 1.3), 6: (9.162, 0.22)},
    ("paper", "momentum"): {3: (196.21, 13), 3.6: (64.714, 4.8), 4.5: (29.433, 1.1), 6: (19.493, 0.18)},
    ("paper", "ema"): {3: (175.60, 13), 4.5: (17.522, 0.86), 6: (9.324, 0.22)},
    ("paper", "adam"): {3: (644.14, 17), 4.5: (409.92, 10), 6: (305.00, 8.0)},
    ("double-well", "adai"): {2.7: (313.36, 24), 3: (201.89, 16)},
    ("double-well", "momentum"): {2.7: (449.22, 25), 3: (297.42, 17)},
    ("double-well", "ema"): {3: (256.76, 16)},
    ("double-well", "adam"): {3: (2434.3, 157)},
}  # fmt: skip


@pytest.mark.slow
def test_mean_times_agree_with_independent_simulations():
    """Within the joint 99 % interval over all of them (Bonferroni)."""
    z = norm.ppf(1 - 0.005 / sum(map(len, REFERENCE.values())))
    for (name, optimizer), points in REFERENCE.items():
        setting = SETTINGS[name]
        for k, (mean, half) in points.items():
            seeds = replica_seeds(0, f"{name} {optimizer} {k}", 0, 500)
            times = escape_times(setting.landscape(optimizer, k), setting.rules[optimizer], seeds, cap=10**6)
            assert times.escaped.all()
            error = np.hypot(half / 1.96, times.exits.std() / np.sqrt(500))
            assert abs(times.exits.mean() - mean) < z * error, (name, optimizer, k)


# Section 14: Momentum's mean time over Kramers' time through ten saddles.
@pytest.mark.parametrize(("k", "mean", "ratio"), [(1.2, 101224, 0.733), (1.7, 5765.6, 0.768), (3.0, 297.42, 0.948)])
def test_theory_of_the_double_well(k, mean, ratio):
    theory = SETTINGS["double-well"].theory
    assert mean / float(theory["momentum"](k).iterations) == pytest.approx(ratio, abs=6e-4)
    assert float(theory["ema"](k).iterations) == pytest.approx(float(theory["momentum"](k).iterations))
    assert float(theory["momentum"](k).exponent) == pytest.approx(10.711 / k, rel=1e-4)
    assert float(theory["adam"](k).exponent) == pytest.approx(9.372 / np.sqrt(k), rel=1e-4)


def test_momentum_and_ema_are_the_same_algorithm():
    """Without bias correction m of one is 1 - beta1 of the other's. Equal seeds give equal times."""
    seeds = replica_seeds(0, "same", 0, 30)
    landscape = landscapes.matched(2.0, (), eta=ETA, B=B, delta_L=DELTA_L)
    a = escape_times(landscape, rules.momentum(ETA / 10), seeds, cap=10**6, warm=True)
    b = escape_times(landscape, rules.ema(ETA), seeds, cap=10**6, warm=True)
    assert np.array_equal(a.exits, b.exits)


def test_k_is_a_learning_rate():
    """For rules whose step is proportional to the gradient: L = f(sqrt(k) θ) at lr is L = f(u) at k lr."""
    seeds = replica_seeds(0, "scale", 0, 20)
    for make in (rules.adai, rules.momentum):
        a = escape_times(landscapes.appendix_e(4.0), make(1e-3), seeds, cap=10**6)
        b = escape_times(landscapes.appendix_e(1.0), make(4e-3), seeds, cap=10**6)
        assert np.array_equal(a.exits, b.exits)


def test_replicas_do_not_depend_on_what_else_runs():
    landscape, rule = landscapes.appendix_e(4.5), rules.adai(1e-3)
    whole = escape_times(landscape, rule, replica_seeds(7, "x", 0, 20), cap=10**5)
    parts = [escape_times(landscape, rule, replica_seeds(7, "x", first, 5), cap=10**5) for first in (0, 5, 10, 15)]
    assert np.array_equal(whole.exits, np.concatenate([part.exits for part in parts]))
    other = escape_times(landscape, rule, replica_seeds(8, "x", 0, 20), cap=10**5)
    assert not np.array_equal(whole.exits, other.exits)


def test_the_cap_censors():
    seeds = replica_seeds(0, "cap", 0, 200)
    free = escape_times(landscapes.appendix_e(4.0), rules.adai(1e-3), seeds, cap=10**6)
    cap = int(np.median(free.exits))
    capped = escape_times(landscapes.appendix_e(4.0), rules.adai(1e-3), seeds, cap=cap)
    assert np.array_equal(capped.escaped, free.exits <= cap)
    assert np.array_equal(capped.exits, np.minimum(free.exits, cap))
    with pytest.raises(ValueError, match="cap = 0, but has to be at least 1"):
        escape_times(landscapes.appendix_e(4.0), rules.adai(1e-3), seeds, cap=0)


def test_matched_escapes_take_as_long_as_the_theory_says():
    """Within four standard errors and the few per cent by which Kramers' time is off at low barriers."""
    k, setting = 2.0, SETTINGS["matched"]
    for name in ("sgd", "ema", "adam", "adai"):
        seeds = replica_seeds(0, f"matched {name}", 0, 500)
        times = escape_times(setting.landscape(name, k), setting.rules[name], seeds, cap=10**6, warm=True)
        expected = float(setting.theory[name](k).iterations)
        assert times.exits.mean() == pytest.approx(expected, rel=4 / np.sqrt(500) + 0.04)
        assert np.all(times.passages <= times.exits)
        assert 0.4 < times.passages.mean() / times.exits.mean() < 0.9
