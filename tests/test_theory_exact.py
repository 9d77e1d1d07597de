"""The exact answers against closed forms, another integral, each other, and Monte Carlo at 4 standard errors."""

import numpy as np
import pytest
from scipy.integrate import quad

from adai.theory import exact, passage
from adai.theory.parabolas import Parabolas
from tests.tolerance import approx

REPLICAS = 40000
FOUR_SE = 4 * np.sqrt(2 / REPLICAS)  # of a sample variance of Gaussians, relative


def simulate(eta, beta1, beta3, H, C, T, *, start="cold", debias=False):
    """Eq. 6 on a parabola, REPLICAS at once: the final θ, all of which start at 0."""
    rng = np.random.default_rng(0)
    theta, m = np.zeros(REPLICAS), np.zeros(REPLICAS)
    if start == "equilibrium":
        m = beta3 * np.sqrt(C / (1 - beta1**2)) * rng.standard_normal(REPLICAS)
    for t in range(1, T + 1):
        m = beta1 * m + beta3 * (H * theta + np.sqrt(C) * rng.standard_normal(REPLICAS))
        theta = theta - eta * m / (1 - beta1**t if debias else 1)
    return theta


def second_moment(theta):
    return np.mean(theta**2)


@pytest.mark.parametrize(("eta", "H", "T"), [(0.01, 2, 100), (0.1, -2, 20), (0.9, 1.9, 200), (0.1, 0.0, 50)])
def test_sgd_against_monte_carlo(eta, H, T):
    C = abs(H) / 10 or 0.3
    assert second_moment(simulate(eta, 0, 1, H, C, T)) == approx(float(exact.sgd(eta, H, C, T)), rel=FOUR_SE)


def test_sgd_is_momentum_without_momentum():
    eta, H, T = np.meshgrid([0.01, 0.5, 1.0], [-2.0, 0.0, 1e-9, 1.0, 1.9], [0, 1, 2, 37])
    np.testing.assert_allclose(exact.sgd(eta, H, 0.3, T), exact.momentum(eta, 0, 1, H, 0.3, T, "cold"), rtol=1e-11)


def test_sgd_at_the_ends_of_its_formula():
    assert exact.sgd(0.5, 2.0, 1.0, 0) == 0  # a = 0, no step yet
    assert exact.sgd(0.5, 2.0, 1.0, 9) == approx(0.25, rel=1e-15)  # a = 0: θ is the last noise
    assert exact.sgd(0.5, 0.0, 1.0, 9) == approx(2.25, rel=1e-15)


MOMENTUM = [
    (1.0, -0.1, 1, 5.26316e-5, 1e-5),
    (1.0, -0.1, 10, 0.00393404, 0.00206295),
    (1.0, -0.1, 100, 0.21961, 0.200174),
    (1.0, -0.1, 1000, 4.16703e6, 3.86661e6),
    (1.0, 1, 1000, 0.0501319, 0.0501319),
    (0.1, -0.1, 10, 3.83992e-5, 2.02522e-5),
    (0.1, -0.1, 1000, 0.0305969, 0.030299),
    (0.1, 1e-4, 1000, 9.89555e-6, 9.853e-6),
]


@pytest.mark.parametrize(("beta3", "H", "T", "equilibrium", "cold"), MOMENTUM)
def test_momentum_at_eta_0_01_and_beta1_0_9(beta3, H, T, equilibrium, cold):
    inputs = (0.01, 0.9, beta3, H, abs(H), T)
    assert exact.momentum(*inputs, "equilibrium") == approx(equilibrium, rel=5e-6)
    assert exact.momentum(*inputs, "cold") == approx(cold, rel=5e-6)


@pytest.mark.parametrize("start", ["cold", "equilibrium"])
@pytest.mark.parametrize(("beta3", "H", "T"), [(1.0, -0.1, 10), (1.0, 1.0, 300), (0.1, -0.1, 100), (0.3, 0.0, 30)])
def test_momentum_against_monte_carlo(beta3, H, T, start):
    C = abs(H) or 0.2
    measured = second_moment(simulate(0.01, 0.9, beta3, H, C, T, start=start))
    assert measured == approx(float(exact.momentum(0.01, 0.9, beta3, H, C, T, start)), rel=FOUR_SE)


