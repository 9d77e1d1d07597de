"""The update rule: Algorithm 2, held against an independent transcription, printed numbers and its own properties."""

import numpy as np
import pytest
import torch

from adai import Adai, AdaiW
from adai.optim import rule
from tests.transcription import Transcription

# ground truth: lr 0.1, beta 0.1 and 0.99, eps 1e-3, theta_0 = 0
GRADIENTS = [[1, 2, -0.5, 0], [0.5, -1, 0.25, 0], [-2, 0.1, 3, 0], [1, 1, 1, 0]]
MU = [
    [0.923809524, 0.695238095, 0.980952381, 0.999],
    [0.923809524, 0.695238095, 0.980952381, 0.999],
    [0.892518594, 0.898834741, 0.808646665, 0.999],
    [0.889034562, 0.894499489, 0.816465949, 0.999],
]
THETA = [
    [-0.1, -0.2, 0.05, 0],
    [-0.174009901, -0.223033708, 0.062139423, 0],
    [-0.124433665, -0.243735924, -0.194933402, 0],
    [-0.126271607, -0.278121905, -0.372955456, 0],
]


def test_printed_trajectory(engine):
    p = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = Adai([p], lr=0.1, **engine)
    prod = np.ones(4)
    for g, mu, theta in zip(GRADIENTS, MU, THETA, strict=True):
        p.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
        prod *= mu
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=0, atol=5.1e-10)
        np.testing.assert_allclose(1 - optimizer.state[p]["bias_correction"].numpy(), prod, rtol=0, atol=3e-9)


SHAPES = [[(3, 4), (), (5,)], [(2, 3, 2), (7, 1)]]
OPTIONS = {
    "plain": [{}, {}],
    "l2": [{"weight_decay": 0.03}, {"weight_decay": 0.0}],
    "decoupled": [{"weight_decay": 0.3, "decoupled": True}, {"weight_decay": 0.1, "decoupled": True}],
    "mixed": [
        {"lr": 0.3, "betas": (1.0, 0.9), "eps": 0.2, "maximize": True, "weight_decay": 0.01},
        {"lr": 0.01, "betas": (0.05, 0.0), "eps": 1e-4, "weight_decay": 0.1, "decoupled": True},
    ],
    "floor": [{"min_inertia": 0.7}, {"min_inertia": 0.95, "eps": 0.05, "dampening": 0.9}],
    "warm-up": [{"warmup_steps": 30}, {"warmup_steps": 7, "weight_decay": 0.3, "decoupled": True, "min_inertia": 0.5}],
    "adaiv2": [{"dampening": 0.9}, {"dampening": 0.0, "betas": (0.2, 0.95)}],
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_long_run_equals_the_transcription(engine, steps, case):
    """Two groups, five tensors; one layer is unfrozen after a quarter, and one loses its gradient now and then."""
    rng = np.random.default_rng(1)
    base = {"lr": 0.05, "betas": (0.1, 0.99), "eps": 1e-3, "weight_decay": 0.0}
    options = [{**base, **given} for given in OPTIONS[case]]
    arrays = [[rng.standard_normal(shape) for shape in shapes] for shapes in SHAPES]
    expected = Transcription([{**o, "params": list(a)} for o, a in zip(options, arrays, strict=True)])

    params = [[torch.tensor(a).requires_grad_() for a in group] for group in arrays]
    groups = []
    for o, ps in zip(options, params, strict=True):
        torch_options = {("decoupled_weight_decay" if k == "decoupled" else k): v for k, v in o.items()}
        groups.append({"params": ps, **torch_options})
    optimizer = Adai(groups, **engine)

    for t in range(steps):
        gradients = [[rng.standard_normal(a.shape) * 10 ** rng.uniform(-3, 1) for a in group] for group in arrays]
        if t < steps // 4:
            gradients[0][2] = None
        if t % 7 == 3:
            gradients[1][0] = None
        expected.step(gradients)
        for ps, gs in zip(params, gradients, strict=True):
            for p, g in zip(ps, gs, strict=True):
                p.grad = None if g is None else torch.tensor(g)
        optimizer.step()

    for ps, group, states in zip(params, expected.groups, expected.state, strict=True):
        for p, theta, s in zip(ps, group["params"], states, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-12, atol=1e-12)
            assert optimizer.state[p]["step"] == s["t"]


def test_first_step_is_lr_times_gradient(engine, tensors):
    params = tensors()
    before = [p.detach().clone() for p in params]
    Adai(params, lr=0.3, **engine).step()
    for p, old in zip(params, before, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.3 * p.grad, rtol=1e-15, atol=1e-15)


def test_constant_gradient_is_sgd(engine, tensors):
    params = tensors()
    before = [p.detach().clone() for p in params]
    optimizer = Adai(params, lr=0.01, **engine)
    for _ in range(30):
        optimizer.step()
    for p, old in zip(params, before, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.3 * p.grad, rtol=1e-13, atol=1e-13)


def test_all_inertia_equal_is_an_average_with_bias_correction(engine):
    """The control of every claim for adaptivity: momentum 0.9 as an average, whatever the gradients."""
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = Adai([p], lr=0.5, eps=0.1, min_inertia=0.9, **engine)
    theta, m = np.zeros(3), np.zeros(3)
    for t in range(1, 30):
        g = np.array([100.0, 1.0, 1e-4]) * np.cos(t)
        p.grad = torch.tensor(g)
        optimizer.step()
        m = 0.9 * m + 0.1 * g
        theta = theta - 0.5 * m / (1 - 0.9**t)
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-12)


