"""Displacement at a saddle: printed forms against printed numbers, and their difference to the exact ones."""

import numpy as np
import pytest

from adai.theory import dynamics, exact, saddle
from tests.tolerance import approx


@pytest.mark.parametrize(
    ("eta", "H", "T", "form", "taylor", "discrete", "quotient"),
    [
        (0.01, 2, 100, 0.000490842, 0.002, 0.000496168, 0.9893),
        (0.1, 2, 1000, 0.005, 2, 0.00555556, 0.9000),
        (0.5, 2, 1000, 0.025, 50, 0.05, 0.5000),
        (0.01, -2, 100, 0.0267991, 0.002, 0.0254876, 1.0515),
        (0.1, -2, 20, 14.8998, 0.04, 6.67623, 2.2318),
        (0.01, 1e-3, 1000, 9.90066e-6, 1e-5, 9.90076e-6, 0.99999),
        (0.9, 1.9, 200, 0.045, 30.78, 0.310345, 0.1450),
    ],
)
def test_theorem_2_1_at_batch_size_10(eta, H, T, form, taylor, discrete, quotient):
    printed, truth = saddle.sgd_printed(eta, 10, H, T), exact.sgd(eta, H, abs(H) / 10, T)
    assert printed.drift == 0
    assert printed.value == approx(form, rel=5e-6)
    assert saddle.sgd_taylor_printed(eta, 10, H, T).value == approx(taylor, rel=1e-12)
    assert truth == approx(discrete, rel=5e-6)
    assert printed.value / truth == approx(quotient, abs=6e-5)


def test_a_flat_direction_spreads_by_2Dt_and_its_neighbours_join_smoothly():
    H = np.array([-1e-300, -1e-12, 0.0, 1e-12, 1e-300])
    np.testing.assert_allclose(saddle.spread(0.7, H, 3.0), 4.2, rtol=1e-11)
    np.testing.assert_allclose(saddle.spread(0.7, H, 0.0), 0.0, atol=0)


@pytest.mark.parametrize("H", [-1e-2, 1e-2])
def test_the_remainders_of_the_expansions(H):
    """-sign(H) H² η³ T² / B for SGD; times β3³ / (1-β1)³ for momentum, which eq. 31 hides."""
    eta, B, T = 0.01, 2, 1.0
    hidden = -np.sign(H) * H**2 * eta**3 * T**2 / B
    sgd = saddle.sgd_printed(eta, B, H, T).value - saddle.sgd_taylor_printed(eta, B, H, T).value
    assert sgd / hidden == approx(1, abs=1e-4)
    for beta3, factor in ((1.0, 1000), (0.1, 1)):
        both = (f(eta, 0.9, beta3, B, H, T).value for f in (saddle.momentum_printed, saddle.momentum_taylor_printed))
        assert np.subtract(*both) / hidden == approx(factor, rel=1e-3)


def test_the_remainder_of_proposition_1():
    eta, B, T = 1e-3, 4.0, 10
    for H in (-1e-3, 1e-3):
        rest = saddle.adam_printed(eta, 0.9, B, H, T).value - saddle.adam_taylor_printed(eta, 0.9, T).value
        assert rest / (-np.sign(H) * np.sqrt(B * abs(H)) * eta**3 * T**2) == approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("x", "paper", "equilibrium", "cold", "overdamped", "quotient"),
    [
        (0.01, 0.020099, 9.96675e-5, 6.6169e-7, 0.02, 201.661),
        (0.1, 0.209056, 0.00967484, 0.000618919, 0.2, 21.6082),
        (1, 2.39958, 0.735759, 0.336182, 2, 3.26136),
        (10, 20.9999, 18.0001, 17.0002, 20, 1.16666),
        (100, 201, 198, 197, 200, 1.01515),
    ],
)
def test_the_double_counting_of_theorem_3_1_on_a_plane(x, paper, equilibrium, cold, overdamped, quotient):
    printed, truth = saddle.langevin_printed(1, 0, 1, 1, x), exact.langevin(1, 0, 1, 1, x)
    assert printed.value == approx(paper, rel=5e-6)
    assert truth.value == approx(equilibrium, rel=5e-6)
    assert truth.diffusion == approx(cold, rel=1e-5)
    assert printed.diffusion == approx(overdamped, rel=5e-6)
    assert printed.value / truth.value == approx(quotient, rel=5e-6)
    assert printed.drift == approx(float(truth.drift), rel=1e-12)  # the drift is right, on a plane
    excess = (1 - np.exp(-x)) * (3 - np.exp(-x))
    assert printed.value - truth.value == approx(excess, rel=1e-9)