@pytest.mark.parametrize("T", [0, 1, 2, 10, 1000, 12345])
def test_momentum_on_a_plane_has_a_closed_form(T):
    eta, b1, b3, C = 0.02, 0.9, 0.3, 0.7
    unit = eta**2 * b3**2 * C / (1 - b1) ** 2
    warm = unit * (T - 2 * b1 * (1 - b1**T) / (1 - b1**2))
    cold = unit * (T - 2 * b1 * (1 - b1**T) / (1 - b1) + b1**2 * (1 - b1 ** (2 * T)) / (1 - b1**2))
    assert exact.momentum(eta, b1, b3, 0, C, T, "cold") == approx(cold, rel=1e-10, abs=1e-18)
    assert exact.momentum(eta, b1, b3, 0, C, T, "equilibrium") == approx(warm, rel=1e-10, abs=1e-18)


def test_momentum_takes_a_different_T_for_each_element():
    T = np.array([[0, 3], [1000, 7]])
    together = exact.momentum(0.01, 0.9, 1.0, [-0.1, 0.2], 0.1, T)
    for i, j in np.ndindex(2, 2):
        assert together[i, j] == exact.momentum(0.01, 0.9, 1.0, [-0.1, 0.2][j], 0.1, T[i, j])


@pytest.mark.parametrize(
    ("eta", "H", "C", "beta1", "beta3", "value"),
    [
        (0.01, 1, 1, 0.9, 1, 0.05013192612),
        (1, 1, 1, 0.9, 1, 6.78571),
        (1, 1, 1, 0.9, 0.1, 0.5135135135),
        (0.1, 5, 5, 0.5, 1, 0.12),
    ],
)
def test_the_stationary_variance(eta, H, C, beta1, beta3, value):
    stationary = exact.momentum_stationary(eta, beta1, beta3, H, C)
    assert stationary == approx(value, rel=2e-6)
    assert exact.momentum(eta, beta1, beta3, H, C, 100000) == approx(float(stationary), rel=1e-9)
    measured = second_moment(simulate(eta, beta1, beta3, H, C, 600 if eta < 0.1 else 200))
    assert measured == approx(float(stationary), rel=FOUR_SE)


@pytest.mark.parametrize("H", [-0.5, 0.0, 0.02])
def test_adam_against_monte_carlo_of_the_preconditioned_rule(H):
    """m is averaged from gradients of noise C and divided by sqrt(C) in the step: a learning rate of η / sqrt(C)."""
    eta, B, T = 0.01, 8, 60
    C = abs(H) / B or 1.0
    for start, debias in (("equilibrium", False), ("cold", True)):
        measured = second_moment(simulate(eta / np.sqrt(C), 0.9, 0.1, H, C, T, start=start, debias=debias))
        truth = exact.adam_debiased(eta, 0.9, B, H, T) if debias else exact.adam(eta, 0.9, B, H, T)
        assert measured == approx(float(truth), rel=FOUR_SE)


@pytest.mark.parametrize("beta1", [0.5, 0.9])
def test_the_total_drift_against_monte_carlo(beta1):
    """Only m_0 is random: what it moves θ in the end."""
    m = (1 - beta1) * np.sqrt(0.7 / (1 - beta1**2)) * np.random.default_rng(0).standard_normal(REPLICAS)
    theta = np.zeros(REPLICAS)
    for _ in range(500):
        m = beta1 * m
        theta -= 0.1 * m
    assert second_moment(theta) == approx(float(exact.total_drift(0.1, beta1, 0.7)), rel=FOUR_SE)


def test_the_drift_of_adai_against_monte_carlo():
    """Each coordinate has its own inertia; the flattest is clipped, so its drift is lower than with eps = 0."""
    V = np.array([4, 1, 0.5, 0.01]) / 10
    mu = exact.adai_inertia(0.1, V)
    np.testing.assert_allclose(mu[:3], 1 - np.array([0.4, 0.1, 0.05]) / 1.3775, rtol=1e-14)
    assert mu[3] == 1 - 1e-3
    rng = np.random.default_rng(1)
    m = (1 - mu) * np.sqrt(V / (1 - mu**2)) * rng.standard_normal((REPLICAS, 4))
    theta = np.zeros((REPLICAS, 4))
    for _ in range(400):
        m = mu * m
        theta -= 0.1 * m
    theta -= 0.1 * m * mu / (1 - mu)  # the rest of the geometric series
    truth = exact.adai_drift(0.1, 0.1, V)
    np.testing.assert_allclose(np.mean(theta**2, axis=0), truth, rtol=FOUR_SE)
    assert truth[3] < exact.adai_drift(0.1, 0.1, V, eps=0)[3]


