"""Sharded parameters: which part of each parameter is on this process, and sums over all processes.

The sums Σ v̂ and Σ g² are first taken over the elements on this process. Then the sums over DTensors are added up over
their mesh, with one all-reduce for each mesh. Last, if there is a `process_group`, everything is added up over that
group, with one more all-reduce. A DTensor that is replicated on several processes counts once.
"""

import importlib
from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from adai.optim.engines.batch import PLAIN, Batch
from adai.optim.engines.memory import is_unreal
from adai.optim.engines.rounding import Place
from adai.optim.shared.mean import accumulator, total


class Group(NamedTuple):
    """The processes that hold the parts of some DTensors, and the device on which they add up."""

    processes: Any
    device: torch.device


class Share(NamedTuple):
    """How a tensor is sharded: whether this process has all of it, or a part of it."""

    group: int | None = None
    """The position in `Sharing.groups` of the processes that hold its parts; None if the whole tensor is here."""
    copies: int = 1
    """The number of processes in the group that hold the same part."""


class Sharing:
    """The shares of all parameters of an optimizer."""

    def __init__(
        self,
        param_groups: Sequence[dict[str, Any]],
        process_group: Any,
        made: "Sharing | None" = None,
        rounding_seed: int | None = None,
        *,
        rounds_params: bool = False,
    ) -> None:
        """Find the shares. All processes do this together.

        Args:
            param_groups: the parameter groups of the optimizer.
            process_group: the optimizer's ``process_group``.
            made: an earlier object, whose process groups are used again.
            rounding_seed: the optimizer's ``rounding_seed``; None if nothing is rounded and `places` are not needed.
            rounds_params: the optimizer's ``stochastic_rounding``.
        """
        self._params = _params(param_groups)  # keeps them alive, so that no other tensor can get their ids
        self._created: dict[tuple[int, ...], Any] = made._created if made else {}
        self.process_group = process_group
        self.groups: list[Group] = []
        self.shares = [Share()]
        self.by_id: dict[int, int] = {}
        """The positions in `shares` of parameters that are cut, by id."""
        self.numbers = {identity: number for number, identity in enumerate(map(id, self._params))}
        """The parameters' numbers among all of them, by id."""
        self.plain = all(type(p) in PLAIN and not _padding(p) for p in self._params)
        """Whether all parameters are plain tensors without padding, so that `local` is not needed."""
        self.unreal = any(is_unreal(getattr(p, "_local_tensor", p)) for p in self._params)
        """Whether there are parameters without numbers, for which the host cannot decide anything."""
        self.places = self._find_places(rounding_seed, rounds_params=rounds_params)
        """The place of each parameter's part within the whole tensor, by the parameter's number."""
        self._find_shares()
        if self.alone:
            return
        if any(group["differentiable"] for group in param_groups):
            raise RuntimeError(
                "`differentiable` is not possible with shards, because a sum over processes has no derivative; leave "
                "differentiable at False"
            )
        self._check_overlap()

    @property
    def alone(self) -> bool:
        """Whether this process needs no other processes."""
        return self.process_group is None and not self.groups

    def fits(self, param_groups: Sequence[dict[str, Any]]) -> bool:
        """Whether these are the parameters for which this object was made."""
        params = _params(param_groups)
        return len(params) == len(self._params) and all(map(is_, params, self._params))

    def share(self, param: Tensor) -> int:
        """The position of the parameter's share in `shares`."""
        return self.by_id.get(id(param), 0)

    def of(self, params: Sequence[Tensor]) -> list[int]:
        """The position of each parameter's share in `shares`."""
        return list(map(self.share, params)) if self.by_id else [0] * len(params)

    def mean(
        self, sums: Sequence[Tensor], elements: Sequence[int], squares: Sequence[Tensor | None], shares: Sequence[int]
    ) -> Tensor:
        """The sum over all batches on all processes, divided by the number of their elements.

        The mean is 0 if all batches on all processes have a zero in ``squares``.

        Args:
            sums: a sum for each batch of this process, 0-dim.
            elements: the number of elements of each batch on this process.
            squares: for each batch, Σ g² if its sum does not count while Σ g² is 0, or None if it counts in any case.
            shares: for each batch, the position of its share in `shares`.
        """
        if self.alone:
            alone = total(sums) / max(sum(elements), 1)  # tensors without elements have the sum 0
            numbers = [gg for gg in squares if gg is not None]
            return alone if len(numbers) < len(squares) else alone * (total(numbers) > 0)
        rows = [
            torch.stack((s, torch.full_like(s, n), torch.ones_like(s) if gg is None else gg.to(s)))
            for s, n, gg in zip(sums, elements, squares, strict=True)
        ]
        v_sum, count, counting = self._add_up(rows, shares, 3)
        v_mean: Tensor = v_sum / count.clamp_min(1) * (counting > 0)
        return v_mean

    def total(self, sums: Sequence[Tensor], shares: Sequence[int]) -> Tensor:
        """The sum over all batches on all processes."""
        if self.alone:
            return total(sums)
        return self._add_up([s.reshape(1) for s in sums], shares, 1)[0]

    def _add_up(self, rows: Sequence[Tensor], shares: Sequence[int], width: int) -> Tensor:
        """The sum of the rows of all processes. A process without rows takes part too, as the others wait for it."""
        parts = [row for row, i in zip(rows, shares, strict=True) if self.shares[i].group is None]
        for number, group in enumerate(self.groups):
            part = _zeros(width, group.device)
            for row, i in zip(rows, shares, strict=True):
                if self.shares[i].group == number:
                    part = part + row.to(part.device) / self.shares[i].copies
            dist.all_reduce(part, group=group.processes)
            parts.append(part)
        if self.process_group is None:
            return torch.stack([part.to(parts[0].device) for part in parts]).sum(0)
        whole = _zeros(width, self._device())
        for part in parts:
            whole = whole + part.to(whole.device)
        dist.all_reduce(whole, group=self.process_group)
        return whole

    def _device(self) -> torch.device:
        """The device of sums over `process_group`: the parameters' device, or if there are none, its backend's."""
        if self._params:
            device: torch.device = self._params[0].device
            return device
        return torch.device("cuda" if "nccl" in dist.get_backend(self.process_group) else "cpu")

    def _find_places(self, seed: int | None, *, rounds_params: bool) -> list[Place]:
        holder = 0 if self.process_group is None else dist.get_rank(self.process_group)
        if seed is None:
            return [Place(number) for number in range(len(self._params))]
        return [
            Place(number, seed, holder, *_start(param))._replace(rounds_param=rounds_params)
            for number, param in enumerate(self._params)
        ]

    def _find_shares(self) -> None:
        meshes: dict[Any, list[Tensor]] = {}
        for p in self._params:
            if type(p) not in PLAIN and hasattr(p, "device_mesh"):
                meshes.setdefault(p.device_mesh, []).append(p)
        for mesh, params in meshes.items():
            # The dimensions along which any parameter is sharded. Along the others all parameters are replicated.
            cut = sorted({i for p in params for i in _cut(p)})
            if not cut or mesh.get_coordinate() is None:
                continue
            group = Group(self._processes(mesh, cut), torch.device(mesh.device_type))
            if group not in self.groups:
                self.groups.append(group)
            for p in params:
                copies = torch.Size([mesh.size(i) for i in cut if i not in _cut(p)]).numel()
                share = Share(self.groups.index(group), copies)
                if share not in self.shares:
                    self.shares.append(share)
                self.by_id[id(p)] = self.shares.index(share)

    def _processes(self, mesh: Any, dims: list[int]) -> Any:
        """The process group of this process along some dimensions of the mesh. Equal ranks get the same group."""
        ranks = _ranks(mesh, dims)
        if ranks not in self._created:
            if len(dims) == 1:
                self._created[ranks] = mesh.get_group(dims[0])
            elif len(ranks) == dist.get_world_size():
                self._created[ranks] = dist.group.WORLD
            else:  # without local synchronization, processes outside the mesh would have to make this call too
                self._created[ranks] = dist.new_group(list(ranks), use_local_synchronization=True)
        return self._created[ranks]

    def _check_overlap(self) -> None:
        if self.process_group is None:
            return
        mine = set(dist.get_process_group_ranks(self.process_group))
        for group in self.groups:
            both = mine & set(dist.get_process_group_ranks(group.processes))
            if len(both) > 1:
                raise ValueError(
                    f"process_group and the mesh of DTensor parameters share the ranks {sorted(both)}; leave "
                    "process_group at None, because sums over DTensors are added up over their mesh in any case"
                )


