"""Largest stable learning rates, compared with the spectral radius of the optimizer's own step."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from adai import Adai
from adai.optim import rule
from adai.theory import exact, stability
from adai.theory.stability import largest_stable_lr, limit, margin, top_eigenvalue
from tests.tolerance import approx

PAIRS = 2000
H3 = [[2, 0.5, 0], [0.5, 1, 0.3], [0, 0.3, 0.2]]
MU3 = [0.1, 0.9, 0.99]
FROZEN = 1 - 1e-16  # a beta2 with which v̂ stays what it is


def torch_step(make, **state):
    """A step on θᵀHθ/2 by a torch optimizer, from θ and m; ``state`` is what else it keeps."""

    def step(H, lr, theta, m):
        theta = theta.clone()
        optimizer = make(theta, lr)
        theta.grad = H @ theta
        momentum = "exp_avg" if isinstance(optimizer, torch.optim.Adam) else "momentum_buffer"
        frozen = {key: value.expand_as(m).clone() if value.ndim else value for key, value in state.items()}
        optimizer.state[theta] = {**frozen, momentum: m.clone()}
        optimizer.step()
        return theta, optimizer.state[theta][momentum]

    return step


def sgd(**options):
    return torch_step(lambda theta, lr: torch.optim.SGD([theta], lr=lr, **options))


def rmsprop(P, momentum):
    options = {"alpha": FROZEN, "eps": 0.0, "momentum": momentum, "foreach": False}
    return torch_step(
        lambda theta, lr: torch.optim.RMSprop([theta], lr=lr, **options), square_avg=P**2, step=torch.tensor(1.0)
    )


def adam(P, beta1, make=torch.optim.Adam, **options):
    options |= {"betas": (beta1, FROZEN), "eps": 0.0, "foreach": False}
    return torch_step(lambda theta, lr: make([theta], lr=lr, **options), exp_avg_sq=P**2, step=torch.tensor(1e18))


def adai(mu, *, dampening=1.0, l2=0.0, decoupled=0.0):
    """The reference rule of the engines, with a v̂ that gives the inertia mu."""
    beta0 = 0.1
    v = ((1 - mu) / beta0) ** (3 - 2 * dampening)
    options = {"beta0": beta0, "eps": 0.0, "min_inertia": 0.0, "decay": decoupled, "dampening": dampening}

    def step(H, lr, theta, m):
        g = rule.gradient(theta, H @ theta, weight_decay=l2, maximize=False)
        count = rule.Count(1, 1.0, 0.0)
        return rule.update(theta, g, m, v, None, count=count, mean=rule.Mean(1.0), lr=lr, **options)[:2]

    return step


def shrinking(step, decay):
    """With the decoupled weight decay that torch's SGD does not have."""

    def shrunk(H, lr, theta, m):
        moved, m = step(H, lr, theta, m)
        return moved - lr * decay * theta, m

    return shrunk


def cases(rng, pairs, n):
    """Of every rule, with random options: step weight, step, and the decay that is in the step."""
    b, d, l2, decay = rng.uniform(0.05, 0.98), rng.uniform(0, 0.9), *10 ** rng.uniform(-2, -0.3, 2)
    P = 10 ** rng.uniform(-2, 1, (pairs, n))
    w = 10 ** rng.uniform(-3, 0, (pairs, n))
    mu = np.where(rng.uniform(size=w.shape) < 0.1, 0.0, 1 - w)  # a tenth of the parameters has no inertia
    P_, mu_ = (torch.from_numpy(x)[..., None] for x in (P, mu))
    return {
        "SGD": (stability.sgd(), sgd(momentum=1e-300), {}),  # with 0 it keeps no momentum to look at
        "heavy ball": (stability.heavy_ball(b), sgd(momentum=b), {}),
        "heavy ball, dampening": (stability.heavy_ball(b, d), sgd(momentum=b, dampening=d), {}),
        "heavy ball, L2": (stability.heavy_ball(b), sgd(momentum=b, weight_decay=l2), {"l2": l2}),
        "Nesterov": (stability.nesterov(b), sgd(momentum=b, nesterov=True), {}),
        "Nesterov, decoupled": (
            stability.nesterov(b),
            shrinking(sgd(momentum=b, nesterov=True), decay),
            {"decoupled": decay},
        ),
        "EMA": (stability.ema(b), sgd(momentum=b, dampening=b), {}),
        "EMA, L2": (stability.ema(b), sgd(momentum=b, dampening=b, weight_decay=l2), {"l2": l2}),
        "RMSprop": (stability.rmsprop(P), rmsprop(P_, 1e-300), {}),
        "RMSprop, momentum": (stability.rmsprop(P, b), rmsprop(P_, b), {}),
        "Adam": (stability.adam(P, b), adam(P_, b), {}),
        "Adam, L2": (stability.adam(P, b), adam(P_, b, weight_decay=l2), {"l2": l2}),
        "AdamW": (stability.adam(P, b), adam(P_, b, torch.optim.AdamW, weight_decay=decay), {"decoupled": decay}),
        "Adai": (stability.adai(mu), adai(mu_), {}),
        "Adai, L2": (stability.adai(mu), adai(mu_, l2=l2), {"l2": l2}),
        "AdaiW": (stability.adai(mu), adai(mu_, decoupled=decay), {"decoupled": decay}),
        "Adai, L2 and decoupled": (
            stability.adai(mu),
            adai(mu_, l2=l2, decoupled=decay),
            {"l2": l2, "decoupled": decay},
        ),
        "Adai, dampening": (stability.adai(mu, d), adai(mu_, dampening=d), {}),
    }


