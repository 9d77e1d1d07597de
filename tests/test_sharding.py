"""The same training on one process and on several: every way of sharing a model out ends at the same parameters."""

import functools
from collections.abc import Iterable

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from adai import Adai
from tests.nets import OPTIONS, alone, error, net, train
from tests.ranks import Ranks


@pytest.fixture(scope="module")
def ranks():
    """Ranks by their number."""
    started = {}

    def of(size):
        if size not in started:
            started[size] = Ranks(size)
        return started[size]

    yield of
    for each in started.values():
        each.close()


def whole(tensor):
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def named(model):
    return {name: whole(p) for name, p in model.named_parameters()}


# --- every way to share out: a model, its optimizer, whether all ranks see all rows, and how to get it whole ---------


def ddp(model, options):
    wrapped = DistributedDataParallel(model)
    return wrapped, Adai(model.parameters(), **options), False, lambda: named(model)


def fsdp2(model, options):
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return model, Adai(model.parameters(), **options), False, lambda: named(model)


def hsdp(model, options):
    fully_shard(model, mesh=init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("copy", "cut")))
    return model, Adai(model.parameters(), **options), False, lambda: named(model)


PLAN = {"0": ColwiseParallel(), "2": RowwiseParallel()}


def tensor_parallel(model, options):
    """The last two layers stay plain tensors, the bias of the second is a DTensor that all ranks hold whole."""
    parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), PLAN)
    return model, Adai(model.parameters(), **options), True, lambda: named(model)


def fsdp2_and_tensor_parallel(model, options):
    """Two meshes: of the first two layers' parameters both dimensions are cut, of the others' one."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("data", "tensor"))
    parallelize_module(model, mesh["tensor"], PLAN)
    fully_shard(model, mesh=mesh["data"])
    return model, Adai(model.parameters(), **options), True, lambda: named(model)


def fsdp2_beside_plain(model, options):
    """Some layers are cut, the others each rank has whole and averages by itself."""
    fully_shard(model[0])
    fully_shard(model[4])
    plain = [p for layer in (model[2], model[5]) for p in layer.parameters()]
    for p in plain:
        p.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad.div_(dist.get_world_size())))
    return model, Adai(model.parameters(), **options), False, lambda: named(model)


def fsdp1(model, options, *, use_orig_params):
    sharded = FullyShardedDataParallel(model, use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    optimizer = Adai(sharded.parameters(), process_group=dist.group.WORLD, **options)

    def get():
        with FullyShardedDataParallel.summon_full_params(sharded):
            return {k.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for k, p in model.named_parameters()}

    return sharded, optimizer, False, get


def zero(model, options):
    constructor = functools.partial(Adai, process_group=dist.group.WORLD)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=constructor, **options)
    return DistributedDataParallel(model), optimizer, False, lambda: named(model)


class HandMade:
    """All parameters behind one another, cut into pieces; this rank steps its own. The last rank's is empty."""

    def __init__(self, params: Iterable, options, group=None):
        self.params = list(params)
        numel = sum(p.numel() for p in self.params)
        size, rank = dist.get_world_size(), dist.get_rank()
        ends = [numel * i // max(size - 1, 1) for i in range(size)] + [numel]
        self.here = slice(ends[rank], ends[rank + 1])
        with torch.no_grad():
            self.shard = self.flat(self.params)[self.here].clone().requires_grad_()
        self.optimizer = Adai([self.shard], process_group=group or dist.group.WORLD, **options)

    @staticmethod
    def flat(tensors):
        return torch.cat([t.flatten() for t in tensors])

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    def step(self):
        gradient = self.flat([p.grad for p in self.params])[self.here]
        self.shard.grad = gradient.clone() if self.shard.numel() else None
        self.optimizer.step()
        pieces = [None] * dist.get_world_size()
        dist.all_gather_object(pieces, self.shard.detach())
        flat = torch.cat(pieces)
        for p, piece in zip(self.params, flat.split([p.numel() for p in self.params]), strict=True):
            p.data.copy_(piece.view_as(p))


def hand_made(model, options):
    return DistributedDataParallel(model), HandMade(model.parameters(), options), False, lambda: named(model)


MODES = {
    "ddp": ddp,
    "fsdp2": fsdp2,
    "hsdp": hsdp,
    "tensor_parallel": tensor_parallel,
    "fsdp2_and_tensor_parallel": fsdp2_and_tensor_parallel,
    "fsdp2_beside_plain": fsdp2_beside_plain,
    "fsdp1": functools.partial(fsdp1, use_orig_params=True),
    "fsdp1_flat": functools.partial(fsdp1, use_orig_params=False),
    "zero": zero,
    "hand_made": hand_made,
}


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
