"""Escape times: printed, corrected, and held to quadrature and Monte Carlo."""

import numpy as np
import pytest

from adai.theory import escape, passage, styblinski
from adai.theory.parabolas import Parabolas, share
from tests.tolerance import approx


@pytest.mark.parametrize(
    ("y", "ratio"), [(-100, 0.180998), (-8, 0.5), (-1, 0.828427), (-0.1, 0.976177), (0, 1), (0.5, 1.17157), (1, 2)]
)
def test_effective_diffusion(y, ratio):
    got = escape.effective_diffusion(y / 4, 1, 1)
    assert got == approx(ratio, rel=5e-6)
    if y not in (0, 1):
        assert got == approx((1 - np.sqrt(1 - y)) / (y / 2), rel=1e-13)  # as eq. 11 has it


def test_effective_diffusion_keeps_its_digits_near_a_flat_direction():
    assert escape.effective_diffusion(1e-12, 1, 1) - 1 == approx(1e-12, rel=1e-3)


TABLE = [
    (0.02, 0.0, 1.0, 950.799, 950.799, 47539.9, 47539.9),
    (0.02, 0.9, 0.1, 1091.80, 1091.80, 54589.9, 54589.9),
    (0.002, 0.9, 1.0, 1091.80, 109.180, 545899, 54589.9),
    (0.0002, 0.99, 1.0, 1865.01, 18.6501, 9.32507e6, 93250.7),
]


@pytest.mark.parametrize(("eta", "beta1", "beta3", "paper", "corrected", "paper_its", "corrected_its"), TABLE)
def test_theorem_3_2_lacks_gamma_M(eta, beta1, beta3, paper, corrected, paper_its, corrected_its):
    inputs = (eta, beta1, beta3, 1, 1, -1, 0.5, 0.05)
    assert escape.momentum_printed(*inputs).value == approx(paper, rel=5e-6)
    assert escape.momentum_printed(*inputs).iterations == approx(paper_its, rel=5e-6)
    for function in (escape.momentum_kramers, escape.momentum):  # the same, because H_a = |H_b|
        assert function(*inputs).value == approx(corrected, rel=5e-6)
        assert function(*inputs).iterations == approx(corrected_its, rel=5e-6)


def test_prefactor_and_exponent_are_those_of_kramers():
    """π γM (sqrt(1 + y) + 1) / sqrt(H_a|H_b|) e^{ΔL/T} with T = D/γM at equal curvatures."""
    eta, beta1, beta3, B, H, delta_L = 0.01, 0.8, 0.5, 3, 1.7, 0.1
    gamma, M = 0.2 / eta, eta / beta3
    tau = escape.momentum(eta, beta1, beta3, B, H, -H, 0.5, delta_L)
    assert tau.prefactor == approx(np.pi * gamma * M * (np.sqrt(1 + 4 * H / (gamma**2 * M)) + 1) / H, rel=1e-13)
    assert tau.exponent == approx(delta_L * gamma * M / (eta * H / (2 * B)), rel=1e-13)
    assert tau.log_iterations == approx(np.log(float(tau.iterations)), rel=1e-13)


def test_log_iterations_where_the_time_itself_overflows():
    tau = escape.sgd(1e-4, 1, 1, -1, 0.5, 0.05)
    assert tau.log_iterations == approx(1000 + np.log(2 * np.pi / 1e-4), rel=1e-12)


def test_sgd_style_and_ema_are_one_algorithm():
    """SGD-style with η and EMA with η/(1-β1) make the same path; only the corrected theorem knows."""
    path = {}
    for eta, beta3 in ((0.002, 1.0), (0.02, 0.1)):
        rng = np.random.default_rng(0)
        theta = m = 0.0
        for _ in range(100):
            m = 0.9 * m + beta3 * (theta + rng.standard_normal())
            theta -= eta * m
        path[beta3] = theta
    assert path[1.0] == approx(path[0.1], rel=1e-12)
    ours, printed = (
        [f(eta, 0.9, beta3, 1, 2, -1, 0.3, 0.05).iterations for eta, beta3 in ((0.002, 1.0), (0.02, 0.1))]
        for f in (escape.momentum, escape.momentum_printed)
    )
    assert ours[0] == approx(float(ours[1]), rel=1e-13)
    assert printed[0] == approx(10 * float(printed[1]), rel=1e-13)