def test_a_dominant_parameter_of_adai_has_no_drift():
    assert exact.adai_drift(0.1, 0.5, [100.0, 0.1, 0.1])[0] == 0


@pytest.mark.parametrize("start", ["fixed", "equilibrium"])
@pytest.mark.parametrize(("H", "gamma", "M", "t"), [(-0.5, 1.0, 0.7, 2.0), (0.5, 1.0, 2.0, 3.0), (3.0, 0.8, 0.5, 1.5)])
def test_langevin_against_monte_carlo(H, gamma, M, t, start):
    """A saddle, critical damping, an oscillation; steps so short that their bias is below a tenth of the tolerance."""
    D, steps = 0.6, 1000
    dt, rng = t / steps, np.random.default_rng(2)
    theta = np.zeros(REPLICAS)
    r = np.sqrt(D / (gamma * M**2)) * rng.standard_normal(REPLICAS) * (start == "equilibrium")
    for _ in range(steps):
        theta += r * dt / 2
        kick = np.sqrt(2 * D * dt) / M * rng.standard_normal(REPLICAS)
        r = ((1 - gamma * dt / 2) * r - H / M * theta * dt + kick) / (1 + gamma * dt / 2)
        theta += r * dt / 2
    truth = exact.langevin(D, H, gamma, M, t)
    expected = truth.value if start == "equilibrium" else truth.diffusion
    assert second_moment(theta) == approx(float(expected), rel=FOUR_SE)


def _by_quadrature(D, H, gamma, M, t):
    """Drift and diffusion from φ with cosh and cos, integrated by scipy: not the function's method."""

    def phi(u):
        square = gamma**2 / 4 - H / M
        omega = np.sqrt(abs(square)) * u
        shape = np.sinh(omega) / omega if square > 0 else np.sin(omega) / omega if square < 0 else 1.0
        return u * np.exp(-gamma * u / 2) * (shape if u else 1.0)

    integral = quad(lambda u: phi(u) ** 2, 0, t, epsabs=0, epsrel=1e-12, limit=500)[0]
    return phi(t) ** 2 * D / (gamma * M**2), 2 * D / M**2 * integral