def local(batch: Batch) -> Batch:
    """The part of a batch on this process, as plain tensors that share its memory."""
    rows = [(*_row(*row), place) for *row, place in zip(*batch, strict=True)]
    return Batch(*(list(column) for column in zip(*rows, strict=True)))


def _row(param: Any, grad: Any, m: Tensor, v: Tensor, c: Tensor | None, step: Tensor) -> tuple[Any, ...]:
    if hasattr(param, "device_mesh") and grad.placements != param.placements:  # Partial: a sum yet to be computed
        grad = grad.redistribute(placements=param.placements)
    tensors = [None if t is None else _local(t) for t in (param, grad, m, v, c)]
    padding = _padding(param)
    return (*(t if t is None or not padding else t[:-padding] for t in tensors), step)


def on_this_process(param: Tensor, tensor: Tensor) -> Tensor:
    """The part of a parameter's state tensor on this process, as a plain tensor that shares its memory."""
    tensor, padding = _local(tensor), _padding(param)
    return tensor[:-padding] if padding else tensor


def _local(tensor: Any) -> Tensor:
    if hasattr(tensor, "device_mesh"):  # NOTE without gradients torch.compile (2.13) does not find to_local
        tensor = tensor.to_local()
        if hasattr(tensor, "wait"):  # the result of a collective that may still be running
            tensor = tensor.wait()
    plain: Tensor = tensor
    return plain