def test_theorem_3_2_in_general():
    inputs = {"eta": 0.05, "beta1": 0.9, "B": 2, "H_a": 2, "H_b": -1, "s": 0.3, "delta_L": 0.1}
    assert escape.momentum_printed(beta3=0.1, **inputs).value == approx(7706.21, rel=5e-6)
    assert escape.momentum(beta3=0.1, **inputs).value == approx(3853.11, rel=5e-6)
    assert escape.momentum_printed(beta3=1, **inputs).value == approx(34.6182, rel=5e-6)


@pytest.mark.parametrize(("H_a", "H_b"), [(1.0, -1.0), (2.0, -1.0), (1.0, -2.0), (4.0, -1.0)])
def test_the_ito_prefactor_is_that_of_the_quadrature_at_low_temperature(H_a, H_b):
    """The distance to the exact first-passage time goes to 0; slowly where little of the barrier is in the valley."""
    s = float(share(H_a, H_b))
    errors = []
    for exponent in (8, 32, 128):
        delta_L = exponent * 0.01 / (s / H_a - (1 - s) / H_b)
        truth = passage.parabolas_continuous(0.02, 1, H_a, H_b, delta_L)
        errors.append(abs(escape.sgd(0.02, 1, H_a, H_b, s, delta_L).value / truth - 1))
    assert errors[1] < errors[0]
    assert errors[2] < max(errors[1], 1e-6)  # 3e-7: the way ends at 5 standard deviations
    assert errors[2] < 0.01


def test_the_exponent_on_parabolas_is_not_monotone_in_sharpness():
    H_a = np.array([0.5, 1, 2.414214, 4, 10])
    factor = escape.barrier(H_a, -1, share(H_a, -1), 1)
    np.testing.assert_allclose(factor, [1.666667, 1, 0.828427, 0.85, 0.918182], rtol=1e-6)


@pytest.mark.parametrize(("H_a", "H_b", "delta_L"), [(1.0, -1.0, 0.05), (2.0, -0.7, 0.3)])
def test_the_parabolas_meet(H_a, H_b, delta_L):
    land = Parabolas(H_a, H_b, delta_L)
    near = land.junction * np.array([1 - 1e-12, 1 + 1e-12])
    np.testing.assert_allclose(land.loss(near), land.s * delta_L, rtol=1e-10)
    np.testing.assert_allclose(land.gradient(near), H_a * land.junction, rtol=1e-10)
    np.testing.assert_array_equal(land.curvature(near), [H_a, H_b])
    assert land.loss(0) == land.gradient(0) == 0
    assert land.loss(land.b) == approx(delta_L)
    assert land.gradient(land.b) == 0


@pytest.mark.parametrize(
    ("inputs", "main", "eq67", "iterations"),
    [
        ((0.02, 0.9, 1, 4, -4, 0.5, 0.05), 24.9962, 29.1769, 2499.62),
        ((0.005, 0.9, 100, 10, -25, 0.3, 0.01), 8202.00, 15469.5, 820200.3515),
    ],
)
def test_proposition_2_and_its_slip(inputs, main, eq67, iterations):
    assert escape.adam_printed(*inputs).value == approx(main, rel=5e-6)
    assert escape.adam_printed(*inputs).iterations == approx(iterations, rel=5e-6)
    assert escape.adam_eq67(*inputs).value == approx(eq67, rel=5e-6)


