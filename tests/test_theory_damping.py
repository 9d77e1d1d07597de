"""Damping ratios: against the roots of the step, and against the optimizers run with noise."""

import numpy as np
import pytest
import torch

from adai import Adai
from adai.simulate.relaxation import mean_path
from adai.theory import damping, exact
from tests.tolerance import approx

H = np.array([4.0, 1.0, 0.25, 0.0625])
BETA0 = 0.1
ETA = BETA0 / H.mean()  # Adai's ζ is ½


def roots(eta, mu, H):
    """Eigenvalues of the step of an average."""
    return np.linalg.eigvals([[1 - eta * (1 - mu) * H, -eta * mu], [(1 - mu) * H, mu]])


def test_adai_gives_every_direction_the_same_ratio_and_an_average_does_not():
    np.testing.assert_allclose(damping.adai_ratio(ETA, BETA0, H), 0.5, rtol=1e-12)
    np.testing.assert_allclose(damping.adai_ratio(ETA, BETA0, H), np.sqrt(BETA0 / (4 * ETA * H.mean())), rtol=1e-12)
    ema = damping.ratio(ETA, 1 - BETA0, BETA0, H)
    np.testing.assert_allclose(ema, np.sqrt(BETA0 / (4 * ETA * H)), rtol=1e-12)
    assert ema[0] < 0.3
    assert ema[-1] > 2


def test_clipped_inertia_changes_the_ratio():
    clipped = damping.adai_ratio(ETA, BETA0, H, eps=0.02, min_inertia=0.9)
    assert clipped[0] < 0.5 < clipped[-1]
    np.testing.assert_allclose(clipped[1:3], 0.5, rtol=0.04)  # w = 0.075 as it is, and 0.02 for 0.0188


def test_the_ratio_of_sgds_momentum_is_that_of_its_average():
    assert damping.ratio(0.1, 0.9, 1.0, 2.0) == approx(float(damping.ratio(1.0, 0.9, 0.1, 2.0)))


@pytest.mark.parametrize("mu", [0.0, 0.3, 0.9, 0.999])
def test_between_the_critical_rates_the_step_has_complex_roots(mu):
    low, high = damping.critical_rates(mu, 3.0)
    for eta in (low * 0.999, high * 1.001):
        assert np.isrealobj(roots(eta, mu, 3.0))
    for eta in (low * 1.001, high * 0.999) if mu else ():
        assert np.iscomplexobj(roots(eta, mu, 3.0))


def test_the_lower_critical_rate_is_the_ratio_1_of_small_steps():
    low, _ = damping.critical_rates(1 - 1e-6, 3.0)
    assert damping.ratio(low, 1 - 1e-6, 1e-6, 3.0) == approx(1, rel=1e-5)


@pytest.mark.parametrize(("ratio", "times"), [(1.0, 2.0), (100.0, 1.0)])
def test_inertia_speeds_a_direction_up_by_2_at_most(ratio, times):
    mu, h = 0.9999, 1.0
    eta = (1 - mu) / (4 * h * ratio**2)
    assert damping.ratio(eta, mu, 1 - mu, h) == approx(ratio)
    slowest = np.abs(roots(eta, mu, h)).max()
    assert -np.log(slowest) == approx(times * eta * h, rel=0.02)


def test_relaxation_is_the_steps_own_powers():
    step = np.array([[1 - ETA * 0.1 * 4, -ETA * 0.9], [0.1 * 4, 0.9]])
    path = damping.relaxation(ETA, 0.9, 4.0, 50)
    assert path[50] == approx(float(np.linalg.matrix_power(step, 50)[0, 0]), rel=1e-9)


def run(make, T=1500, settle=3000, replicas=50):
    return mean_path(make, H, B=1.0, T=T, settle=settle, replicas=replicas)


def test_with_noise_that_follows_the_hessian_adai_rings_alike_everywhere():
    """The optimizer itself. β2 near 1, so that v̂ fluctuates little."""
    mu = exact.adai_inertia(BETA0, H)
    path = run(lambda params: Adai(params, lr=ETA, betas=(BETA0, 0.999)))
    np.testing.assert_allclose(path, damping.relaxation(ETA, mu, H, 1500), atol=0.03)
    ring = -np.exp(-np.pi * 0.5 / np.sqrt(1 - 0.5**2))  # how far an oscillator with ζ = ½ overshoots
    np.testing.assert_allclose(path.min(axis=0), ring, atol=0.04)


def test_with_the_same_noise_an_average_rings_along_sharp_directions_alone():
    path = run(lambda params: torch.optim.SGD(params, lr=ETA, momentum=1 - BETA0, dampening=1 - BETA0))
    np.testing.assert_allclose(path, damping.relaxation(ETA, 1 - BETA0, H, 1500), atol=1e-9)
    assert path.min(axis=0)[0] < -0.35
    assert np.all(path.min(axis=0)[2:] > -1e-9)


@pytest.mark.parametrize("H", [0.0, -1.0])
def test_only_a_minimum_has_a_ratio(H):
    with pytest.raises(ValueError, match=rf"H = {H:g}, but has to be above 0: only a minimum pulls back"):
        damping.ratio(0.1, 0.9, 0.1, [1.0, H])
    with pytest.raises(ValueError, match=rf"H = {H:g}, but has to be above 0: only a minimum pulls back"):
        mean_path(Adai, [1.0, H], B=1.0, T=1, settle=1)
