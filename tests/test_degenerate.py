"""What the paper leaves undefined or the authors' code gets wrong: no gradients, zero gradients, odd shapes."""

import copy

import pytest
import torch

from adai import Adai, AdaiW
from adai.optim import step
from adai.optim.shared.mean import gated
from tests.engines import ENGINES, each


def snapshot(optimizer):
    return copy.deepcopy([p.detach() for g in optimizer.param_groups for p in g["params"]]), copy.deepcopy(
        optimizer.state_dict()["state"]
    )


def set_gradients(params, fresh):
    for p, f in zip(params, fresh, strict=True):
        p.grad = f.grad


def assert_same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=False)


def test_no_gradient_anywhere_does_nothing(engine, tensors):
    params = tensors()
    optimizer = AdaiW(params, **engine)
    optimizer.step()
    before = snapshot(optimizer)
    optimizer.zero_grad()
    optimizer.step()
    assert_same(snapshot(optimizer), before)


@pytest.mark.parametrize("engine", each(*ENGINES), indirect=True)
@pytest.mark.parametrize("cls", [Adai, AdaiW])
@pytest.mark.parametrize("eps", [1e-3, 0.0])
def test_zero_gradients_change_nothing_then_or_later(engine, tensors, cls, eps):
    """Three steps with zero gradients, then real ones: the same as the real ones alone, bit for bit."""
    waited, straight = tensors(), tensors()
    a, b = cls(waited, eps=eps, **engine), cls(straight, eps=eps, **engine)
    start = [p.detach().clone() for p in waited]
    for _ in range(3):
        for p in waited:
            p.grad = torch.zeros_like(p)
        a.step()
    assert_same([p.detach() for p in waited], start)
    for p in waited:
        assert a.state[p]["step"] == 0
        assert not a.state[p]["exp_avg"].any()
        assert not a.state[p]["bias_correction"].any()
    for t in range(5):
        set_gradients(waited, tensors(seed=t))
        set_gradients(straight, tensors(seed=t))
        a.step()
        b.step()
        assert_same(snapshot(a), snapshot(b))


def test_zero_gradients_after_real_ones_follow_algorithm_2(engine, tensors):
    """Momentum carries on and decays: only v̄ = 0 is degenerate."""
    params = tensors()
    optimizer = Adai(params, **engine)
    optimizer.step()
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, old in zip(params, before, strict=True):
        assert p.isfinite().all()
        assert not torch.equal(p, old)


def test_zero_gradients_without_memory(engine, tensors):
    """With beta2 = 0 v̄ is 0 again at each step whose gradients are all zero: that step changes nothing."""
    params = tensors()
    optimizer = AdaiW(params, betas=(0.1, 0.0), **engine)
    optimizer.step()
    kept = [
        (p.detach().clone(), optimizer.state[p]["exp_avg"].clone(), optimizer.state[p]["bias_correction"].clone())
        for p in params
    ]
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for p, (theta, m, c) in zip(params, kept, strict=True):
        assert_same((p.detach(), optimizer.state[p]["exp_avg"], optimizer.state[p]["bias_correction"]), (theta, m, c))


@pytest.mark.parametrize("eps", [1e-3, 0.0])
def test_zero_gradient_coordinate_beside_live_ones(engine, eps):
    p = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = Adai([p], lr=1.0, eps=eps, **engine)
    for _ in range(3):
        p.grad = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
        optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([-3.0, 0.0, 6.0], dtype=torch.float64))
    p.grad = torch.ones(3, dtype=torch.float64)
    optimizer.step()
    assert p.isfinite().all()
    assert p[1] < 0


def test_zero_size_and_zero_dim_parameters(engine):
    empty, scalar = torch.zeros(0, 3, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    optimizer = Adai([empty, scalar], lr=0.5, **engine)
    empty.grad, scalar.grad = torch.zeros_like(empty), torch.tensor(2.0)
    optimizer.step()
    assert scalar.item() == 0
    assert optimizer.state[empty]["exp_avg"].shape == (0, 3)


def test_nothing_but_zero_size_parameters(engine):
    empty = torch.zeros(0, requires_grad=True)
    empty.grad = torch.zeros_like(empty)
    Adai([empty], **engine).step()


def test_a_parameter_unfrozen_late_has_its_own_bias_correction(engine, tensors):
    early, late = tensors()
    optimizer = Adai([early, late], **engine)
    gradient, late.grad = late.grad, None
    for _ in range(10):
        optimizer.step()
    late.grad = gradient
    before = late.detach().clone()
    optimizer.step()
    assert optimizer.state[early]["step"] == 11
    assert optimizer.state[late]["step"] == 1
    torch.testing.assert_close(late.detach(), before - 0.1 * gradient, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("engine", each(*ENGINES), indirect=True)
@pytest.mark.parametrize("first", [0, 2], ids=["at once", "later"])
@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_nan_spreads_to_every_parameter_wherever_it_is_decided(engine, tensors, monkeypatch, on_device, first):
    """On a GPU the host does not ask whether the mean of v̂ is 0; a nan must not be taken for a 0 there."""
    if on_device:
        monkeypatch.setattr(step, "gated", lambda v_mean, *, wait: gated(v_mean, wait=False))
    params = tensors(((3, 4), (5,), ()))
    optimizer = Adai(params, **engine)
    for t in range(4):
        set_gradients(params, tensors(((3, 4), (5,), ()), seed=t))
        if t == first:
            params[1].grad[2] = torch.nan
        optimizer.step()
        assert all(p.isnan().all() == (t >= first) for p in params)
    assert [optimizer.state[p]["step"].item() for p in params] == [4, 4, 4]