def test_proposition_2_is_right_for_rmsprop_on_unequal_parabolas():
    """β1 = 0: constant diffusion η²/2 in a potential of curvatures η sqrt(B H); the quadrature per iteration."""
    eta, B, H_a, H_b, delta_L = 0.004, 1.0, 2.5, -1.0, 0.02
    land = Parabolas(H_a, H_b, delta_L)
    its = passage.continuous(
        lambda x: eta * land.gradient(x) * np.sqrt(B / np.abs(land.curvature(x))),
        lambda x: np.full_like(x, eta**2 / 2),
        start=0.0,
        bound=land.b + 0.3,
        floor=-0.6,
        knots=[land.junction],
    )
    theory = escape.adam(eta, 0.0, B, H_a, H_b, land.s, delta_L)
    assert theory == escape.adam_printed(eta, 0.0, B, H_a, H_b, land.s, delta_L)
    # without the inertia that β1 = 0 does not have
    overdamped = theory.iterations * 2 / (1 + np.sqrt(1 + 4 * eta * np.sqrt(-B * H_b)))
    assert overdamped == approx(its, rel=0.02)


def test_averaging_before_preconditioning_makes_the_noise_drift():
    """No loss, noise that jumps: the density goes as P^{2β1/(1+β1)}, neither as P (β1 → 1) nor as 1 (β1 = 0)."""
    beta1, C_b, eta, replicas = 0.5, 4.0, 0.03, 20000
    rng = np.random.default_rng(0)
    theta, m = rng.uniform(-1, 1, replicas), np.zeros(replicas)
    counts = np.zeros(2)
    for t in range(3500):
        sd = np.where(np.abs(theta) < 0.5, 1.0, np.sqrt(C_b))
        m = beta1 * m + (1 - beta1) * sd * rng.standard_normal(replicas)
        theta = (theta - eta * m / sd + 1) % 2 - 1
        if t >= 1500 and t % 250 == 0:
            counts += np.sum(np.abs(theta) < 0.3), np.sum(np.abs(theta) > 0.7)
    measured = counts[0] / counts[1]
    factor = float(escape.adam(0.01, beta1, 1, 1, -C_b, 0.5, 1).prefactor)
    factor /= float(escape.adam_printed(0.01, beta1, 1, 1, -C_b, 0.5, 1).prefactor)
    assert factor == approx(4 ** (1 / 3), rel=1e-13)
    assert measured == approx(factor, rel=4 * np.sqrt(1 / counts[0] + 1 / counts[1]))


def test_proposition_4():
    H_all = [-1.35, 0.135, 0.135, 0.54]
    printed = escape.adai_printed(0.02, 0.1, 1, 1.35, -1.35, 0.5, 0.06, H_all)
    assert printed.value == approx(435.288, rel=5e-6)
    assert printed == escape.adai(0.02, 0.1, 1, 1.35, -1.35, 0.5, 0.06, H_all)
    assert printed.iterations == approx(21764.4, rel=5e-6)


def test_adai_in_one_dimension_is_ema_momentum():
    adai = escape.adai(0.02, 0.1, 1, 2, -1, 0.5, 0.06, [-1])
    ema = escape.momentum(0.02, 0.9, 0.1, 1, 2, -1, 0.5, 0.06)
    assert adai.value == approx(float(ema.value), rel=1e-12)


def test_matched_parabolas_at_k_1_35():
    """Theory in iterations, and the measured means with 95 % intervals of a thousand replicas."""
    k = 1.35
    rest = (1, k, -k, 0.5, 0.06)
    assert escape.momentum(0.02, 0, 1, *rest).iterations == approx(20337.2, rel=5e-6)
    assert escape.momentum(0.02, 0.9, 0.1, *rest).iterations == approx(24197.4, rel=5e-6)
    assert escape.adam(0.02, 0.9, *rest).iterations == approx(56476.7, rel=5e-6)
    H_all = k * np.array([-1, 0.1, 0.1, 0.4])
    assert escape.adai(0.02, 0.1, *rest, H_all).iterations == approx(21764.4, rel=5e-6)
    algorithm = passage.parabolas_discrete(0.02, 1, k, -k, 0.06) / 0.02
    assert abs(algorithm - 20947) < 2 * 1280  # 95 % measured: 4 standard errors


