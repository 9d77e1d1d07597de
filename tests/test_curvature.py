"""Curvature against matrices known in closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from adai.errors import UserError
from adai.lab.measure.curvature import eigenpairs
from adai.lab.measure.curvature.density import lanczos_quadrature
from adai.lab.measure.curvature.eigenpairs import top_eigenpairs
from adai.lab.measure.curvature.sharpness import average_sharpness, filter_scale, worst_sharpness
from adai.lab.measure.curvature.surface import loss_surface
from adai.lab.measure.curvature.trace import trace
from adai.lab.measure.objective import Objective

F64 = torch.float64
VALUES = np.concatenate([[-3.0], np.linspace(0.01, 0.5, 56), [4.0, 7.0, 10.0]])
SIZE = len(VALUES)


def mean_of_outputs(out, _):
    return out.mean()


class Parabola(nn.Module):
    """xᵀθ + ½ θᵀHθ for each sample x."""

    def __init__(self, H, theta):
        super().__init__()
        self.theta = nn.Parameter(theta)
        self.register_buffer("H", H)

    def forward(self, x):
        return x @ self.theta + self.theta @ self.H @ self.theta / 2


def parabola(values=VALUES, theta=None, dtype=F64):
    """An objective with exactly these Hessian eigenvalues, in a random basis, and the eigenvectors."""
    torch.manual_seed(0)
    n = len(values)
    U = torch.linalg.qr(torch.randn(n, n, dtype=F64)).Q
    H = U @ torch.diag(torch.tensor(values, dtype=F64)) @ U.T
    x = torch.randn(6, n, dtype=F64)
    theta = torch.zeros(n, dtype=F64) if theta is None else theta
    model = Parabola(H, theta)
    return Objective(model, x - x.mean(0), torch.zeros(6), loss=mean_of_outputs, dtype=dtype), U


@pytest.mark.parametrize(("dtype", "accuracy"), [(F64, 1e-8), (torch.float32, 1e-4)])
def test_top_eigenpairs_of_a_quadratic(dtype, accuracy):
    objective, U = parabola(dtype=dtype)
    seen = []
    for which, expected in (("LA", [10, 7, 4]), ("LM", [10, 7, 4, -3]), ("SA", [-3])):
        k = len(expected)
        pairs = top_eigenpairs(objective, k, which=which, tol=accuracy / 10, progress=seen.append)
        np.testing.assert_allclose(pairs.values, expected, rtol=accuracy)
        assert (pairs.residuals < 10 * accuracy * 10).all()
        truth = U[:, [int(np.flatnonzero(np.isclose(VALUES, x))[0]) for x in expected]].to(dtype)
        overlaps = (truth.T @ pairs.vectors).diagonal().abs()
        np.testing.assert_allclose(overlaps, 1, atol=max(accuracy, 1e-6))
    assert sum(seen) > 40
    with pytest.raises(ValueError, match=f"k = {SIZE}"):
        top_eigenpairs(objective, SIZE)


@pytest.mark.parametrize("scale", [1e-8, 1e-20])
def test_small_eigenvalues_are_as_accurate_as_large_ones(scale):
    """In float32 ARPACK's own criterion is absolute below about 1e-5, where the curvature of a fitted net is."""
    values = np.linspace(0.1, 1, SIZE) * scale
    objective, _ = parabola(values, dtype=torch.float32)
    np.testing.assert_allclose(top_eigenpairs(objective, 5).values, values[::-1][:5], rtol=1e-3)


def test_trace_is_unbiased_and_its_standard_error_is_the_spread():
    objective, _ = parabola()
    found = [trace(objective, 18, seed=seed) for seed in range(80)]
    values = np.array([t.value for t in found])
    assert np.mean(values) == pytest.approx(VALUES.sum(), abs=4 * values.std() / 80**0.5)
    assert np.mean([t.se**2 for t in found]) == pytest.approx(values.var(), rel=0.6)
    inside = np.mean(np.abs(values - VALUES.sum()) < 2.571 * np.array([t.se for t in found]))  # Student's t, 5 left
    assert inside > 0.88
    assert found[0].products == 18
    with pytest.raises(ValueError, match="at least 6"):
        trace(objective, 5)


