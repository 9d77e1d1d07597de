"""`Adai.inertia` and `Adai.v_mean`: the paper's μ and mean of v̂, from the state."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from adai import Adai, AdaiW
from tests.engines import train

FIRST = {"betas": (0.2, 0.9), "eps": 0.01, "min_inertia": 0.5}
SECOND = {"betas": (0.1, 0.99), "dampening": 0.5, "weight_decay": 0.1}


def two_groups(params, **engine):
    half = len(params) // 2
    return Adai([{"params": params[:half], **FIRST}, {"params": params[half:], **SECOND}], lr=0.03, **engine)


def v_hat(optimizer, p, beta2):
    state = optimizer.state[p]
    return state["exp_avg_sq"].double() / (1 - beta2 ** state["step"].item())


def test_each_group_has_its_own_numbers(engine, tensors):
    params = tensors(((3, 4), (5,), (2, 2), (7,)))
    optimizer = train(params, 4, optimizer=two_groups(params, **engine))
    hats = [v_hat(optimizer, p, beta2) for p, beta2 in zip(params, (0.9, 0.9, 0.99, 0.99), strict=True)]
    mean = torch.cat([hat.flatten() for hat in hats]).mean()
    assert optimizer.v_mean() == pytest.approx(mean.item(), rel=1e-12)
    for p, hat in zip(params[:2], hats[:2], strict=True):
        expected = (1 - 0.2 * hat / mean).clamp(0.5, 0.99)
        torch.testing.assert_close(optimizer.inertia(p), expected, rtol=1e-12, atol=0)
    for p, hat in zip(params[2:], hats[2:], strict=True):
        expected = (1 - 0.1 * (hat / mean) ** 0.5).clamp(0, 0.999)
        mu = optimizer.inertia(p, optimizer.v_mean())
        torch.testing.assert_close(mu, expected, rtol=1e-12, atol=0)
        assert mu.shape == p.shape


def test_it_is_what_the_last_step_used(engine, tensors):
    """m_t = μ m_{t-1} + (1 - μ) g, with the μ that is told after the step."""
    params = tensors()
    optimizer = train(params, 3, lr=0.03, **engine)
    before = [optimizer.state[p]["exp_avg"].clone() for p in params]
    train(params, 1, seed=7, optimizer=optimizer)
    for p, m in zip(params, before, strict=True):
        mu = optimizer.inertia(p).double()
        torch.testing.assert_close(optimizer.state[p]["exp_avg"], mu * m + (1 - mu) * p.grad, rtol=1e-6, atol=1e-6)


def test_it_is_the_same_after_a_checkpoint_and_after_the_drop_of_the_bias_correction(tensors):
    params = tensors()
    optimizer = train(params, 60, lr=0.03, eps=0.6)
    assert all("bias_correction" not in state for state in optimizer.state.values())
    loaded = Adai(copied := tensors(), eps=0.6)
    loaded.load_state_dict(optimizer.state_dict())
    assert loaded.v_mean() == optimizer.v_mean()
    for p, q in zip(params, copied, strict=True):
        assert torch.equal(loaded.inertia(q), optimizer.inertia(p))


def test_asking_changes_nothing(tensors):
    params = tensors()
    optimizer = train(params, 3)
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.inertia(params[0]).zero_()
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_it_is_in_float32_or_wider(tensors, dtype):
    p = tensors(dtype=dtype)[0]
    optimizer = train([p], 2)
    assert optimizer.inertia(p).dtype == torch.promote_types(dtype, torch.float32)
    assert not optimizer.inertia(p).requires_grad


def test_a_complex_parameter_is_one_of_pairs():
    z = torch.tensor([1 + 2j, 3 + 0.5j], requires_grad=True)
    x = torch.view_as_real(z.detach()).clone().requires_grad_()
    z.grad, x.grad = z.detach().clone(), x.detach().clone()
    of_pairs, of_numbers = Adai([x]), Adai([z])
    of_pairs.step()
    of_numbers.step()
    assert of_numbers.v_mean() == of_pairs.v_mean()
    torch.testing.assert_close(torch.view_as_real(of_numbers.inertia(z)), of_pairs.inertia(x))


def test_a_parameter_without_a_step_has_none_and_does_not_count(tensors):
    first, late = tensors()
    optimizer = AdaiW([first, late])
    assert optimizer.v_mean() == 0
    with pytest.raises(
        RuntimeError, match=r"a parameter of shape \(5,\) has no inertia yet, because it has not taken a step"
    ):
        optimizer.inertia(late)
    late.grad = None
    optimizer.step()
    assert optimizer.v_mean() == pytest.approx(v_hat(optimizer, first, 0.99).mean().item())
    with pytest.raises(RuntimeError, match="has no inertia yet"):
        optimizer.inertia(late)
    for p in (first, late):
        p.grad = torch.zeros_like(p)
    alone = Adai([late])
    alone.step()  # which is none, as no gradient has been other than zero
    assert alone.v_mean() == 0
    with pytest.raises(RuntimeError, match="has no inertia yet"):
        alone.inertia(late)


def test_a_tensor_that_is_no_parameter_is_named(tensors):
    optimizer = train(tensors(), 1)
    with pytest.raises(ValueError, match=r"a tensor of shape \(2, 9\) is not a parameter of this optimizer"):
        optimizer.inertia(torch.zeros(2, 9))


def test_nan_stays_nan(tensors):
    params = tensors()
    optimizer = train(params, 2)
    optimizer.state[params[0]]["exp_avg_sq"].view(-1)[0] = torch.nan
    assert optimizer.v_mean() != optimizer.v_mean()
    assert optimizer.inertia(params[1]).isnan().all()


def of_shards():
    """The same numbers as one process has, for a DTensor that is cut, one that all hold, and plain shards."""
    rank, size = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (size,))
    rng = torch.Generator().manual_seed(0)
    values, gradients = ([torch.randn(n, 3, generator=rng) for n in (4, 2)] for _ in range(2))
    whole = [v.clone().requires_grad_() for v in values]
    placed = [Shard(0)], [Replicate()]
    cut = [distribute_tensor(v, mesh, at).requires_grad_() for v, at in zip(values, placed, strict=True)]
    rows = 4 // size
    shard = values[0][rank * rows : (rank + 1) * rows].clone().requires_grad_()
    for p, q, g, at in zip(whole, cut, gradients, placed, strict=True):
        p.grad, q.grad = g, distribute_tensor(g, mesh, at)
    shard.grad = gradients[0][rank * rows : (rank + 1) * rows].clone()
    alone, shared = Adai(whole), Adai(cut)
    first, plain = Adai(whole[:1]), Adai([shard], process_group=dist.group.WORLD)
    for optimizer in (alone, shared, plain):
        optimizer.step()
    first.step()
    assert shared.v_mean() == pytest.approx(alone.v_mean(), rel=1e-12)
    assert plain.v_mean() == pytest.approx(first.v_mean(), rel=1e-12)
    for p, q in zip(whole, cut, strict=True):
        mu = shared.inertia(q)
        assert isinstance(mu, DTensor)
        torch.testing.assert_close(mu.full_tensor(), alone.inertia(p))
    torch.testing.assert_close(plain.inertia(shard), first.inertia(whole[0])[rank * rows : (rank + 1) * rows])
    return True


@pytest.mark.slow
def test_shards_have_the_inertia_of_the_whole(ranks):
    assert ranks(2).run(of_shards) == [True, True]