def test_the_slope_of_sgd_on_matched_parabolas():
    """log(τ / prefactor) against 1/k: 6, as the theory has it, within 3 %, by the exact equation of the algorithm."""
    k = np.array([0.8, 1.0, 1.3, 1.6, 2.0])
    its = [passage.parabolas_discrete(0.02, 1, x, -x, 0.06) / 0.02 for x in k]
    prefactor = escape.momentum(0.02, 0, 1, 1, k, -k, 0.5, 0.06).prefactor
    assert np.polyfit(1 / k, np.log(its / prefactor), 1)[0] == approx(6, rel=0.03)


@pytest.mark.parametrize(("k", "slower"), [(1, 0.106), (2, 0.158), (4, 0.214)])
def test_adai_is_predicted_slower_on_the_papers_test_function(k, slower):
    """Way out |H| = 15.85 k, flatter than the mean of 32.71 k over ten coordinates at the saddle: not "accelerated"."""
    minimum, saddle, _ = styblinski.critical_points(0.0)
    H_b, H_a = float(styblinski.mean_curvature(saddle, 0.0)), float(styblinski.mean_curvature(minimum, 0.0))
    H_all = k * np.array([H_b] + [H_a] * 9)
    eta, rest = 1e-3, (1, k * H_a, k * H_b, 0.5, 1.0)
    adai, ema = escape.adai(eta, 0.1, *rest, H_all), escape.momentum(eta, 0.9, 0.1, *rest)
    assert adai.prefactor / ema.prefactor - 1 == approx(slower, abs=6e-4)


@pytest.mark.parametrize(
    ("sd", "points"),
    [
        (0.0, [-2.903534, 0.156731, 2.746803]),
        (0.5, [-2.774969, 0.173130, 2.601840]),
        (1.0, [-2.351910, 0.253248, 2.098662]),
        (1.25, [-1.985466, 0.396123, 1.589343]),
        (1.5, [-1.452737]),
        (2.0, [-0.305380279]),
    ],
)
def test_the_valleys_of_appendix_e(sd, points):
    np.testing.assert_allclose(styblinski.critical_points(sd), points, atol=6e-7)
    assert styblinski.minimum(sd) == approx(points[0], abs=6e-7)
    assert (len(points) == 3) == (sd < styblinski.largest_sd())


def test_the_printed_valley_is_convex():
    assert styblinski.largest_sd() ** 2 == approx(1.935662, abs=5e-7)
    u = np.linspace(-5, 5, 1001)
    assert np.all(styblinski.mean_curvature(u, 2.0) >= 8)
    left, middle = styblinski.PRINTED_MINIMUM, styblinski.PRINTED_SADDLE
    bottom = styblinski.mean_loss(styblinski.minimum(2.0), 2.0)
    assert styblinski.mean_loss(left, 2.0) - bottom == approx(62.386, abs=5e-4)
    assert styblinski.mean_loss(middle, 2.0) - bottom == approx(0.876462, abs=5e-6)
    assert styblinski.mean_gradient(left, 2.0) == approx(-69.68, abs=6e-3)


def test_the_averages_over_samples_against_monte_carlo():
    sd, u = 1.25, np.array([-2.0, 0.4, 1.5])
    v = u[:, None] - sd * np.random.default_rng(0).standard_normal((3, 400000))
    loss, slope = (v**4 - 16 * v**2 + 5 * v) / 2, 2 * v**3 - 16 * v + 2.5
    for got, expected in ((loss, styblinski.mean_loss(u, sd)), (slope, styblinski.mean_gradient(u, sd))):
        assert np.all(np.abs(got.mean(axis=1) - expected) < 4 * got.std(axis=1) / np.sqrt(400000))
    squares = (slope - styblinski.mean_gradient(u, sd)[:, None]) ** 2
    error = 4 * squares.std(axis=1) / np.sqrt(400000)
    assert np.all(np.abs(squares.mean(axis=1) - styblinski.gradient_variance(u, sd)) < error)