def test_trace_is_exact_once_it_spans_the_rank():
    objective, _ = parabola(np.array([5.0, 2.0, -1.0] + [0.0] * 27))
    assert trace(objective, 30).value == pytest.approx(6.0, rel=1e-10)


def test_quadrature_has_the_moments_and_the_outliers():
    objective, _ = parabola()
    found = lanczos_quadrature(objective, steps=20, probes=40)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-10)
    for power in (1, 2, 3):
        mean, se = found.moment(power)
        assert abs(mean - np.mean(VALUES**power)) < 4 * se
    for outlier in (-3.0, 4.0, 7.0, 10.0):
        assert np.abs(found.nodes - outlier).min(axis=1).max() < 1e-6
    grid, width = found.grid()
    density, se = found.density(grid, width)
    truth = np.exp(-0.5 * ((grid - VALUES[:, None]) / width) ** 2).mean(0) / (width * np.sqrt(2 * np.pi))
    assert np.trapezoid(density, grid) == pytest.approx(1, rel=1e-3)
    assert np.abs(density - truth).max() < 0.1 * truth.max()
    assert (np.abs(density - truth) < 5 * se + 0.03 * truth.max()).mean() > 0.98


def test_every_step_of_lanczos_is_exact_for_polynomials():
    """One probe v gives vᵀHᵖv to order 2 steps − 1, and all of it once the space is spanned."""
    objective, U = parabola(np.array([1.0, 2.0, 5.0, 5.0, 5.0]))
    found = lanczos_quadrature(objective, steps=5, probes=1, seed=3)
    v = torch.randn(5, generator=torch.Generator().manual_seed(3), dtype=F64)
    w = (U.T @ (v / v.norm())).numpy() ** 2
    for power in range(6):
        assert found.moment(power)[0] == pytest.approx(w @ np.array([1, 2, 5, 5, 5.0]) ** power, rel=1e-10)
    assert (found.weights > 1e-12).sum() == 3


def test_sam_sharpness_of_quadratics():
    objective, _ = parabola(np.array([1.0, 3.0, 8.0]))
    assert worst_sharpness(objective, 0.1, steps=60).value == pytest.approx(0.5 * 8 * 0.1**2, rel=1e-4)
    theta = torch.tensor([0.3, -0.2, 0.5], dtype=F64)
    objective, _ = parabola(np.array([2.0, 2.0, 2.0]), theta)
    g = float(2 * theta.norm())
    found = worst_sharpness(objective, 0.1, steps=5)
    assert found.first_order == pytest.approx(0.1 * g + 0.01, rel=1e-9)
    assert found.value == pytest.approx(found.first_order, rel=1e-9)
    top = parabola(np.array([1.0, 1.0, 1.0, 9.0]))
    known = worst_sharpness(top[0], 0.1, steps=1, starts=0, directions=top[1][:, 3:])
    assert known.value == pytest.approx(0.045, rel=1e-9)
    with pytest.raises(ValueError, match="rho = 0"):
        worst_sharpness(objective, 0)


@pytest.mark.parametrize("scale", [1e-24, 1e-34])
def test_a_gradient_too_small_to_be_squared_does_not_lead_out_of_the_ball(scale):
    H, theta = torch.diag(torch.tensor([1.0, 3.0, 8.0])), torch.tensor([0.3, -0.2, 0.5])
    small, large = (
        worst_sharpness(Objective(Parabola(H * s, theta), torch.zeros(6, 3), torch.zeros(6), loss=mean_of_outputs), 0.1)
        for s in (scale, 1.0)
    )
    assert np.array(small) / scale == pytest.approx(np.array(large), rel=1e-3)


