"""`torch.amp.GradScaler`: gradients times a scale give the steps that they give without; infinite ones give none."""

import copy

import pytest
import torch

from adai import Adai
from tests.engines import ENGINES, SHAPES, assert_close, each

SCALE = 2.0**10


def scaled_step(optimizer, scaler, gradients):
    params = optimizer.param_groups[0]["params"]
    optimizer.zero_grad()
    loss = sum((p * g).sum() for p, g in zip(params, gradients, strict=True))
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def snapshot(optimizer):
    params = optimizer.param_groups[0]["params"]
    return copy.deepcopy([(p.detach(), optimizer.state[p]) for p in params])


@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"max_grad_norm": 1.0}, {"max_grad_norm": 1.0, "weight_decay": 0.1}],
    ids=str,
)
def test_the_scale_does_not_matter(engine, tensors, options):
    """The last scaler is told that gradients are divided already."""
    results = []
    for scaler in (torch.amp.GradScaler("cpu", enabled=False), torch.amp.GradScaler("cpu", init_scale=SCALE), None):
        params = tensors(SHAPES)
        optimizer = Adai(params, **options, **engine)
        for t in range(4):
            gradients = [p.grad for p in tensors(SHAPES, seed=t)]
            if scaler is not None:
                scaled_step(optimizer, scaler, gradients)
                continue
            unscaled = torch.amp.GradScaler("cpu", init_scale=SCALE)
            for p, g in zip(params, gradients, strict=True):
                p.grad = g * unscaled.scale(torch.ones(()))
            unscaled.unscale_(optimizer)
            unscaled.step(optimizer)
        results.append(params)
    assert_close(results[1], results[0], 1e-13)
    assert_close(results[2], results[0], 1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_step_with_infinite_gradients_is_left_out(engine, tensors, dtype, bad):
    """Nothing changes, the step count neither; the scale is halved and the next step is made."""
    params = tensors(dtype=dtype)
    optimizer, scaler = Adai(params, max_grad_norm=1.0, **engine), torch.amp.GradScaler("cpu", init_scale=4.0)
    gradients = [p.grad.clone() for p in params]
    scaled_step(optimizer, scaler, gradients)
    before = snapshot(optimizer)
    scaled_step(optimizer, scaler, [gradients[0] * bad, gradients[1]])
    assert scaler.get_scale() == 2.0
    torch.testing.assert_close(snapshot(optimizer), before, rtol=0, atol=0)
    scaled_step(optimizer, scaler, gradients)
    assert all(optimizer.state[p]["step"] == 2 for p in params)
    assert not torch.equal(params[0], before[0][0])


def test_the_very_first_step_may_be_left_out(engine, tensors):
    params, twins = tensors(), tensors()
    gradients = [p.grad.clone() for p in params]
    optimizer, scaler = Adai(params, **engine), torch.amp.GradScaler("cpu", init_scale=4.0)
    scaled_step(optimizer, scaler, [g * float("inf") for g in gradients])
    assert_close(params, twins, 0)
    scaled_step(optimizer, scaler, gradients)
    Adai(twins, **engine).step()
    assert_close(params, twins, 1e-14)


def test_fused_steps_divide_by_the_scale_themselves(tensors):
    """As torch.optim's do; where fused was not asked for the scaler divides, so that callers may clip afterwards."""
    for fused, left in ((True, SCALE), (None, 1.0), (False, 1.0)):
        params = tensors()
        gradients = [p.grad.clone() for p in params]
        optimizer = Adai(params, fused=fused)
        assert optimizer._step_supports_amp_scaling is bool(fused)
        scaled_step(optimizer, torch.amp.GradScaler("cpu", init_scale=SCALE), gradients)
        for p, g in zip(params, gradients, strict=True):
            assert torch.equal(p.grad, left * g)
        assert not hasattr(optimizer, "grad_scale")


@pytest.mark.parametrize("engine", each(*ENGINES), indirect=True)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "max_grad_norm": 0.5}], ids=str)
def test_every_engine_obeys_the_attributes(engine, tensors, options):
    """Whatever sets them: the scaler does so for fused=True alone."""
    a, b = tensors(), tensors()
    first, second = (Adai(params, **options, **engine) for params in (a, b))
    first.grad_scale = torch.tensor(SCALE)
    for seed, infinite in enumerate((False, True, False)):
        for p, q, fresh in zip(a, b, tensors(seed=seed), strict=True):
            p.grad, q.grad = SCALE * fresh.grad, fresh.grad
        first.found_inf = torch.tensor(float(infinite))
        if infinite:
            a[0].grad[0, 0] = float("inf")
            before = snapshot(first)
            first.step()
            torch.testing.assert_close(snapshot(first), before, rtol=0, atol=0)
        else:
            first.step()
            second.step()
            assert_close(a, b, 1e-14)
