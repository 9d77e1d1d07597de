"""Mass, damping, diffusion; and that impossible inputs are refused by name."""

import re

import numpy as np
import pytest
import torch

from adai.theory import dynamics, escape, exact, passage, saddle
from tests.tolerance import approx


@pytest.mark.parametrize(
    ("beta1", "beta3", "M", "gamma", "gamma_M"),
    [(0.9, 1.0, 0.1, 1.0, 0.1), (0.9, 0.1, 1.0, 1.0, 1.0), (0.0, 1.0, 0.1, 10.0, 1.0)],
)
def test_the_mapping_at_eta_0_1(beta1, beta3, M, gamma, gamma_M):
    assert dynamics.mass(0.1, beta3) == approx(M, rel=1e-14)
    assert dynamics.damping(0.1, beta1) == approx(gamma, rel=1e-14)
    assert dynamics.friction(beta1, beta3) == approx(gamma_M, rel=1e-14)
    assert dynamics.mass(0.1, beta3) * dynamics.damping(0.1, beta1) == approx(gamma_M, rel=1e-14)


def test_noise_and_diffusion_take_the_absolute_curvature():
    H = np.array([-2.0, 0.0, 2.0])
    np.testing.assert_allclose(dynamics.noise_covariance(10, H), [0.2, 0, 0.2], rtol=1e-15)
    np.testing.assert_allclose(dynamics.diffusion(0.01, 10, H), [0.001, 0, 0.001], rtol=1e-14)


@pytest.mark.parametrize(("N", "B", "factor"), [(100, 10, 0.909091), (50000, 10, 0.999820), (7, 7, 0.0)])
def test_a_batch_without_replacement_has_less_noise(N, B, factor):
    assert dynamics.noise_covariance(B, B, N) == approx(factor, abs=5e-7)


def test_a_batch_cannot_be_larger_than_the_data():
    with pytest.raises(ValueError, match="B = 11, but has to be at most N = 10"):
        dynamics.noise_covariance(11, 1.0, 10)


def test_absolute_hessian_of_a_matrix_whose_eigenvectors_are_not_symmetric():
    H = np.array([[2, 1, 0], [1, -1, 0.5], [0, 0.5, 3]])
    expected = [[2.218489, 0.266876, 0.084162], [0.266876, 1.459941, 0.217600], [0.084162, 0.217600, 3.032419]]
    absolute = dynamics.absolute_hessian(H)
    np.testing.assert_allclose(absolute, expected, atol=5e-7)
    np.testing.assert_allclose(absolute @ absolute, H @ H, atol=1e-13)  # what defines it
    eigenvalues, U = np.linalg.eigh(H)
    literal = U.T @ np.diag(np.abs(eigenvalues)) @ U
    np.testing.assert_allclose(literal[0, :2], [2.211527, -0.263686], atol=5e-7)


def test_absolute_hessian_of_a_stack():
    H = np.random.default_rng(0).standard_normal((5, 4, 4))
    H += np.swapaxes(H, 1, 2)
    np.testing.assert_array_equal(dynamics.absolute_hessian(H)[3], dynamics.absolute_hessian(H[3]))


