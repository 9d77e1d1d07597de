"""A run on several processes that `torchrun` started: their ranks, and the communication between them."""

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")


class Ranks(NamedTuple):
    """The rank of this process and the number of processes. By default it is alone, and nothing is sent."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that reads and writes files and prints."""
        return self.rank == 0

    def share(self, where: Tensor) -> Tensor:
        """This process's part of the work of all processes."""
        return where.tensor_split(self.world)[self.rank] if self.world > 1 else where

    def total(self, numbers: Tensor) -> Tensor:
        """Sums over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(numbers)
        return numbers

    def agreed(self, value: T) -> T:
        """The value of the first process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.world == 1:
            return [value]
        box: list[Any] = [None] * self.world
        dist.all_gather_object(box, value)
        return box

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the processes.

        Buffers are synchronised before an evaluation, not in each forward pass, because processes may differ in the
        number of passes.
        """
        if self.world == 1:
            return model
        # NOTE torch 2.13 renamed the option and warns about the old name.
        known = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: dict[str, Any] = {name: False}
        return DistributedDataParallel(model, **options)

    def agree_on_buffers(self, model: nn.Module) -> None:
        """Copy the first process's buffers (batch norm's statistics) to all, so that all evaluate the same net."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def world_size() -> int:
    """The number of processes that `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the other processes for the duration of the block: NCCL on CUDA, gloo on other devices.

    An existing process group is used and not destroyed.
    """
    if dist.is_available() and dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
    elif world_size() == 1:
        yield Ranks()
    else:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The device of this process: under `torchrun`, ``cuda`` means the GPU whose index is the process's local rank."""
    if device.type == "cuda" and device.index is None and world_size() > 1:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device