MOMENTUM = [
    (1.0, -0.1, 1, 0.00105535, 0.00104528, 4.83899e-5),
    (1.0, -0.1, 10, 0.013068, 0.0119979, 0.00377609),
    (1.0, -0.1, 100, 0.324452, 0.105, 0.215872),
    (1.0, -0.1, 1000, 2.42583e7, 1.005, 3.85428e6),
    (1.0, 1, 1000, 0.1, 10.05, 0.05),
    (0.1, -0.1, 10, 0.000120986, 0.000119979, 3.68842e-5),
    (0.1, -0.1, 1000, 0.0319953, 0.01005, 0.0305277),
    (0.1, 1e-4, 1000, 1.004e-5, 1.005e-5, 9.8903e-6),
]


@pytest.mark.parametrize(("beta3", "H", "T", "form", "taylor", "langevin"), MOMENTUM)
def test_theorem_3_1_at_eta_0_01_and_beta1_0_9(beta3, H, T, form, taylor, langevin):
    assert saddle.momentum_printed(0.01, 0.9, beta3, 1, H, T).value == approx(form, rel=5e-6)
    assert saddle.momentum_taylor_printed(0.01, 0.9, beta3, 1, H, T).value == approx(taylor, rel=5e-6)
    truth = exact.langevin(*dynamics.motion(0.01, 0.9, beta3, 1, H, T))
    assert truth.value == approx(langevin, rel=5e-6)


@pytest.mark.parametrize("x", [1e-6, 0.3, 0.9999, 1.0001, 7.0])
def test_the_corrected_expansion_is_the_motion_on_a_plane(x):
    """drift and diffusion each, to first order in H; the series and the closed form meet at x = 1."""
    corrected = saddle.momentum_taylor(0.01, 0.9, 0.3, 2, 1e-9, x / 0.1)
    motion = dynamics.motion(0.01, 0.9, 0.3, 2, 1e-9, x / 0.1)
    truth = exact.langevin(*motion)
    assert corrected.drift == approx(float(truth.drift), rel=1e-7)
    assert corrected.diffusion == approx(float(truth.diffusion), rel=1e-7)


def test_inertia_slows_the_growth_at_a_saddle():
    """2 λ₊ = γ (sqrt(1 + 4|H|/(γ²M)) - 1) = 1.83216 where the paper's overdamped term grows with 2|H|/(γM) = 2."""
    D, H, gamma, M, _ = dynamics.motion(0.01, 0.9, 1, 1, -0.1, 0)
    for function, rate in ((exact.langevin, 1.83216), (saddle.langevin_printed, 2.0)):
        late = [function(D, H, gamma, M, t).value for t in (20.0, 21.0)]
        assert np.log(late[1] / late[0]) == approx(rate, abs=1e-5)


def test_inertia_lowers_the_displacement_in_the_papers_own_model():
    sgd = exact.sgd(0.01, -0.1, 0.1, 1000)
    ema = exact.momentum(0.01, 0.9, 0.1, -0.1, 0.1, 1000)
    assert sgd == approx(0.0318924, rel=5e-6)
    assert ema == approx(0.0305969, rel=5e-6)
    assert ema < sgd < saddle.momentum_printed(0.01, 0.9, 0.1, 1, -0.1, 1000).value