@pytest.mark.parametrize("H", [[[1.0, 2.0], [0.0, 1.0]], [1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_absolute_hessian_refuses_what_is_no_symmetric_matrix(H):
    with pytest.raises(ValueError, match="has to be a symmetric matrix"):
        dynamics.absolute_hessian(H)


def _torch_theta(gradients, dampening):
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.1, momentum=0.9, dampening=dampening)
    for g in gradients:
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
    return p.item()


def _eq6_theta(gradients, beta3):
    theta = m = 0.0
    for g in gradients:
        m = 0.9 * m + beta3 * g
        theta -= 0.1 * m
    return theta


def test_torch_momentum_is_eq_6_but_its_dampening_is_not():
    gradients = np.random.default_rng(0).standard_normal(30)
    assert _torch_theta(gradients, 0.0) == approx(_eq6_theta(gradients, 1.0), abs=1e-14)
    offset = _torch_theta(gradients, 0.9) - _eq6_theta(gradients, 0.1)
    assert offset == approx(float(dynamics.dampening_offset(0.1, 0.9, 0.1, gradients[0], 30)), abs=1e-14)
    assert abs(offset) > 0.01


@pytest.mark.parametrize(
    ("g", "inside", "outside"),
    [
        (1, 0.001, 0.001),
        (1e-2, 0.00099995, 0.000999999),
        (1e-4, 0.000707107, 0.0009999),
        (1e-6, 9.9995e-6, 0.000990099),
        (1e-8, 1e-7, 0.0005),
    ],
)
def test_the_first_step_of_adam_with_eps_inside_and_outside(g, inside, outside):
    assert dynamics.adam_first_step_printed(1e-3, g, 1e-8) == approx(inside, rel=1e-6)
    assert dynamics.adam_first_step(1e-3, g, 1e-8) == approx(outside, rel=1e-6)
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    p.grad = torch.tensor([g], dtype=torch.float64)
    torch.optim.Adam([p], lr=1e-3, eps=1e-8).step()
    assert -p.item() == approx(float(dynamics.adam_first_step(1e-3, g, 1e-8)), rel=1e-12)


def test_velocity_variance_is_eq_10():
    """β M Var r = 1, β = γM/D."""
    D, gamma, M = 0.3, 2.0, 0.7
    assert dynamics.velocity_variance(D, gamma, M) * M * (gamma * M / D) == approx(1, rel=1e-14)


ESCAPE = {"eta": 0.1, "beta1": 0.9, "beta3": 1, "B": 1, "H_a": 1, "H_b": -1, "s": 0.5, "delta_L": 1}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dynamics.mass(0, 1), "eta = 0, but has to be above 0"),
        (lambda: dynamics.mass(-0.1, 1), "eta = -0.1, but has to be above 0"),
        (lambda: dynamics.mass(np.nan, 1), "eta = nan, but has to be above 0"),
        (lambda: dynamics.mass(np.inf, 1), "eta = inf, but has to be above 0"),
        (lambda: dynamics.mass(0.1, 0), "beta3 = 0, but has to be above 0"),
        (lambda: dynamics.damping(0.1, 1), "beta1 = 1, but has to be in [0, 1)"),
        (lambda: dynamics.damping(0.1, [0.5, -0.5]), "beta1 = -0.5, but has to be in [0, 1)"),
        (lambda: dynamics.noise_covariance(-10, 1), "B = -10, but has to be above 0"),
        (lambda: saddle.spread(-1, 1, 1), "D = -1, but has to be 0 or above"),
        (lambda: saddle.spread(1, np.inf, 1), "H = inf, but has to be finite"),
        (lambda: saddle.sgd_printed(0.1, 1, 1, -1), "T = -1, but has to be 0 or above"),
        (lambda: saddle.adai_drift(0.1, 1.5, 1, [1, 2]), "beta0 = 1.5, but has to be in (0, 1]"),
        (lambda: exact.adai_inertia(0.1, [1, 2], 1), "eps = 1, but has to be in [0, 1)"),
        (lambda: exact.sgd(0.1, 1, -1, 1), "C = -1, but has to be 0 or above"),
        (lambda: exact.momentum(0.1, 0.9, 1, 1, 1, 2.5), "T = 2.5, but has to be a whole number"),
        (lambda: exact.momentum(0.1, 0.9, 1, 1, 1, 2, "warm"), "start = 'warm', but has to be 'cold' or 'equilibrium'"),
        (lambda: exact.momentum_stationary(1, 0.9, 1, [1, 4], 1), "has to be in (0, 2(1 + beta1) / (eta beta3))"),
        (lambda: exact.langevin(1, 1, 0, 1, 1), "gamma = 0, but has to be above 0"),
        (lambda: exact.langevin(1, 1, 1, -1, 1), "M = -1, but has to be above 0"),
        (lambda: escape.effective_diffusion(0.5, 1, 1), "y = 2, but has to be at most 1"),
        (lambda: escape.momentum(**{**ESCAPE, "s": 0}), "s = 0, but has to be in (0, 1)"),
        (lambda: escape.momentum(**{**ESCAPE, "s": 1}), "s = 1, but has to be in (0, 1)"),
        (lambda: escape.momentum(**{**ESCAPE, "B": -1}), "B = -1, but has to be above 0"),
        (lambda: escape.momentum(**{**ESCAPE, "H_a": -1}), "H_a = -1, but has to be above 0"),
        (lambda: escape.momentum(**{**ESCAPE, "H_b": 1}), "H_b = 1, but has to be below 0"),
        (lambda: escape.momentum(**{**ESCAPE, "delta_L": 0}), "delta_L = 0, but has to be above 0"),
        (lambda: passage.parabolas_continuous(0.1, 0, 1, -1, 1), "B = 0, but has to be above 0"),
    ],
)
def test_impossible_inputs_are_refused_by_symbol_and_bound(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