def hessians(rng, pairs, n, weight, *, l2=0.0, decoupled=0.0):
    """Random Hessians that are stable with this step weight and decay up to a learning rate of 1."""
    directions = np.linalg.qr(rng.standard_normal((pairs, n, n)))[0]
    H = np.einsum("pij,pj,pkj->pik", directions, 10 ** rng.uniform(-2, 1, (pairs, n)), directions)
    H *= ((2 - decoupled) / top_eigenvalue(H, weight))[:, None, None]
    return (H + H.swapaxes(1, 2)) / 2 - l2 * np.eye(n)


def radii(step, H, lr):
    """Spectral radius of a linear step. Applying it to the identity gives its matrix, for all pairs at once."""
    pairs, n, _ = H.shape
    theta, m = torch.eye(2 * n, dtype=torch.float64).expand(pairs, -1, -1).split(n, dim=1)
    after = torch.cat(list(step(torch.from_numpy(H), lr, theta.clone(), m.clone())), dim=1)
    return np.abs(np.linalg.eigvals(after.numpy())).max(-1)


@pytest.mark.parametrize("name", cases(np.random.default_rng(0), 1, 1))
def test_the_step_matrix_is_stable_below_the_limit_and_not_above(name):
    rng = np.random.default_rng(len(name))
    failures = checked = 0
    for n in (1, 2, 3, 4, 6):
        pairs = PAIRS // 5
        weight, step, decay = cases(rng, pairs, n)[name]
        H = hessians(rng, pairs, n, weight, **decay)
        np.testing.assert_allclose(largest_stable_lr(H, weight, **decay), 1, rtol=1e-11)
        failures += np.sum(radii(step, H, 0.999) >= 1) + np.sum(radii(step, H, 1.001) <= 1)
        checked += pairs
    assert (checked, failures) == (PAIRS, 0)


def test_the_numbers_at_hand():
    assert top_eigenvalue(H3, stability.adai(np.array(MU3))) == approx(1.6431323525647152)
    assert largest_stable_lr(H3, stability.adai(np.array(MU3))) == approx(1.2171874023892604)
    assert largest_stable_lr(H3, stability.ema(0.9)) == approx(17.16480619507032)
    assert largest_stable_lr(1.0, stability.heavy_ball(0.9)) == approx(3.8)
    assert largest_stable_lr(1.0, stability.nesterov(0.9)) == approx(1.3571428571428572)
    assert largest_stable_lr(1.0, stability.adam(1.0, 0.9)) == approx(38)
    assert stability.ema(0.9) == approx(1 / 19)
    assert stability.adai(0.7) == approx(3 / 17)


def test_min_inertia_bounds_the_weight_and_so_the_rate():
    rng = np.random.default_rng(0)
    V = 10 ** rng.uniform(-4, 2, (50, 8))
    mu = exact.adai_inertia(0.1, V, min_inertia=0.7)
    assert mu.min() == approx(0.7)
    assert mu.max() <= 0.999
    assert np.all(exact.adai_inertia(0.1, V) <= mu)
    H = hessians(rng, 50, 8, 1.0)
    assert np.all(largest_stable_lr(H, stability.adai(mu)) >= largest_stable_lr(H, stability.adai(0.7)) * (1 - 1e-12))


@pytest.mark.parametrize("n", [1, 2, 40])
def test_products_give_what_the_matrix_gives(n):
    rng = np.random.default_rng(n)
    H = hessians(rng, 1, n, 1.0)[0]
    weight = stability.adai(rng.uniform(0, 0.999, n))
    operator = LinearOperator((n, n), matvec=lambda x: H @ x, dtype=np.float64)
    for options in ({}, {"l2": 0.3}, {"decoupled": 0.3}):
        assert largest_stable_lr(operator, weight, **options) == approx(
            float(largest_stable_lr(H, weight, **options)), rel=1e-10
        )
    assert top_eigenvalue(operator, 0.5) == approx(float(top_eigenvalue(H, 0.5)), rel=1e-10)