def test_average_sharpness_of_a_quadratic_is_the_trace():
    objective, _ = parabola()
    found = average_sharpness(objective, 0.1, directions=400)
    assert abs(found.value - 0.5 * 0.01 * VALUES.sum() / SIZE) < 4 * found.se


def rectified(a=1.0):
    """A net with rectifiers; its first layer times a, the next layer's weights divided by a: the same function."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        for p in (net[0].weight, net[0].bias):
            p.mul_(a)
        net[3].weight.div_(a)
    return Objective(net, torch.randn(20, 1, 4, 4), torch.randint(3, (20,)), dtype=F64)


def test_filter_normalised_sharpness_does_not_see_a_rescaling_and_sam_does():
    one, other = rectified(), rectified(7.0)
    assert one.loss() == pytest.approx(other.loss(), rel=1e-6)
    for measure in (
        lambda o: average_sharpness(o, 0.1, scale=filter_scale(o)).value,
        lambda o: worst_sharpness(o, 0.3, scale=filter_scale(o)).value,
        lambda o: worst_sharpness(o, 0.3, scale=filter_scale(o)).first_order,
    ):
        assert measure(one) == pytest.approx(measure(other), rel=1e-4)
    assert worst_sharpness(other, 0.05).value > 2 * worst_sharpness(one, 0.05).value


def test_filter_scale_is_the_filters_norm():
    objective = rectified()
    scales, parts = objective.split(filter_scale(objective)), objective.split(objective.theta)
    torch.testing.assert_close(scales["0.weight"][1], parts["0.weight"][1].norm().expand(1, 3, 3))
    torch.testing.assert_close(scales["3.weight"][2], parts["3.weight"][2].norm().expand(12))
    torch.testing.assert_close(scales["0.bias"], parts["0.bias"].abs())


def test_surface_of_a_quadratic():
    objective, U = parabola()
    told = []
    found = loss_surface(objective, U[:, -1], U[:, 0], radius=0.5, points=5, progress=told.append)
    a, b = np.meshgrid(found.steps, found.steps, indexing="ij")
    np.testing.assert_allclose(found.loss, 5 * a**2 - 1.5 * b**2, atol=1e-12)
    assert sum(told) == 25


def test_logistic_regression_has_the_hessian_of_the_textbook():
    torch.manual_seed(0)
    x, y = torch.randn(400, 2, dtype=F64), torch.randint(2, (400,)).double()
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -0.5]]))
    objective = Objective(
        model, x, y, dtype=F64, loss=lambda out, t: nn.functional.binary_cross_entropy_with_logits(out[:, 0], t)
    )
    p = torch.sigmoid(x @ model.weight.detach().double()[0])
    H = (x.T * (p * (1 - p))) @ x / 400
    torch.testing.assert_close(objective.hessian(), H, rtol=1e-10, atol=1e-12)
    expected = torch.linalg.eigvalsh(H)
    assert top_eigenpairs(objective, 1, tol=1e-10).values[0] == pytest.approx(expected[-1].item(), rel=1e-8)


def test_no_convergence_is_said(monkeypatch):
    real = eigenpairs.eigsh
    monkeypatch.setattr(eigenpairs, "eigsh", lambda *a, **o: real(*a, **{**o, "maxiter": 1, "ncv": 4}))
    objective, _ = parabola()
    with pytest.raises(UserError, match="of 3 eigenvalues had converged"):
        top_eigenpairs(objective, 3, tol=1e-14)


def test_the_eigenvalues_of_a_dead_net_are_0():
    dead = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        dead[0].bias.fill_(-100)
        dead[2].weight.zero_()
    objective = Objective(dead, torch.zeros(5, 3), torch.zeros(5, 2), loss=lambda y, t: (y - y.detach()).sum())
    pairs = top_eigenpairs(objective, 2)
    assert pairs.values.tolist() == [0, 0]
    assert pairs.residuals.tolist() == [0, 0]
    torch.testing.assert_close(pairs.vectors.T @ pairs.vectors, torch.eye(2), atol=1e-6, rtol=0)
