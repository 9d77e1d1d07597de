"""mean="previous": the rule with the mean of v̂ of the step before, in one pass over memory."""

import copy
import io

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from adai import Adai, AdaiW
from adai.optim.engines import cpu
from adai.optim.shared.sharding import on_this_process
from tests.engines import ENGINES, SHAPES, assert_close, each, train
from tests.modes import MODES
from tests.nets import OPTIONS, alone, error, net
from tests.nets import train as train_net

PREVIOUS = {"mean": "previous"}
on_every_engine = pytest.mark.parametrize("engine", each(*ENGINES), indirect=True)


def transcribed(params, gradients, beta0=0.1, beta2=0.99, eps=1e-3, lr=0.03):
    """The rule line by line; a gradient may be None, and a parameter's mean counts from its second step on."""
    state = [[0, torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p)] for p in params]
    for gs in gradients:
        taking_part = [(i, g) for i, g in enumerate(gs) if g is not None]
        old = [state[i][2] / (1 - beta2 ** state[i][0]) for i, _ in taking_part if state[i][0]]
        for i, g in taking_part:
            state[i][0] += 1
            state[i][2] = beta2 * state[i][2] + (1 - beta2) * g**2
        if not old:
            old = [state[i][2] / (1 - beta2 ** state[i][0]) for i, _ in taking_part]
        mean = sum(v.sum() for v in old) / sum(v.numel() for v in old)
        for i, g in taking_part:
            t, m, v, c = state[i]
            w = (beta0 * v / (1 - beta2**t) / mean).clamp(eps, 1)
            m, c = m + w * (g - m), c + w * (1 - c)
            params[i] -= lr * m / c
            state[i] = [t, m, v, c]


@on_every_engine
@pytest.mark.parametrize("options", [{}, {"max_grad_norm": 1e9}], ids=str)
def test_it_is_the_rule_with_the_mean_of_the_step_before(engine, tensors, options):
    params = tensors(((3, 4), (5,), (7,)))
    expected = [p.detach().clone() for p in params]
    rng = torch.Generator().manual_seed(0)
    gradients = [[torch.randn(p.shape, generator=rng, dtype=p.dtype) * 3**k for p in params] for k in range(6)]
    gradients[0][1] = gradients[1][1] = gradients[3][2] = None
    optimizer = Adai(params, lr=0.03, **PREVIOUS, **options, **engine)
    for gs in gradients:
        for p, g in zip(params, gs, strict=True):
            p.grad = g
        optimizer.step()
    transcribed(expected, gradients)
    assert_close(params, expected, 1e-12)


def test_it_differs_from_the_papers_rule_by_little(engine):
    """On noisy parabolas of different curvature and noise."""
    start, curvature = torch.ones(1000, dtype=torch.float64), torch.logspace(-1, 1, 1000, dtype=torch.float64)
    results = []
    for mean in ("current", "previous"):
        p = start.clone().requires_grad_()
        optimizer = Adai([p], lr=0.02, mean=mean, **engine)
        rng = torch.Generator().manual_seed(0)
        for _ in range(200):
            p.grad = curvature * (p.detach() + torch.randn(1000, generator=rng, dtype=torch.float64))
            optimizer.step()
        results.append(p.detach())
    current, previous = results
    assert 0 < (previous - current).norm() / (current - start).norm() < 0.01


def test_the_gradients_are_read_once(tensors, monkeypatch):
    read = []
    monkeypatch.setattr(cpu.Fused, "_read", lambda self, *_: read.append(1) or [1.0] * 3 * self._tensors.count)
    for mean, expected in (("current", 3), ("previous", 1)):
        read.clear()
        train(tensors(SHAPES, torch.float32), 3, fused=True, mean=mean)
        assert len(read) == expected  # the first step has no mean before it


@on_every_engine
@pytest.mark.parametrize("options", [{}, {"state_dtype": torch.bfloat16}], ids=str)
def test_resuming_continues_bit_for_bit(engine, tensors, options):
    params = tensors(((100, 70), (5,)), torch.float32)
    optimizer = train(params, 3, **PREVIOUS, **options, **engine)
    file = io.BytesIO()
    torch.save([[p.detach() for p in params], optimizer.state_dict()], file)
    train(params, 3, seed=2, optimizer=optimizer)
    file.seek(0)
    again, saved = torch.load(file, weights_only=True)
    again = [p.requires_grad_() for p in again]
    resumed = Adai(again, **PREVIOUS, **options, **engine)
    resumed.load_state_dict(saved)
    train(again, 3, seed=2, optimizer=resumed)
    assert_close(params, again, 0)
    assert copy.deepcopy(optimizer).mean == "previous"


@on_every_engine
def test_zero_gradients_first_and_later(engine):
    p = torch.ones(4, dtype=torch.float64).requires_grad_()
    optimizer = Adai([p], lr=0.1, betas=(0.1, 0.0), **PREVIOUS, **engine)
    for value, moves in ((0.0, False), (1.0, True), (0.0, True), (0.0, False), (1.0, True)):
        before = p.detach().clone()
        p.grad = torch.full_like(p, value)
        optimizer.step()
        assert torch.isfinite(p).all()
        assert torch.equal(p, before) is not moves


