"""Gradient noise against naive loops, closed forms and scipy."""

import math
from itertools import combinations, pairwise, product

import numpy as np
import pytest
import torch
from scipy.stats import anderson, cauchy, kstest, levy_stable, pareto
from torch import nn

from adai.lab.measure.noise.covariance import Directions, batch_factor, eigenbasis, eq5, noise_covariance, projected
from adai.lab.measure.noise.measure import noise_laws
from adai.lab.measure.noise.normality import anderson_darling, kolmogorov_smirnov, rejected
from adai.lab.measure.noise.sampling import Noise, minibatch_noise
from adai.lab.measure.noise.scale import noise_scale
from adai.lab.measure.noise.stable import Stable, fit_stable
from adai.lab.measure.noise.tail import hill, mohammadi
from adai.lab.measure.objective import Objective
from adai.report.eq5 import decades

pytestmark = pytest.mark.slow

F64 = torch.float64


def small(n=30, **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    return Objective(net, torch.randn(n, 4), torch.randint(3, (n,)), dtype=F64, batch=7, **options)


def regression(n=4000, noise=1.0):
    """½(y − xᵀθ)² at the truth: C₁ = noise² H in expectation."""
    torch.manual_seed(0)
    x = torch.randn(n, 3, dtype=F64) @ torch.diag(torch.tensor([1.0, 2.0, 0.5], dtype=F64))
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    y = x @ model.weight.detach().double()[0] + noise * torch.randn(n, dtype=F64)
    return x, y, Objective(model, x, y, dtype=F64, loss=lambda out, t: ((out[:, 0] - t) ** 2).mean() / 2)


# --- covariance ------------------------------------------------------------------------------------------------------


def test_covariance_is_centred_and_that_of_a_naive_loop():
    objective = small()
    gradients = [objective.minibatch_gradient(torch.tensor([i])) for i in range(30)]
    mean = sum(gradients) / 30
    naive = sum(torch.outer(g - mean, g - mean) for g in gradients) / 30
    assert mean.norm() > 0.1  # not near a critical point: without centring it would show
    told = []
    torch.testing.assert_close(noise_covariance(objective, progress=told.append), naive, rtol=1e-10, atol=1e-14)
    assert sum(told) == 30
    U = torch.linalg.qr(torch.randn(objective.size, 6, dtype=F64)).Q
    torch.testing.assert_close(noise_covariance(objective, U), U.T @ naive @ U, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("replacement", [False, True])
def test_batch_factor_is_the_exact_variance_of_a_minibatch_mean(replacement):
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    draws = product(values, repeat=2) if replacement else combinations(values, 2)
    assert np.var([np.mean(d) for d in draws]) == pytest.approx(
        batch_factor(2, 5, replacement=replacement) * values.var()
    )
    assert batch_factor(5, 5) == 0
    with pytest.raises(ValueError, match="B = 6"):
        batch_factor(6, 5)


def test_linear_regression_at_the_truth_has_c_equal_h_only_for_residual_variance_1():
    for noise in (1.0, 0.5):
        x, y, objective = regression(noise=noise)
        residual = y - x @ objective.theta
        g = -residual[:, None] * x
        C = (g - g.mean(0)).T @ (g - g.mean(0)) / len(y)
        torch.testing.assert_close(noise_covariance(objective), C, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(objective.hessian(), x.T @ x / len(y), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(C, noise**2 * objective.hessian(), rtol=0.1, atol=0.1)
        fit = eq5(eigenbasis(objective), 10, low=1e-3, high=10)
        assert fit.slope.value == pytest.approx(1, abs=0.1)
        assert fit.factor.value == pytest.approx(noise**2, rel=0.1)


def test_logistic_regression_at_the_truth_is_the_textbooks():
    torch.manual_seed(0)
    x = torch.randn(20000, 2, dtype=F64)
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -0.5]]))
    y = torch.bernoulli(torch.sigmoid(x @ torch.tensor([1.0, -0.5], dtype=F64)))
    loss = nn.functional.binary_cross_entropy_with_logits
    objective = Objective(model, x, y, dtype=F64, loss=lambda out, t: loss(out[:, 0], t))
    known = torch.tensor([[0.144084, 0.027602], [0.027602, 0.185487]], dtype=F64)
    torch.testing.assert_close(objective.hessian(), known, rtol=0, atol=0.006)
    torch.testing.assert_close(noise_covariance(objective), known, rtol=0, atol=0.006)


def test_directions_of_the_eigenbasis_and_of_projections():
    objective = small()
    H, C = objective.hessian(), noise_covariance(objective)
    values, U = torch.linalg.eigh(H)
    rotated = U.T @ C @ U
    found = eigenbasis(objective)
    np.testing.assert_allclose(found.H, values, rtol=1e-10)
    np.testing.assert_allclose(found.C, rotated.diagonal(), rtol=1e-6, atol=1e-12)
    off = rotated - torch.diag(rotated.diagonal())
    assert found.off_diagonal == pytest.approx(float(off.norm() / C.norm()), rel=1e-8)
    assert 0 < found.correlation < 1
    assert found.exact
    part = projected(objective, U[:, -2:].flip(1), random=5)
    assert part.kind == ("eigenvector",) * 2 + ("random",) * 5
    np.testing.assert_allclose(part.H[:2], [values[-1], values[-2]], rtol=1e-9)
    np.testing.assert_allclose(part.C[:2], [rotated[-1, -1], rotated[-2, -2]], rtol=1e-8)
    assert not part.exact


