"""The same training on one process and on several: every way of sharing a model out ends at the same parameters."""

import copy
import os
import signal
import warnings
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from adai import Adai, AdaiW
from tests.modes import MODES, HandMade
from tests.nets import OPTIONS, alone, batches, error, net, part, train
from tests.ranks import Failure, Ranks

pytestmark = pytest.mark.slow


def train_both(mode, dtype, options):
    options = {**OPTIONS, **options}
    model, optimizer, everything, get = MODES[mode](net(dtype), options)
    train(model, optimizer, dtype, everything=everything)
    return error(get(), alone(lambda params: Adai(params, **options), dtype))


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("mode", MODES)
def test_twenty_steps_end_where_one_process_ends(ranks, mode, size):
    assert max(ranks(size).run(train_both, mode, torch.float32, {})) < 1e-6
    assert max(ranks(size).run(train_both, mode, torch.float64, {"max_grad_norm": 0.5})) < 1e-12


@pytest.mark.parametrize("engine", [{"foreach": True}, {"foreach": False}, {"fused": True}], ids=str)
@pytest.mark.parametrize("mode", ["fsdp2_and_tensor_parallel", "fsdp1_flat"])
def test_every_engine_works_on_shards(ranks, mode, engine):
    assert max(ranks(2).run(train_both, mode, torch.float64, engine)) < 1e-12


# --- collectives -----------------------------------------------------------------------------------------------------


def collectives_of_a_step(mode, options):
    """How many the second step took: a step of the optimizer alone."""
    model, optimizer, everything, _ = MODES[mode](net(torch.float32), {**OPTIONS, **options})
    train(model, optimizer, torch.float32, everything=everything, steps=2)
    inner = getattr(optimizer, "optimizer", getattr(optimizer, "optim", optimizer))
    with CommDebugMode() as counter:
        inner.step()
    return counter.get_total_counts()


@pytest.mark.parametrize(
    ("mode", "meshes"),
    [("ddp", 0), ("fsdp2", 1), ("hsdp", 1), ("tensor_parallel", 1), ("fsdp2_and_tensor_parallel", 2),
     ("fsdp2_beside_plain", 1), ("fsdp1", 1), ("fsdp1_flat", 1), ("zero", 1), ("hand_made", 1)],
)  # fmt: skip
def test_one_collective_per_mesh_and_step_and_one_more_for_clipping(ranks, mode, meshes):
    assert ranks(4).run(collectives_of_a_step, mode, {}) == [meshes] * 4
    assert ranks(4).run(collectives_of_a_step, mode, {"max_grad_norm": 0.1}) == [2 * meshes] * 4


# --- odd ranks -------------------------------------------------------------------------------------------------------


def zero_gradients(first):
    """A step of zero gradients everywhere, or on this rank alone; rank 1 has no gradient, the last has no parameter."""
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    p = torch.ones(0 if rank == last else 3, requires_grad=True)
    optimizer = Adai([{"params": [p] if rank < last else []}], lr=0.1, process_group=dist.group.WORLD)
    p.grad = None if rank == 1 else torch.full_like(p, first)
    optimizer.step()
    if rank == 1:
        p.grad = torch.full_like(p, 2.0)
    optimizer.step()
    return p.tolist(), [s["step"].item() for s in optimizer.state.values()]


def test_a_rank_without_gradient_or_parameter_takes_part(ranks):
    none, idle, nothing = ranks(3).run(zero_gradients, 0.0)
    assert none == ([1.0] * 3, [1.0])  # counted with the others' first gradients, although its own are all zero
    assert idle == ([pytest.approx(0.8)] * 3, [1.0])
    assert nothing == ([], [])


def several_dimensions():
    """A mesh with two dimensions to cut along that has four of five ranks: it needs a process group of its own."""
    mesh = DeviceMesh("cpu", [[0, 1], [2, 3]])
    values = [torch.arange(1.0, 13.0).view(3, 4), torch.arange(4.0)]
    params = [
        nn.Parameter(distribute_tensor(value, mesh, placements, src_data_rank=None))
        for value, placements in zip(values, ([Shard(0), Shard(1)], [Replicate(), Shard(0)]), strict=True)
    ]
    optimizer, single = Adai(params), [v.clone().requires_grad_() for v in values]
    reference = Adai(single)
    for step in range(3):
        for p, q, value in zip(params, single, values, strict=True):
            q.grad = torch.sin(value + step)
            p.grad = distribute_tensor(q.grad, mesh, p.placements, src_data_rank=None)
        reference.step()
        with CommDebugMode() as counter:
            optimizer.step()
    if mesh.get_coordinate() is None:
        return 0, 0.0
    return counter.get_total_counts(), max(
        (p.full_tensor() - q).abs().max().item() for p, q in zip(params, single, strict=True)
    )