@on_every_engine
def test_a_nan_spreads(engine, tensors):
    params = tensors()
    optimizer = Adai(params, **PREVIOUS, **engine)
    optimizer.step()
    params[0].grad.view(-1)[0] = torch.nan
    optimizer.step()
    optimizer.step()
    assert all(p.isnan().all() for p in params)


def test_what_it_cannot_do_is_refused(tensors):
    with pytest.raises(ValueError, match='Invalid mean: \'last\'; it must be "current" or "previous"'):
        AdaiW(tensors(), mean="last")
    optimizer = Adai([torch.nn.Parameter(torch.zeros(3, device="meta"))], **PREVIOUS)
    (p,) = optimizer.param_groups[0]["params"]
    p.grad = torch.zeros_like(p)
    with pytest.raises(RuntimeError, match='mean="previous" needs to know on the host'):
        optimizer.step()


def _on_ranks(mode):
    options = {**OPTIONS, **PREVIOUS}
    model, optimizer, everything, get = MODES[mode](net(torch.float64), options)
    train_net(model, optimizer, torch.float64, everything=everything)
    return error(get(), alone(lambda params: Adai(params, **options), torch.float64))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_shards_end_where_one_process_ends(ranks, mode):
    assert max(ranks(4).run(_on_ranks, mode)) < 1e-12


# --- ranks that differ -----------------------------------------------------------------------------------------------

# Whether ranks 0, 1 and 2 have a gradient, step by step. In the second step the only one that has is new, so there is
# no mean before it.
HAVE_GRADIENTS = [(1, 0, 0), (0, 1, 0), (1, 1, 1), (1, 0, 1), (1, 1, 1), (1, 1, 1), (0, 1, 1), (1, 1, 1), (1, 1, 0)]
COLLECTIVES = [2, 2, 1, 1, 1, 1, 1, 1, 1]
"""One for the mean of the step before, and one for the step's own where there was none."""


def _gradient(step, rank, shape):
    rng = torch.Generator().manual_seed(10 * step + rank)
    return torch.randn(shape, generator=rng, dtype=torch.float64) * 3.0 ** ((step * (rank + 1)) % 5)


def _ranks_that_differ(as_dtensors, between):
    """Each rank's part of a parameter, where not all parts have a gradient in each step, against all on one process.

    Before the seventh step, rank 1 alone starts again from its state dict, or changes its state.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    start = torch.arange(4.0 * size, dtype=torch.float64).view(size, 4)
    if as_dtensors:
        mesh, options = init_device_mesh("cpu", (size,)), {}
        mine = nn.Parameter(distribute_tensor(start, mesh, [Shard(0)]))
    else:
        options = {"process_group": dist.group.WORLD}
        mine = nn.Parameter(start[rank : rank + 1].clone())
    parts = [nn.Parameter(start[i : i + 1].clone()) for i in range(size)]
    options = {**options, "lr": 0.03, **PREVIOUS}
    optimizer, reference = Adai([mine], **options), Adai(parts, lr=0.03, **PREVIOUS)
    counts = []
    for step, have in enumerate(HAVE_GRADIENTS):
        if step == 6 and rank == 1 and between == "load":
            saved = optimizer.state_dict()
            optimizer = Adai([mine], **options)
            optimizer.load_state_dict(saved)
        if step == 6 and between == "edit":
            reference.state[parts[1]]["exp_avg_sq"].mul_(100)
            if rank == 1:
                on_this_process(mine, optimizer.state[mine]["exp_avg_sq"]).mul_(100)
        for i, part in enumerate(parts):
            part.grad = _gradient(step, i, (1, 4)) if have[i] else None
        grad = parts[rank].grad
        mine.grad = grad if grad is None or not as_dtensors else DTensor.from_local(grad, mesh, [Shard(0)])
        with CommDebugMode() as counter:
            optimizer.step()
        counts.append(counter.get_total_counts())
        reference.step()
    here = mine.to_local() if as_dtensors else mine
    return counts, (here - parts[rank]).abs().max().item()


@pytest.mark.slow
@pytest.mark.parametrize("between", ["nothing", "load", "edit"])
@pytest.mark.parametrize("as_dtensors", [False, True], ids=["process_group", "DTensor"])
def test_what_one_rank_lacks_loads_or_changes_counts_at_once_and_costs_no_collective(ranks, as_dtensors, between):
    for counts, difference in ranks(3).run(_ranks_that_differ, as_dtensors, between):
        assert counts == COLLECTIVES
        assert difference < 1e-12


def _resumed_where_gradients_change():
    """A run, and one that starts again from its state on all ranks just before other ranks have gradients."""
    rank, ends = dist.get_rank(), []
    for resumes in (False, True):
        p = nn.Parameter(torch.ones(4, dtype=torch.float64))
        options = {"lr": 0.03, "process_group": dist.group.WORLD, **PREVIOUS}
        optimizer = Adai([p], **options)
        for step, have in enumerate(HAVE_GRADIENTS):
            if resumes and step in (6, 8):
                saved = optimizer.state_dict()
                optimizer = Adai([p], **options)
                optimizer.load_state_dict(saved)
            p.grad = _gradient(step, rank, (4,)) if have[rank] else None
            optimizer.step()
        ends.append(p.detach())
    return torch.equal(*ends)


@pytest.mark.slow
def test_shards_resume_bit_for_bit_also_where_the_gradients_change(ranks):
    assert ranks(3).run(_resumed_where_gradients_change) == [True] * 3