def test_eq5_takes_the_range_and_finds_a_line():
    H = np.geomspace(1e-6, 10, 400)
    rng = np.random.default_rng(0)
    C = 0.3 * H**1.2 * np.exp(0.1 * rng.standard_normal(400))
    directions = Directions(H, C, 0.0, 0.0, True, ("eigenvector",) * 400, samples=10**6)
    fit = eq5(directions, 10)
    assert fit.directions == np.sum((H >= 1e-4) & (H <= 0.5))
    assert fit.slope.low < 1.2 < fit.slope.high
    assert fit.slope.high - fit.slope.low < 0.02
    assert fit.correlation.low < fit.correlation.value < fit.correlation.high <= 1
    inside = (H >= 1e-4) & (H <= 0.5)
    assert fit.factor.value == pytest.approx(np.exp(np.mean(np.log(C[inside] / H[inside]))), rel=1e-4)
    assert eq5(directions, 10, low=0.5, high=0.5) is None


def test_decades_of_H_have_each_their_factor():
    H = np.array([-1.0, 1e-5, 2e-4, 5e-4, 1e-3, 0.5, 3.0])
    C = np.array([1.0, 1.0, 2e-4, 4.5e-4, 1e-3 / 4, 0.25, 6.0])
    found = decades({"net": Directions(H, C, 0.0, 0.0, True, ("eigenvector",) * len(H), samples=100)})
    assert [(row.low, row.high) for row in found] == list(pairwise([1e-4, 1e-3, 1e-2, 0.1, 0.5, math.inf]))
    assert [row.directions for row in found] == [2, 1, 0, 0, 2]
    assert [row.factor for row in found] == [pytest.approx(math.sqrt(0.9)), 0.25, None, None, pytest.approx(1)]


# --- sampling --------------------------------------------------------------------------------------------------------


def test_minibatch_noise_is_gradient_minus_full_gradient_with_the_covariance_that_theory_gives():
    objective = small()
    noise = minibatch_noise(objective, B=6, minibatches=3000, parameters=1000)
    assert list(noise.parameters) == list(range(objective.size))
    np.testing.assert_allclose(noise.across_parameters, noise.across_minibatches[0])
    np.testing.assert_allclose(noise.squares, (noise.across_minibatches**2).sum(axis=1))
    C = noise_covariance(objective) * batch_factor(6, 30)
    measured = noise.across_minibatches.T @ noise.across_minibatches / 3000
    assert np.abs(measured - C.numpy()).max() < 0.12 * C.max()
    scale = noise_scale(noise)
    assert abs(scale.trace - noise_covariance(objective).trace().item()) < 4 * scale.trace_se
    assert scale.simple.low < noise_covariance(objective).trace().item() / noise.gradient_square < scale.simple.high
    assert scale.ratio == pytest.approx(noise.gradient_square / noise.squares.mean())
    few = minibatch_noise(objective, B=6, minibatches=5, parameters=4)
    assert few.across_minibatches.shape == (5, 4)
    np.testing.assert_allclose(few.gradient, objective.gradient()[torch.from_numpy(few.parameters)])


def test_bad_batches_are_named():
    with pytest.raises(ValueError, match="B = 31.*30"):
        minibatch_noise(small(), B=31)
    whole = minibatch_noise(small(), B=30, minibatches=2)
    np.testing.assert_allclose(whole.squares, 0, atol=1e-20)
    with pytest.raises(ValueError, match="no noise"):
        noise_scale(whole)


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.8, 1.2, 1.5, 1.8, 2.0])
def test_stable_fit_and_mohammadis_index_find_what_scipy_drew(alpha):
    x = levy_stable.rvs(alpha, 0, loc=5, scale=3, size=20000, random_state=1)
    fit = fit_stable(x)
    assert fit.alpha == pytest.approx(alpha, abs=0.03)
    assert fit.scale == pytest.approx(3, rel=0.04)
    assert fit.location == pytest.approx(5, abs=0.2)
    assert mohammadi(x - 5) == pytest.approx(alpha, abs=0.08)


def test_stable_density_is_cauchys_and_the_gaussians():
    x = np.array([-2.0, 0.0, 0.5, 3.0])
    np.testing.assert_allclose(Stable(1.0, 0.5, 2.0).density(x), cauchy.pdf(x, 0.5, 2), rtol=1e-6)
    np.testing.assert_allclose(Stable(2.0, 0.0, 1.0).density(x), np.exp(-(x**2) / 4) / np.sqrt(4 * np.pi), rtol=1e-6)
    assert fit_stable(Stable(1.5, 0.0, 1.0).draw(20000)).alpha == pytest.approx(1.5, abs=0.04)


