"""Who holds what: which part of the whole each parameter is on this process, and sums over all the processes.

Sums of tensors of the optimizer, Σ v̂ and Σ g², are taken over what lies on this process, and then added up: first what
DTensors share, over their mesh, by one all-reduce for each mesh; then, where there is a `process_group`, all of that
over the group, by one more. A DTensor that several processes of a mesh hold alike counts once.
"""

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from adai.optim.engines.batch import PLAIN, Batch
from adai.optim.engines.memory import is_unreal
from adai.optim.engines.rounding import Place
from adai.optim.shared.mean import accumulator, total


class Group(NamedTuple):
    """Processes that hold the parts of some DTensors, and where they add up."""

    processes: Any
    device: torch.device


class Share(NamedTuple):
    """What a tensor is on this process: one of ``copies`` equal parts of what a group holds, or the whole tensor."""

    group: int | None = None
    """Position in `Sharing.groups`; None where the whole tensor is here."""
    copies: int = 1


class Sharing:
    """The shares of all parameters of an optimizer."""

    def __init__(
        self,
        param_groups: Sequence[dict[str, Any]],
        process_group: Any,
        made: "Sharing | None" = None,
        rounding_seed: int | None = None,
    ) -> None:
        """Find the shares; process groups that ``made`` has created serve again. All processes do this together.

        Without a ``rounding_seed`` nothing is rounded, and `places` are not looked for.
        """
        self._params = _params(param_groups)  # kept, so that no other tensor can take their addresses
        self._ids = [id(p) for p in self._params]
        self._created: dict[tuple[int, ...], Any] = made._created if made else {}
        self.process_group = process_group
        self.groups: list[Group] = []
        self.shares = [Share()]
        self.by_id: dict[int, int] = {}
        """The positions in `shares` of parameters that are cut, by id."""
        self.numbers = {identity: number for number, identity in enumerate(self._ids)}
        """The parameters' numbers among all of them, by id."""
        self.plain = all(type(p) in PLAIN and not _padding(p) for p in self._params)
        """Whether every parameter is just its elements on this process, and needs no `local`."""
        self.unreal = any(is_unreal(getattr(p, "_local_tensor", p)) for p in self._params)
        """Whether there are parameters without numbers, for which nothing can be decided on the host."""
        self.places = self._find_places(rounding_seed)
        """Where in the whole tensor the part of each parameter on this process lies, by the parameter's number."""
        self._find_shares()
        if self.alone:
            return
        if any(group["differentiable"] for group in param_groups):
            raise RuntimeError("`differentiable` is not possible with shards: a sum over processes has no derivative")
        self._check_overlap()

    @property
    def alone(self) -> bool:
        """Whether nothing has to be asked of other processes."""
        return self.process_group is None and not self.groups

    def fits(self, param_groups: Sequence[dict[str, Any]]) -> bool:
        """Whether these are the parameters that it was made for."""
        return self._ids == list(map(id, _params(param_groups)))

    def share(self, param: Tensor) -> int:
        """The position of the parameter's share in `shares`."""
        return self.by_id.get(id(param), 0)

    def mean(
        self, sums: Sequence[Tensor], elements: Sequence[int], told: Sequence[Tensor | None], shares: Sequence[int]
    ) -> Tensor:
        """Σ over all batches on all processes, divided by the number of their elements; 0 where nothing has been told.

        Args:
            sums: a sum for each batch of this process, 0-dim.
            elements: the number of elements of each batch on this process.
            told: a number that is 0 for a batch whose sum alone is not to count; None for all others.
            shares: what the tensors of each batch are.
        """
        if self.alone:
            alone = total(sums) / max(sum(elements), 1)  # tensors without elements have the sum 0
            numbers = [t for t in told if t is not None]
            return alone if len(numbers) < len(told) else alone * (total(numbers) > 0)
        rows = [
            torch.stack((s, torch.full_like(s, n), torch.ones_like(s) if t is None else t.to(s)))
            for s, n, t in zip(sums, elements, told, strict=True)
        ]
        v_sum, count, heard = self._add_up(rows, shares, 3)
        v_mean: Tensor = v_sum / count.clamp_min(1) * (heard > 0)
        return v_mean

    def total(self, sums: Sequence[Tensor], shares: Sequence[int]) -> Tensor:
        """Σ over all batches on all processes."""
        if self.alone:
            return total(sums)
        return self._add_up([s.reshape(1) for s in sums], shares, 1)[0]

    def _add_up(self, rows: Sequence[Tensor], shares: Sequence[int], width: int) -> Tensor:
        """The sum of the rows of all processes. It takes part where it has none, because the others wait for it."""
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
        """Where `process_group` adds up: where the parameters are or, without any, where its backend works."""
        if self._params:
            device: torch.device = self._params[0].device
            return device
        return torch.device("cuda" if "nccl" in dist.get_backend(self.process_group) else "cpu")

    def _find_places(self, seed: int | None) -> list[Place]:
        holder = 0 if self.process_group is None else dist.get_rank(self.process_group)
        if seed is None:
            return [Place(number) for number in range(len(self._params))]
        return [Place(number, seed, holder, *_start(param)) for number, param in enumerate(self._params)]

    def _find_shares(self) -> None:
        meshes: dict[Any, list[Tensor]] = {}
        for p in self._params:
            if type(p) not in PLAIN and hasattr(p, "device_mesh"):
                meshes.setdefault(p.device_mesh, []).append(p)
        for mesh, params in meshes.items():
            # Dimensions along which any of the parameters is cut; along the others all of them are copies.
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
        """The process group of this process along some dimensions of the mesh, the same one for the same ranks."""
        ranks = _ranks(mesh, dims)
        if ranks not in self._created:
            if len(dims) == 1:
                self._created[ranks] = mesh.get_group(dims[0])
            elif len(ranks) == dist.get_world_size():
                self._created[ranks] = dist.group.WORLD
            else:  # without local synchronisation processes outside the mesh would have to join in
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
                    f"process_group and the mesh of DTensor parameters share the ranks {sorted(both)}; DTensors are "
                    "added up over their mesh anyway, so leave process_group at None"
                )