def test_a_layer_that_comes_late_warms_up_then(engine):
    early, late = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    optimizer = Adai([early.requires_grad_(), late.requires_grad_()], lr=1.0, warmup_steps=3, **engine)
    for t in range(1, 9):
        before = early.detach().clone(), late.detach().clone()
        early.grad = torch.ones_like(early)
        late.grad = torch.ones_like(late) if t > 4 else None
        optimizer.step()
        for p, old, own in ((early, before[0], t), (late, before[1], t - 4)):
            expected = min(max(own, 0) / 4, 1.0)
            np.testing.assert_allclose((old - p.detach()).numpy(), expected, rtol=1e-12)


def test_one_dominant_coordinate_has_no_inertia(engine):
    """beta0 v̂ / mean > 1 gives mu = 0 and m = g; then 1 - Π mu is 1 for ever."""
    p = torch.zeros(20, dtype=torch.float64, requires_grad=True)
    optimizer = Adai([p], lr=1.0, **engine)
    for g in (100.0, -50.0):
        before = p.detach().clone()
        p.grad = torch.full_like(p, 0.01)
        p.grad[0] = g
        optimizer.step()
        assert optimizer.state[p]["bias_correction"][0] == 1
        assert (before - p.detach())[0] == g


def test_mean_is_over_all_groups(engine, tensors):
    """Splitting parameters into groups changes nothing; scaling one group's gradients changes the other's steps."""
    together, apart, scaled = tensors(), tensors(), tensors()
    optimizers = [
        Adai(together, **engine),
        Adai([{"params": [p]} for p in apart], **engine),
        Adai([{"params": [p]} for p in scaled], **engine),
    ]
    for t in range(3):
        for params in (together, apart, scaled):
            for p, fresh in zip(params, tensors(seed=t), strict=True):
                p.grad = fresh.grad
        scaled[1].grad = 10 * scaled[1].grad
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=1e-15)
    assert not torch.allclose(together[0], scaled[0], rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1e-6, 1e6, 1e12])
def test_scale_equivariance(engine, tensors, scale, dtype):
    """Gradients times a make steps times a; a floor on the mean of v̂ would break it."""
    moved = []
    for factor in (1.0, scale):
        params = tensors(dtype=dtype)
        for p in params:
            p.detach().zero_()
        optimizer = Adai(params, **engine)
        for t in range(5):
            for p, fresh in zip(params, tensors(dtype=dtype, seed=t), strict=True):
                p.grad = fresh.grad * factor
            optimizer.step()
        moved.append(torch.cat([p.detach().flatten() for p in params]))
    rtol = 1e-12 if dtype == torch.float64 else 1e-4 if scale < 1e-15 else 1e-5
    torch.testing.assert_close(moved[1] / scale, moved[0], rtol=rtol, atol=0)


def test_adaiw_is_adai_with_decoupled_decay(engine, tensors):
    a, b = tensors(), tensors()
    Adai(a, lr=0.1, weight_decay=5e-3, decoupled_weight_decay=True, **engine).step()
    AdaiW(b, **engine).step()
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x, y)


def test_decoupled_decay_stays_out_of_the_state(engine, tensors):
    a, b = tensors(), tensors()
    plain, decayed = Adai(a, **engine), AdaiW(b, weight_decay=0.5, **engine)
    plain.step()
    decayed.step()
    for x, y in zip(a, b, strict=True):
        assert torch.equal(plain.state[x]["exp_avg_sq"], decayed.state[y]["exp_avg_sq"])
        assert torch.equal(plain.state[x]["exp_avg"], decayed.state[y]["exp_avg"])


@pytest.mark.parametrize("options", [{}, {"eps": 0.0}, {"dampening": 0.7}, {"weight_decay": 0.1}, {"maximize": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_foreach_equals_loop(tensors, options, dtype):
    shapes = ((3, 4), (), (0,), (2, 3, 2), (6,))
    results = []
    for foreach in (False, True):
        params = tensors(shapes, dtype=dtype)
        optimizer = Adai(params, lr=0.1, foreach=foreach, **options)
        for t in range(20):
            for p, fresh in zip(params, tensors(shapes, dtype=dtype, seed=t), strict=True):
                p.grad = fresh.grad
            optimizer.step()
        results.append(params)
    tolerance = {torch.float64: 1e-13, torch.bfloat16: 1e-2}.get(dtype, 2e-6)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_debias_keeps_its_digits_in_float32():
    for t in (1.0, 7.0):
        expected = 1 - 0.9999**t
        assert rule.debias(0.9999, t) == pytest.approx(expected, rel=1e-12)
        assert rule.debias(0.9999, torch.tensor(t)).item() == pytest.approx(expected, rel=1e-6)
    assert rule.debias(0.0, torch.tensor(3.0)) == rule.debias(0.0, 3.0) == 1