def _padding(param: Tensor) -> int:
    """The number of padding elements at the end of a flat parameter of FullyShardedDataParallel."""
    padding: int = getattr(param, "_shard_numel_padded", 0)
    return padding


def _params(param_groups: Sequence[dict[str, Any]]) -> list[Any]:
    return [p for group in param_groups for p in group["params"]]


def _cut(param: Any) -> list[int]:
    """The dimensions of its mesh along which a DTensor is sharded."""
    mesh = param.device_mesh
    return [i for i, placement in enumerate(param.placements) if mesh.size(i) > 1 and not placement.is_replicate()]


def _start(param: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | tuple[()]:
    """The index of a DTensor's first element on this process, and the whole tensor's strides; else an empty tuple."""
    if type(param) in PLAIN or not hasattr(param, "device_mesh"):
        return ()
    # NOTE this is private in torch, but torch.distributed.checkpoint depends on it.
    utils = importlib.import_module("torch.distributed.tensor._utils")
    _, start = utils.compute_local_shape_and_global_offset(param.shape, param.device_mesh, param.placements)
    return tuple(start) or (0,) * param.ndim, tuple(param.stride())


def _ranks(mesh: Any, dims: list[int]) -> tuple[int, ...]:
    """The ranks whose place in the mesh differs from this process's only along these dimensions."""
    here = mesh.get_coordinate()
    index = tuple(slice(None) if i in dims else here[i] for i in range(mesh.ndim))
    return tuple(sorted(mesh.mesh[index].flatten().tolist()))


def _zeros(width: int, device: torch.device) -> Tensor:
    return torch.zeros(width, dtype=accumulator(device), device=device)