def test_the_list_in_a2_ends_at_twice_the_stationary_variance():
    motion = (0.3, 2.0, 1.5, 0.4)
    assert saddle.overdamped_printed(*motion, 1e6) == approx(2 * float(saddle.overdamped(*motion, 1e6)), rel=1e-12)
    early = saddle.overdamped_printed(*motion, 1e-9) / saddle.overdamped(*motion, 1e-9)
    assert early == approx(1, abs=1e-8)
    assert saddle.overdamped_printed(*dynamics.motion(0.01, 0.9, 1, 1, -0.1, 1000)) == approx(2202.55, abs=0.02)


@pytest.mark.parametrize(("M", "as_printed", "as_theorem_3_1"), [(0.5, 1.87778, 1.87778), (1.0, 0.618881, 0.525425)])
def test_the_first_term_of_proposition_1_holds_for_gamma_M_1(M, as_printed, as_theorem_3_1):
    assert saddle.proposition1_printed(1, 0.3, 2, M, 1).value == approx(as_printed, rel=5e-6)
    assert saddle.langevin_printed(1, 0.3, 2, M, 1).value == approx(as_theorem_3_1, rel=5e-6)


@pytest.mark.parametrize(
    ("T", "paper", "stationary", "debiased"),
    [
        (1, 1.04528, 0.0526316, 1),
        (10, 11.9979, 3.82959, 14.9973),
        (100, 105, 90.5266, 112.249),
        (1000, 1005, 990.526, 1012.25),
    ],
)
def test_proposition_1_on_a_plane_in_units_of_eta(T, paper, stationary, debiased):
    assert saddle.adam_taylor_printed(1, 0.9, T).value == approx(paper, rel=5e-6)
    assert exact.adam(1, 0.9, 1, 0, T) == approx(stationary, rel=5e-6)
    assert exact.adam_debiased(1, 0.9, 1, 0, T) == approx(debiased, rel=5e-6)


@pytest.mark.parametrize(("T", "form", "truth"), [(100, 1.05e-4, 2.48451e-4), (300, 3.05e-4, 1.80042e-2)])
def test_the_condition_of_proposition_1_is_stricter_than_printed(T, form, truth):
    assert saddle.adam_taylor_printed(1e-3, 0.9, T).value == approx(form, rel=5e-4)
    assert exact.adam(1e-3, 0.9, 128, -1, T) == approx(truth, rel=5e-6)


def test_the_expansion_of_proposition_1_counts_once_when_corrected():
    x = np.array([0.1, 1.0, 10.0])
    expected = 0.02**2 / (2 * 0.1) * 2 * (x - 1 + np.exp(-x))
    np.testing.assert_allclose(saddle.adam_taylor(0.02, 0.9, x / 0.1).value, expected, rtol=1e-11)


@pytest.mark.parametrize(("beta1", "quotient"), [(0.9, 1.17284), (0.99, 1.01520), (0.5, 3.0)])
def test_equation_12(beta1, quotient):
    printed = saddle.total_drift(0.1, beta1, 10, -2)
    assert saddle.total_drift(0.1, 0.9, 10, -2) == approx(0.01, rel=1e-12)
    assert printed / exact.total_drift(0.1, beta1, 0.2) == approx(quotient, rel=5e-6)
    late = saddle.momentum_taylor_printed(0.1, beta1, 1 - beta1, 10, -2, 1e5).drift
    assert printed == approx(float(late), rel=1e-12)


def test_proposition_3_is_twice_too_large():
    H = np.array([4, 1, 0.5, 0.01])
    assert saddle.adai_drift_printed(0.1, 0.1, 10, H) == approx(0.013775, rel=1e-12)
    corrected = saddle.adai_drift(0.1, 0.1, 10, H)
    assert corrected == approx(0.0068875, rel=1e-12)
    beta1 = 1 - 0.1 * np.abs(H) / np.mean(np.abs(H))  # eq. 12 with Adai's inertia
    np.testing.assert_allclose(saddle.total_drift(0.1, beta1, 10, H), corrected, rtol=1e-12)
    truth = exact.adai_drift(0.1, 0.1, H / 10, eps=0)
    np.testing.assert_allclose(truth, [0.00405735, 0.00614692, 0.00651481, 0.00688], rtol=3e-5)