def test_many_scales_of_gaussians_look_heavy_tailed_across_and_not_along():
    """The paper's objection: each parameter is Gaussian, but scales differ, and α across parameters is far below 2."""
    rng = np.random.default_rng(0)
    scales = np.exp(2 * rng.standard_normal(5000))
    assert fit_stable(scales * rng.standard_normal(5000)).alpha < 1.2
    assert mohammadi(scales * rng.standard_normal(5000)) < 1.5
    assert fit_stable(scales[0] * rng.standard_normal(5000)).alpha > 1.95


def test_hill_finds_a_pareto_tail_and_its_standard_error():
    found = [hill(pareto.rvs(2.5, size=4000, random_state=i)) for i in range(50)]
    alphas = np.array([f.alpha for f in found])
    assert alphas.mean() == pytest.approx(2.5, abs=4 * alphas.std() / 50**0.5)
    assert found[0].se == pytest.approx(alphas.std(), rel=0.35)


def test_mohammadi_shuffles_correlated_values():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.standard_normal(400), 100)  # blocks of equal values: their sums grow in proportion
    assert mohammadi(x, seed=None) < 1.3
    assert mohammadi(x) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_stable(np.zeros(50)), "quartiles 0 and 0"),
        (lambda: fit_stable(np.arange(5.0)), "5 values"),
        (lambda: mohammadi(np.zeros(50)), "0 values other than 0"),
        (lambda: hill(np.ones(100), share=1.5), "share = 1.5"),
        (lambda: rejected(np.zeros((20, 3))), "no parameter has noise"),
        (lambda: rejected(np.zeros((5, 3))), "5 minibatches"),
    ],
)
def test_what_cannot_be_estimated_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- normality -------------------------------------------------------------------------------------------------------


def test_statistics_are_scipys():
    x = np.random.default_rng(0).gamma(5, size=(60, 4))
    A = anderson_darling(x) / (1 + 0.75 / 60 + 2.25 / 60**2)
    D = kolmogorov_smirnov(x) / (60**0.5 - 0.01 + 0.85 / 60**0.5)
    for j in range(4):
        z = (x[:, j] - x[:, j].mean()) / x[:, j].std(ddof=1)
        assert A[j] == pytest.approx(anderson(x[:, j], method="interpolate").statistic, rel=1e-10)
        assert D[j] == pytest.approx(kstest(z, "norm").statistic, rel=1e-10)


@pytest.mark.parametrize("m", [20, 100, 500])
def test_tests_reject_a_gaussian_at_five_percent(m):
    for result in rejected(np.random.default_rng(7).normal(3, 9, (m, 3000)), simulated=3000):
        assert 0.035 < result.share < 0.07
        assert 0.035 < result.gaussian.value < 0.07
        assert result.gaussian.low < 0.053 + 0.01
        assert result.parameters == 3000


def test_tests_reject_heavy_tails_and_leave_still_parameters_out():
    x = np.random.default_rng(0).standard_t(3, size=(300, 50))
    x[:, :10] = 0.1  # whose mean is not quite 0.1
    for result in rejected(x):
        assert result.share > 0.85
        assert result.parameters == 40


@pytest.mark.parametrize(("minibatches", "size", "what"), [(39, 50, "39 minibatches"), (50, 39, "39 parameters")])
def test_too_few_values_for_a_tail_are_said(minibatches, size, what):
    columns = np.random.default_rng(0).standard_normal((minibatches, size))
    noise = Noise(10, 1000, columns[0], columns, np.arange(size), np.ones(size), (columns**2).sum(1), 60.0)
    with pytest.raises(ValueError, match=f"noise of {what}, but tail indices need at least 40"):
        noise_laws(noise)


def test_laws_of_gaussian_parameters_of_unlike_scales():
    rng = np.random.default_rng(0)
    scales = np.exp(2 * rng.standard_normal(60))
    across = np.exp(2 * rng.standard_normal(4000)) * rng.standard_normal(4000)
    columns = rng.standard_normal((400, 60)) * scales
    columns[:, 0], columns[:, 1] = 0, 0
    columns[5, 1] = 1  # noise in one minibatch alone: tested, not fitted
    noise = Noise(10, 1000, across, columns, np.arange(60), np.ones(60), (columns**2).sum(1), 60.0)
    laws = noise_laws(noise)
    assert (laws.still, laws.sparse, len(laws.minibatches)) == (1, 1, 58)
    assert laws.tests[0].parameters == 59
    assert laws.parameters.stable.alpha < 1.2
    assert np.median([law.stable.alpha for law in laws.minibatches.values()]) > 1.9
    alphas = sorted(law.stable.alpha for law in laws.minibatches.values())
    assert laws.minibatches[laws.typical].stable.alpha == alphas[29]
    assert laws.tests[0].share < 0.2