def test_the_margin_is_the_rate_over_the_limit():
    assert margin(0.3, 4.0, 0.5) == approx(0.3 / float(limit(4.0, 0.5)))
    assert margin(0.3, -1.0) == 0
    assert limit(-1.0) == np.inf
    assert largest_stable_lr([[-1, 0], [0, 0]]) == np.inf


def test_a_weight_of_a_tensor_is_a_tensor():
    mu = torch.tensor([0.0, 0.9], dtype=torch.bfloat16)
    for weight in (stability.adai(mu), stability.ema(mu), stability.heavy_ball(mu), stability.rmsprop(1 + mu)):
        assert isinstance(weight, torch.Tensor)
        assert weight.dtype == torch.bfloat16


def test_the_start_is_plain_sgd_and_ends_as_the_average():
    assert stability.start([0.0, 0.9, 0.999], 1).tolist() == [1, 1, 1]
    np.testing.assert_allclose(stability.start([0.0, 0.9], 10**4), stability.adai(np.array([0.0, 0.9])), rtol=1e-12)
    np.testing.assert_allclose(stability.start(1 - 1e-7, 50), 1 / 100, rtol=1e-5)
    assert np.all(np.diff(stability.start(0.99, np.arange(1, 500))) < 0)
    with pytest.raises(ValueError, match="T = 0, but has to be 1 or above"):
        stability.start(0.9, [3, 0])


@pytest.mark.parametrize("t", [2, 7, 40])
def test_the_start_weight_is_that_of_the_step_with_the_correction_frozen(t):
    def step(H, lr, theta, m, mu=0.9):
        m = mu * m + (1 - mu) * H @ theta
        return theta - lr * m / (1 - mu**t), m

    H = np.array([[[2 / float(stability.start(0.9, t))]]])
    assert radii(step, H, 0.999) < 1 < radii(step, H, 1.001)


@pytest.mark.parametrize("mu", [0.0, 0.5, 0.9, 0.99])
def test_a_bias_corrected_start_grows_above_two_whatever_the_inertia(mu):
    assert stability.largest_excursion(1.0, 1.99, mu, corrected=True) == 1
    assert stability.largest_excursion(1.0, 2.01, mu, corrected=True) >= 1.01 * (1 - 1e-12)


@pytest.mark.parametrize(
    ("make", "corrected"),
    [
        (lambda theta: Adai([theta], lr=7.0), True),  # of one element the inertia is 1 - beta0 = 0.9
        (lambda theta: torch.optim.SGD([theta], lr=0.7, momentum=0.9), False),
    ],
)
def test_the_excursion_is_that_of_the_optimizers(make, corrected):
    theta = torch.ones(1, dtype=torch.float64)
    optimizer = make(theta)
    largest = 1.0
    for _ in range(300):
        theta.grad = 5 * theta
        optimizer.step()
        largest = max(largest, abs(float(theta)))
    assert stability.largest_excursion(7.0, 5.0, 0.9, corrected=corrected) == approx(largest, rel=1e-9)
    assert largest > 3


@pytest.mark.parametrize(
    ("H", "weight", "options", "message"),
    [
        ([1.0, 2.0], 1.0, {}, r"H has the shape \(2,\), but has to be one eigenvalue or a square matrix"),
        ([[1.0, 2.0]], 1.0, {}, r"H has the shape \(1, 2\)"),
        ([[1.0, 2.0], [3.0, 1.0]], 1.0, {}, "H is not symmetric: an element and its mirror image differ by 1"),
        ([[1.0, np.nan], [np.nan, 1.0]], 1.0, {}, "H = nan, but has to be finite"),
        (H3, [1.0, 2.0], {}, "2 step weights for the 3 parameters of H"),
        (H3, -1.0, {}, "step_weight = -1, but has to be 0 or above"),
        (H3, 1.0, {"l2": -1.0}, "weight_decay = -1, but has to be 0 or above"),
        (H3, 1.0, {"decoupled": -1.0}, "weight_decay = -1, but has to be 0 or above"),
        (aslinearoperator(np.ones((2, 3))), 1.0, {}, r"a Hessian of shape \(2, 3\)"),
    ],
)
def test_an_invalid_hessian_is_refused(H, weight, options, message):
    with pytest.raises(ValueError, match=message):
        largest_stable_lr(H, weight, **options)