def local(batch: Batch) -> Batch:
    """What lies on this process of a batch, in plain tensors on the same memory."""
    rows = [(*_row(*row), place) for *row, place in zip(*batch, strict=True)]
    return Batch(*(list(column) for column in zip(*rows, strict=True)))


def _row(param: Any, grad: Any, m: Tensor, v: Tensor, c: Tensor | None, step: Tensor) -> tuple[Any, ...]:
    if hasattr(param, "device_mesh") and grad.placements != param.placements:  # Partial: a sum yet to be taken
        grad = grad.redistribute(placements=param.placements)
    tensors = [None if t is None else _local(t) for t in (param, grad, m, v, c)]
    padding = _padding(param)
    return (*(t if t is None or not padding else t[:-padding] for t in tensors), step)


def on_this_process(param: Tensor, tensor: Tensor) -> Tensor:
    """What lies on this process of a state tensor of a parameter, in a plain tensor on the same memory."""
    tensor, padding = _local(tensor), _padding(param)
    return tensor[:-padding] if padding else tensor


def _local(tensor: Any) -> Tensor:
    if hasattr(tensor, "device_mesh"):  # NOTE without gradients torch.compile (2.13) denies that there is a to_local
        tensor = tensor.to_local()
        if hasattr(tensor, "wait"):  # the result of a collective that may still be under way
            tensor = tensor.wait()
    plain: Tensor = tensor
    return plain


def _padding(param: Tensor) -> int:
    """How many elements at the end of a flat parameter of FullyShardedDataParallel are none of the model's."""
    padding: int = getattr(param, "_shard_numel_padded", 0)
    return padding


def _params(param_groups: Sequence[dict[str, Any]]) -> list[Any]:
    return [p for group in param_groups for p in group["params"]]


def _cut(param: Any) -> list[int]:
    """The dimensions of its mesh along which a DTensor is cut into parts."""
    mesh = param.device_mesh
    return [i for i, placement in enumerate(param.placements) if mesh.size(i) > 1 and not placement.is_replicate()]


def _start(param: Any) -> tuple[tuple[int, ...], tuple[int, ...]] | tuple[()]:
    """The index of a DTensor's first element on this process, and the strides of the whole; none for other tensors."""
    if type(param) in PLAIN or not hasattr(param, "device_mesh"):
        return ()
    # NOTE torch keeps this private, and had it elsewhere before 2.5; torch.distributed.checkpoint lives on it.
    utils = importlib.import_module("torch.distributed.tensor._utils")
    _, start = utils.compute_local_shape_and_global_offset(param.shape, param.device_mesh, param.placements)
    return tuple(start) or (0,) * param.ndim, tuple(param.stride())


def _ranks(mesh: Any, dims: list[int]) -> tuple[int, ...]:
    """The ranks that differ from this process along these dimensions of the mesh alone."""
    here = mesh.get_coordinate()
    index = tuple(slice(None) if i in dims else here[i] for i in range(mesh.ndim))
    return tuple(sorted(mesh.mesh[index].flatten().tolist()))


def _zeros(width: int, device: torch.device) -> Tensor:
    return torch.zeros(width, dtype=accumulator(device), device=device)


def check_process_group(process_group: Any) -> None:
    """Raise where this is neither None nor a process group that has this process in it."""
    if process_group is None:
        return
    if dist.is_available() and process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("Invalid process_group: this process is not a member of it")
    if not dist.is_available() or not isinstance(process_group, dist.ProcessGroup):
        raise TypeError(
            f"process_group must be a torch.distributed.ProcessGroup, but got {type(process_group).__name__}; "
            "for all processes give torch.distributed.group.WORLD"
        )
