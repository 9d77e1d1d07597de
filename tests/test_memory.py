"""Where tensors lie: layouts, addresses that change between steps, and what an engine may keep of them."""

import gc
import weakref

import pytest
import torch

from adai import Adai
from tests.engines import LOOP, assert_close, each, train


def channels_last(base, grad):
    return base.to(memory_format=torch.channels_last), grad.to(memory_format=torch.channels_last)


def permuted(base, grad):
    p = base.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
    return p, torch.empty_like(p).copy_(grad)


def odd_gradient(base, grad):
    return base.clone(), grad.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)


def expanded_gradient(base, grad):
    return base.clone(), grad[:, :1].expand_as(base)


@pytest.mark.parametrize("layout", [channels_last, permuted, odd_gradient, expanded_gradient])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_layouts(engine, layout, options, dtype):
    torch.manual_seed(0)
    base, grad = torch.randn(4, 3, 5, 2).to(dtype), torch.randn(4, 3, 5, 2).to(dtype)
    p, g = layout(base, grad)
    params = [p, base.clone(), base.clone()]
    optimizers = []
    for x, selecting in zip(params, (engine, engine, LOOP), strict=True):
        x.requires_grad_().grad = g if x is p else g.contiguous()
        optimizers.append(Adai([x], **options, **selecting))
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.step()
    p, q, reference = params
    assert_close([p], [q], torch.finfo(dtype).eps)  # the sum of squares runs through memory in another order
    if dtype == torch.float64:
        torch.testing.assert_close(p.detach(), reference.detach(), rtol=1e-13, atol=1e-14)


def test_gradients_of_another_layout_from_one_step_to_the_next(engine):
    p, q = (torch.ones(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    a, b = Adai([p], **engine), Adai([q], **LOOP)
    memory = torch.arange(12.0, dtype=torch.float64)
    for g in (memory.view(3, 4), memory.view(4, 3).t()):  # at the same address
        p.grad = q.grad = g
        a.step()
        b.step()
    assert_close([p], [q], 1e-13)


def test_a_checkpoint_of_another_layout(engine):
    q = torch.randn(2, 3, 4, 5, requires_grad=True)
    p = q.detach().to(memory_format=torch.channels_last).requires_grad_()
    p.grad = q.grad = torch.randn(2, 3, 4, 5)
    a, b = Adai([p], **engine), Adai([q], **engine)
    b.step()
    a.step()
    a.load_state_dict(b.state_dict())
    a.step()
    b.step()
    assert_close([p], [q], 1e-7)


@pytest.mark.parametrize("engine", each("fused", "triton"), indirect=True)
def test_a_parameter_without_dense_memory_is_refused(engine):
    p = torch.zeros(4, 6, requires_grad=True)[:, ::2].detach().requires_grad_()
    p.grad = torch.ones(4, 3)
    with pytest.raises(RuntimeError, match="a parameter of shape \\(4, 3\\) has strides"):
        Adai([p], **engine).step()
    assert torch.equal(p, torch.zeros(4, 3))


@pytest.mark.parametrize("engine", each("fused", "triton"), indirect=True)
def test_a_parameter_of_another_class_is_refused(engine):
    class Wrapped(torch.Tensor):
        def data_ptr(self):
            raise RuntimeError("no storage")

    p = torch.zeros(3).as_subclass(Wrapped).requires_grad_()
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="a parameter .*is a Wrapped on cpu"):
        Adai([p], **engine).step()


def test_state_that_was_moved_in_place_is_found(engine, tensors):
    a, b = tensors(), tensors()
    first, second = train(a, 3, **engine), train(b, 3, **engine)
    for p in a:
        for key in ("exp_avg", "exp_avg_sq", "bias_correction"):
            first.state[p][key].data = first.state[p][key].data.clone()
    train(a, 3, seed=1, optimizer=first)
    train(b, 3, seed=1, optimizer=second)
    assert_close(a, b, 0)


@pytest.fixture
def without_garbage_collection():
    """What is in a cycle stays: it may stay for long, as large tensors are few objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
def test_no_gradient_is_kept_after_a_step(engine, tensors):
    params = tensors(((3, 4), (5, 2)))
    optimizer = Adai(params, **engine)
    for gradient in (torch.ones_like, lambda p: torch.ones(p.shape[::-1]).T):
        for p in params:
            p.grad = gradient(p.detach()).to(p.dtype)
        optimizer.step()
        kept = [weakref.ref(p.grad) for p in params]
        optimizer.zero_grad()
        assert [ref() for ref in kept] == [None] * len(params)


def test_autograd_sees_the_parameters_change(engine, tensors):
    (p,) = tensors(((3,),))
    loss = (p**2).sum()
    Adai([p], **engine).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1.0}], ids=str)
def test_the_default_device_does_not_matter(engine, tensors, options):
    params, expected = tensors(), tensors()
    optimizer, reference = Adai(params, **options, **engine), Adai(expected, **options, **engine)
    with torch.device("meta"):
        optimizer.step()
        optimizer.step()
    reference.step()
    reference.step()
    assert_close(params, expected, 0)