@pytest.mark.parametrize("t", [1e-3, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("H", [-0.7, -1e-9, 0.5 - 1e-12, 0.5, 0.5 + 1e-7, 0.6, 40.0])
def test_langevin_against_another_integral(H, t):
    """Critical damping is at H = 0.5; the sum of exponentials gives -55 there instead of 0.688831."""
    drift, diffusion = _by_quadrature(1.0, H, 1.0, 2.0, t)
    truth = exact.langevin(1.0, H, 1.0, 2.0, t)
    assert truth.drift == approx(drift, rel=1e-8, abs=1e-25)
    assert truth.diffusion == approx(diffusion, rel=1e-9)


def test_langevin_at_critical_damping():
    assert exact.langevin(1, 0.5, 1, 2, 3).value == approx(0.688831, abs=5e-7)


@pytest.mark.parametrize("H", [0.02, 0.5, 40.0])
def test_langevin_ends_at_the_stationary_variance_for_any_length_of_time(H):
    t = np.array([1e4, 1e6, 1e9])
    np.testing.assert_allclose(exact.langevin(1.5, H, 1.0, 2.0, t).value, 1.5 / (2.0 * H), rtol=1e-10)


def test_langevin_is_what_the_algorithm_becomes_for_small_steps():
    """Half the step, half the error: first order."""
    errors = []
    for eta in (0.02, 0.01, 0.005):
        beta1 = 1 - 3.0 * eta  # γ = 3, M = 1, t = 2
        T, beta3 = round(2 / eta), eta
        algorithm = exact.momentum(eta, beta1, beta3, -0.8, 2 * 0.4 / eta, T)
        errors.append(algorithm - exact.langevin(0.4, -0.8, 3.0, 1.0, 2.0).value)
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 2, atol=0.1)


@pytest.mark.parametrize(
    ("H_a", "H_b", "E", "to_c", "to_b"),
    [
        (1, -1, 3, 131.465, 64.7826),
        (1, -1, 8, 18757.8, 9383.37),
        (2, -1, 8, 9491.24, 4744.58),
        (1, -2, 8, 18508.7, 9142.11),
    ],
)
def test_first_passage_of_sgd_in_continuous_time(H_a, H_b, E, to_c, to_b):
    # s/H_a + (1-s)/|H_b| with s = |H_b|/(H_a + |H_b|)
    delta_L = E * 0.01 / ((-H_b / H_a + H_a / -H_b) / (H_a - H_b))
    land = Parabolas(H_a, H_b, delta_L)
    assert passage.parabolas_continuous(0.02, 1, H_a, H_b, delta_L) == approx(to_c, rel=5e-6)
    noise = {"diffusion": lambda x: 0.01 * np.abs(land.curvature(x)), "knots": [land.junction]}
    first = passage.continuous(land.gradient, start=0.0, bound=land.b, floor=-1.5, **noise)
    assert first == approx(to_b, rel=5e-6)


def test_sgd_passes_the_top_in_half_the_escape_time():
    """In continuous time; discrete steps overshoot less often, and take 0.53 to 0.58 of it."""
    eta, k = 0.02, 1.35
    land = Parabolas(k, -k, 0.06)
    where = {"start": 0.0, "bound": land.b, "floor": -1.2, "knots": [land.junction]}
    first = passage.continuous(land.gradient, lambda x: np.full_like(x, eta * k / 2), **where)
    assert first / passage.parabolas_continuous(eta, 1, k, -k, 0.06) == approx(0.5, abs=0.01)
    first = passage.discrete(land.gradient, lambda x: np.full_like(x, k), eta=eta, **where)
    assert 0.53 < first / (passage.parabolas_discrete(eta, 1, k, -k, 0.06) / eta) < 0.58


@pytest.mark.parametrize(("hilltop", "iterations"), [(0.5, 21184.2), (1.0, 5138.23)])
def test_first_passage_on_a_smooth_double_well(hilltop, iterations):
    """L = (θ² - 1)²/8 with the noise of the minimum up to the inflexion point, |L''(0)| or the same beyond."""
    eta, B, inflexion = 0.05, 0.643, -1 / np.sqrt(3)
    time = passage.continuous(
        lambda x: (x**2 - 1) * x / 2,
        lambda x: eta / (2 * B) * np.where(x < inflexion, 1.0, hilltop),
        start=-1.0,
        bound=0.8,
        floor=-2.2,
        knots=[inflexion],
    )
    assert time / eta == approx(iterations, rel=5e-5)


def test_first_passage_on_a_plane_with_a_wall():
    """Brownian motion from 0 to 1 with a wall at -2: ((1 + 2)² - 2²) / 2D."""
    flat = {"gradient": np.zeros_like, "start": 0.0, "bound": 1.0, "floor": -2.0}
    assert passage.continuous(diffusion=lambda x: np.full_like(x, 0.4), **flat) == approx(5 / 0.8, rel=1e-12)


def test_first_passage_overflows_to_infinity_and_not_before():
    steep = {"start": 0.0, "bound": 1.0, "floor": -1.0}
    times = [
        passage.continuous(lambda x: x, lambda x, D=D: np.full_like(x, D), **steep) for D in (1 / 1000, 1 / 1300, 1e-4)
    ]
    assert np.log(times[0]) == approx(500 + np.log(np.sqrt(2 * np.pi / 1000)), rel=1e-3)
    assert np.isfinite(times[1])
    assert times[2] == np.inf


def test_first_passage_of_the_algorithm_against_monte_carlo():
    """Jumping noise and large steps: nothing in the integral equation is an approximation."""
    eta, replicas = 0.1, 4000
    land = Parabolas(2.0, -1.0, 0.08)
    bound = land.b + 0.2
    truth = passage.discrete(
        land.gradient,
        lambda x: np.abs(land.curvature(x)),
        eta=eta,
        start=0.0,
        bound=bound,
        floor=-3.0,
        knots=[land.junction],
    )
    rng = np.random.default_rng(3)
    theta, times, step = np.zeros(replicas), [], 0
    while theta.size:
        step += 1
        noise = np.sqrt(np.abs(land.curvature(theta))) * rng.standard_normal(theta.size)
        theta = theta - eta * (land.gradient(theta) + noise)
        times += [step] * int(np.sum(theta >= bound))
        theta = theta[theta < bound]
    assert np.mean(times) == approx(truth, rel=4 / np.sqrt(replicas))


def test_first_passage_in_continuous_time_against_monte_carlo():
    """A crossing between two instants is decided by the Brownian bridge, so that the steps leave little bias."""
    D, dt, replicas = 0.02, 0.02, 3000
    land = Parabolas(1.0, -1.0, 0.05)
    truth = passage.continuous(
        land.gradient, lambda x: np.full_like(x, D), start=0.0, bound=land.b, floor=-1.8, knots=[land.junction]
    )
    rng = np.random.default_rng(4)
    theta, times, step = np.zeros(replicas), [], 0
    while theta.size:
        step += 1
        after = theta - land.gradient(theta) * dt + np.sqrt(2 * D * dt) * rng.standard_normal(theta.size)
        bridge = np.exp(-np.maximum(land.b - theta, 0) * np.maximum(land.b - after, 0) / (D * dt))
        over = (after >= land.b) | (rng.random(theta.size) < bridge)
        times += [step * dt] * int(np.sum(over))
        theta = after[~over]
    assert np.mean(times) == approx(truth, rel=4 / np.sqrt(replicas))


def test_first_passage_of_the_algorithm_tends_to_continuous_time():
    """Same landscape and temperature, smaller steps."""
    truth = passage.parabolas_continuous(0.02, 1, 1.0, -1.0, 0.05)
    errors = [passage.parabolas_discrete(0.02 / k, 1 / k, 1.0, -1.0, 0.05) - truth for k in (1, 2, 4)]
    assert abs(errors[0]) < 0.02 * truth
    assert abs(errors[2]) < 0.6 * abs(errors[1]) < 0.6**2 * abs(errors[0])


@pytest.mark.parametrize("function", [passage.continuous, passage.discrete])
def test_first_passage_refuses_impossible_inputs(function):
    eta = {"eta": 0.1} if function is passage.discrete else {}
    with pytest.raises(ValueError, match="have to be between floor = 1 and bound = 0"):
        function(np.zeros_like, np.ones_like, start=0.5, bound=0, floor=1, **eta)
    with pytest.raises(ValueError, match="the noise is 0 at θ"):  # C = |L''| with an inflexion inside
        function(np.zeros_like, lambda x: np.maximum(x, 0.0), start=0.5, bound=1, floor=-1, **eta)


def test_the_integral_equation_refuses_steps_too_small_for_it():
    with pytest.raises(ValueError, match=r"nodes; use continuous\(\)"):
        passage.discrete(np.zeros_like, np.ones_like, eta=1e-6, start=0.0, bound=1.0, floor=-1.0)


def test_an_overflow_gives_infinity_and_neither_nan_nor_a_warning():
    assert exact.momentum(0.01, 0.9, 1.0, -0.1, 0.1, 10**6) == np.inf
    np.testing.assert_array_equal(exact.momentum(0.01, 0.9, 1.0, -0.1, 0.1, [10**6, 0]), [np.inf, 0])
    assert exact.langevin(1.0, -1.0, 1.0, 1.0, 1e4).value == np.inf
    assert exact.adam_debiased(0.1, 0.9, 1.0, -1.0, 10**6) == np.inf
    with pytest.raises(ValueError, match="at most 2\\^53"):
        exact.momentum(0.01, 0.9, 1.0, -0.1, 0.1, 1e30)


def test_a_million_steps_of_adam_are_fast():
    """After the bias correction has died out the recursion goes on by doubling."""
    first, later = (exact.adam_debiased(1.0, 0.9, 1.0, 0.0, T) for T in (1000, 10**9))
    assert later - first == approx(10**9 - 1000, rel=1e-6)


def test_the_integral_equation_says_when_it_has_no_digits_left():
    assert np.isnan(passage.parabolas_discrete(0.02, 1.0, 1.0, -1.0, 0.5))
    assert np.isfinite(passage.parabolas_continuous(0.02, 1.0, 1.0, -1.0, 0.5))