def test_two_dimensions_of_a_mesh_are_one_collective_also_within_a_larger_world(ranks):
    assert ranks(5).run(several_dimensions) == [(1, pytest.approx(0, abs=1e-6))] * 4 + [(0, 0.0)]


def partial_gradient():
    """A gradient that is still a sum to be taken over the mesh."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    p = nn.Parameter(distribute_tensor(torch.ones(4, 2), mesh, [Shard(0)]))
    g = torch.arange(8.0).view(4, 2)
    p.grad = DTensor.from_local(g / dist.get_world_size(), mesh, [Partial()]).redistribute(mesh, [Partial()])
    q = torch.ones(4, 2, requires_grad=True)
    q.grad = g
    Adai([p]).step()
    Adai([q]).step()
    return (p.full_tensor() - q).abs().max().item()


def test_a_partial_gradient_is_summed_first(ranks):
    assert max(ranks(2).run(partial_gradient)) < 1e-6


# --- GradScaler ------------------------------------------------------------------------------------------------------

# By mode, the scaler whose ranks agree, and the ranks that have an infinite gradient.
SCALERS = {
    "ddp": (torch.amp.GradScaler, range(4)),
    "zero": (torch.amp.GradScaler, range(4)),
    "fsdp2": (torch.amp.GradScaler, [0]),
    "hsdp": (torch.amp.GradScaler, [0, 2]),
    "fsdp2_and_tensor_parallel": (torch.amp.GradScaler, [0]),
    "fsdp1": (ShardedGradScaler, [0]),
    "fsdp1_flat": (ShardedGradScaler, [0]),
    "hand_made": (ShardedGradScaler, [0]),
}


def scaled(mode, options):
    """Five steps behind a scaler, the second with an infinite gradient."""
    scaler_class, spoilt_ranks = SCALERS[mode]
    model, optimizer, everything, get = MODES[mode](net(torch.float64), {**OPTIONS, **options})
    scaler = scaler_class("cpu", init_scale=8.0)
    for step, (x, y) in enumerate(batches(torch.float64, 5)):
        optimizer.zero_grad()
        if not everything:
            x, y = part(x), part(y)
        scaler.scale(nn.functional.mse_loss(model(x), y)).backward()
        inner = getattr(optimizer, "optimizer", optimizer)
        if step == 1 and dist.get_rank() in spoilt_ranks:
            spoilt = next(p for p in model.parameters() if p.grad is not None and p.numel())
            grad = spoilt.grad.to_local() if isinstance(spoilt.grad, DTensor) else spoilt.grad
            grad.view(-1)[0] = torch.inf
        if isinstance(optimizer, HandMade):
            optimizer.take_gradients()
        scaler.step(inner)
        if isinstance(optimizer, HandMade):
            optimizer.gather()
        scaler.update()
    return scaler.get_scale(), get()


@pytest.mark.parametrize("options", [{}, {"fused": True}], ids=str)  # skipped by the scaler, or by the step itself
@pytest.mark.parametrize("mode", SCALERS)
def test_an_infinite_gradient_skips_the_step_on_all_ranks(ranks, mode, options):
    results = ranks(4).run(scaled, mode, options)
    model = net(torch.float64)
    optimizer = Adai(model.parameters(), **OPTIONS)
    for step in (0, 2, 3, 4):
        train(model, optimizer, torch.float64, everything=True, steps=1, first=step)
    for scale, params in results:
        assert scale == 4.0
        assert error(params, dict(model.named_parameters())) < 1e-12


# --- torch.compile ---------------------------------------------------------------------------------------------------


def compiled(mode):
    torch._dynamo.reset()
    counter = CompileCounter()
    model, optimizer, everything, get = MODES[mode](net(torch.float64), OPTIONS)
    optimizer.step = torch.compile(optimizer.step, backend=counter)
    train(model, optimizer, torch.float64, everything=everything, steps=4)
    return error(get(), alone(lambda params: Adai(params, **OPTIONS), torch.float64, steps=4)), counter.frame_count


@pytest.mark.parametrize("mode", ["fsdp2", "fsdp2_and_tensor_parallel", "fsdp1"])
def test_the_compiled_step_is_one_graph_and_the_same(ranks, mode):
    for difference, graphs in ranks(2).run(compiled, mode):
        assert difference < 1e-12
        assert graphs == 1


# --- what is refused, warned of, or fails ----------------------------------------------------------------------------


def warnings_of(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    return [str(w.message) for w in caught if "process_group" in str(w.message)]


def forgotten_process_group():
    model = net(torch.float32)
    messages = warnings_of(lambda: Adai(model.parameters()))
    messages += warnings_of(lambda: ZeroRedundancyOptimizer(model.parameters(), optimizer_class=AdaiW, lr=0.1))
    sharded = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    return messages + warnings_of(lambda: Adai(sharded.parameters()))


def test_a_forgotten_process_group_is_warned_of_with_the_cure(ranks):
    for messages in ranks(2).run(forgotten_process_group):
        zero, fsdp = messages
        assert "ZeroRedundancyOptimizer" in zero
        assert "optimizer_class=functools.partial(Adai, process_group=GROUP)" in zero
        assert "FullyShardedDataParallel" in fsdp
        assert "process_group=GROUP" in fsdp


def refusals():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    p = nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
    p.grad = torch.ones_like(p)
    messages = []
    for options in ({"process_group": dist.group.WORLD}, {"differentiable": True}):
        try:
            Adai([p], **options).step()
        except (ValueError, RuntimeError) as error:
            messages.append(str(error))
    try:
        copy.deepcopy(Adai([torch.ones(1)], process_group=dist.group.WORLD))
    except TypeError as error:
        messages.append(str(error))
    return messages


def test_what_cannot_be_exact_is_refused(ranks):
    overlap, differentiable, copied = ranks(2).run(refusals)[0]
    assert "share the ranks [0, 1]; leave process_group at None" in overlap
    assert "`differentiable` is not possible with shards" in differentiable
    assert copied == "Adai with a process_group cannot be copied; copy its state_dict()"


def step_forever(killed):
    p = torch.ones(3, requires_grad=True)
    p.grad = torch.ones(3)
    optimizer = Adai([p], process_group=dist.group.WORLD)
    optimizer.step()
    if dist.get_rank() == killed:
        os.kill(os.getpid(), signal.SIGKILL)
    while True:
        optimizer.step()


def test_when_a_rank_dies_the_others_fail_with_torchs_error():
    ranks = Ranks(3, timeout=timedelta(seconds=5))
    try:
        outcomes = ranks.outcomes(step_forever, 1)
    finally:
        ranks.close()
    assert outcomes[1] == "the process has ended"
    for outcome in (outcomes[0], outcomes[2]):
        assert isinstance(outcome, Failure)
        assert "RuntimeError" in outcome or "DistBackendError" in outcome or "DistNetworkError" in outcome
        assert "all_reduce" in outcome


# --- a mesh within a group -------------------------------------------------------------------------------------------


def stages():
    """Two stages of a pipeline, each with its own parameter, cut over the mesh of its own two ranks."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stage", "data"))
    stage, data = mesh["stage"], mesh["data"]
    values = [torch.arange(1.0, 7.0), torch.full((3,), 0.1)]
    mine = stage.get_local_rank()
    p = nn.Parameter(distribute_tensor(values[mine], data, [Shard(0)], src_data_rank=None))
    options = {"lr": 0.1, "max_grad_norm": 2.0}
    optimizer = Adai([p], process_group=stage.get_group(), **options)
    single = [value.clone().requires_grad_() for value in values]
    reference = Adai(single, **options)
    for step in range(3):
        for q, value in zip(single, values, strict=True):
            q.grad = torch.cos(value * (1 + step))
        p.grad = distribute_tensor(single[mine].grad, data, [Shard(0)], src_data_rank=None)
        optimizer.step()
        reference.step()
    return (p.full_tensor() - single[mine]).abs().max().item()


def test_stages_of_a_pipeline_with_a_mesh_each(ranks):
    assert max(ranks(4).run(stages)) < 1e-6
