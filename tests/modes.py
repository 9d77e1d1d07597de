"""All ways to shard a model over the ranks."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from adai import Adai
from adai.optim.options import OF_OPTIMIZER


class Shared(NamedTuple):
    """A model that is shared out: what to train it with, and how to get it whole."""

    model: nn.Module
    optimizer: Any
    everything: bool
    """Whether each rank works on all rows of a batch."""
    parameters: Callable[[], dict[str, torch.Tensor]]


def whole(tensor):
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def named(model):
    return {name: whole(p) for name, p in model.named_parameters()}


def ddp(model, options):
    wrapped = DistributedDataParallel(model)
    return Shared(wrapped, Adai(model.parameters(), **options), False, lambda: named(model))


def fsdp2(model, options):
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    return Shared(model, Adai(model.parameters(), **options), False, lambda: named(model))


def hsdp(model, options):
    fully_shard(model, mesh=init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("copy", "cut")))
    return Shared(model, Adai(model.parameters(), **options), False, lambda: named(model))


PLAN = {"0": ColwiseParallel(), "2": RowwiseParallel()}


def tensor_parallel(model, options):
    """The last two layers stay plain tensors, the bias of the second is a DTensor that all ranks hold whole."""
    parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), PLAN)
    return Shared(model, Adai(model.parameters(), **options), True, lambda: named(model))


def fsdp2_and_tensor_parallel(model, options):
    """Two meshes: of the first two layers' parameters both dimensions are cut, of the others' one."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("data", "tensor"))
    parallelize_module(model, mesh["tensor"], PLAN)
    fully_shard(model, mesh=mesh["data"])
    return Shared(model, Adai(model.parameters(), **options), True, lambda: named(model))


def fsdp2_beside_plain(model, options):
    """Some layers are cut, the others each rank has whole and averages by itself."""
    fully_shard(model[0])
    fully_shard(model[4])
    plain = [p for layer in (model[2], model[5]) for p in layer.parameters()]
    for p in plain:
        p.register_post_accumulate_grad_hook(lambda p: dist.all_reduce(p.grad.div_(dist.get_world_size())))
    return Shared(model, Adai(model.parameters(), **options), False, lambda: named(model))


def fsdp1(model, options, *, use_orig_params):
    sharded = FullyShardedDataParallel(model, use_orig_params=use_orig_params, device_id=torch.device("cpu"))
    optimizer = Adai(sharded.parameters(), process_group=dist.group.WORLD, **options)

    def get():
        with FullyShardedDataParallel.summon_full_params(sharded):
            return {k.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for k, p in model.named_parameters()}

    return Shared(sharded, optimizer, False, get)


def zero(model, options):
    of_optimizer = {name: options[name] for name in OF_OPTIMIZER if name in options}
    of_groups = {name: value for name, value in options.items() if name not in OF_OPTIMIZER}
    constructor = functools.partial(Adai, process_group=dist.group.WORLD, **of_optimizer)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=constructor, **of_groups)
    return Shared(DistributedDataParallel(model), optimizer, False, lambda: named(model))


class HandMade:
    """All parameters behind one another, cut into pieces; this rank steps its own. The last of 4 has an empty one."""

    def __init__(self, params: Iterable, options, group=None):
        self.params = list(params)
        numel = sum(p.numel() for p in self.params)
        size, rank = dist.get_world_size(), dist.get_rank()
        parts = max(size - 1, 2)
        ends = [numel * min(i, parts) // parts for i in range(size + 1)]
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

    def take_gradients(self):
        gradient = self.flat([p.grad for p in self.params])[self.here]
        self.shard.grad = gradient.clone() if self.shard.numel() else None

    def step(self):
        self.take_gradients()
        self.optimizer.step()
        self.gather()

    def gather(self):
        pieces = [None] * dist.get_world_size()
        dist.all_gather_object(pieces, self.shard.detach())
        flat = torch.cat(pieces)
        for p, piece in zip(self.params, flat.split([p.numel() for p in self.params]), strict=True):
            p.data.copy_(piece.view_as(p))


def hand_made(model, options):
    return Shared(DistributedDataParallel(model), HandMade(model.parameters(), options), False, lambda: named(model))


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
