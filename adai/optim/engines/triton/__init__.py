"""Engine: Triton kernels for GPUs, which update all tensors of a group in two passes over memory.

The design is that of `adai.optim.engines.cpu`: the first pass reads only the gradients, because Σ v_t = beta2 Σ v_{t-1}
+ (1 - beta2) Σ g_t² does not need v, and the second pass adds up the new v. That sum stays on the device. It is
computed again if the host notices that v has changed, and by every replay of a graph, which the host cannot notice. The
number of launches does not depend on the number of tensors: for each combination of dtypes in a group there are three,
four with clipping, and five with clipping and an L2 penalty; beside them one for the mean and one for the factor of
clipping. The host waits for the device only in `adai.optim.shared.mean`.

With ``mean="previous"`` there is no first pass, as the mean follows from the sums of the step before. v is read for
them only in a replay, or if it has changed. One program computes the mean. It reads the gradients for that of this step
if that of the step before is 0 or if there was none; to decide this, the host would have to wait. These are three
launches, with that for the mean; if there are several combinations, four for each.

Triton is imported in the first step on a GPU.
"""

import importlib
import logging
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.engines.batch import Batch
from adai.optim.engines.triton import launch, table
from adai.optim.engines.triton.launch import ALIGNMENT, Launch
from adai.optim.engines.triton.table import CHUNK, Part, Table
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean
from adai.optim.shared.mean import total

BLOCK, WARPS = 1024, 4
LONG_BLOCK, LONG_WARPS = 4096, 16
"""The same for the sums of tensors with more than BLOCK chunks."""
SMALL_BLOCK = 512
"""The block of both passes if they compute powers, the places of shards, or round parameters: that needs registers."""
ONE_BLOCK, ONE_WARPS = 4096, 16
"""The block of a single program that may have to read all gradients, and its warps."""
TRY_AGAIN_AFTER = 60.0
"""The seconds after which kernels that did not run are tried again."""


def missing(device: torch.device) -> str | None:
    """The reason why kernels cannot run on a device; None if they can. The first reason is logged.

    If they can run, this is final. If they cannot, the reason may be temporary, such as full memory or a full disk, so
    they are tried again after a minute, but not while a graph is captured.
    """
    tried = _TRIED.get(device)
    if tried is not None:
        recent = time.monotonic() - tried.at < TRY_AGAIN_AFTER
        if tried.reason is None or recent or table.is_capturing(device):
            return tried.reason
    reason = _tried(device)
    _TRIED[device] = _Tried(reason, time.monotonic())
    if reason is not None and tried is None:
        logging.getLogger(__name__).info("%s; another engine than the fused one is used", reason)
    return reason


class _Tried(NamedTuple):
    reason: str | None
    at: float


_TRIED: dict[torch.device, _Tried] = {}


def _tried(device: torch.device) -> str | None:
    try:
        kernels = _kernels()
    except ImportError:
        return "Triton is not installed; run pip install triton"
    if kernels.INTERPRETED and device.type == "cuda":
        return "the environment variable TRITON_INTERPRET is set; unset it"
    try:  # because Triton needs other tools when it runs, such as a C compiler
        with _current(device):
            number = torch.zeros((), device=device)
            address = torch.tensor(number.data_ptr(), dtype=torch.int64, device=device)
            kernels.probe[(1,)](address, ELEMENT=kernels.TYPES[number.dtype])
            if not number:
                return f"Triton kernels write nothing on {device}"
            launch.try_quick(kernels, device)
    except Exception as error:  # of any kind: it calls compilers, linkers and drivers
        return f"Triton does not work on {device} ({error})"
    return None


class Fused:
    """The fused engine on GPUs, for the tensors of one group. It keeps a table of them as long as they do not move."""

    on_device = False
    one_pass = True

    def __init__(self) -> None:
        self._table: Table | None = None
        self._passes: list[_Passes] = []
        self.ts: list[float] | None = None
        self.elements: int | None = None

    def prepare(self, batch: Batch, owners: Batch, hyper: Hyper) -> str | None:
        """Send what has changed; return None, or the reason why the kernels cannot work on these tensors."""
        kept, capturable = self._table, hyper.capturable
        if kept is None or not kept.fits(batch, owners, capturable=capturable):
            batch.check_shapes()
            devices = dict.fromkeys(p.device for p in batch.params)
            reason = table.refusal(batch, capturable=capturable) or next(filter(None, map(missing, devices)), None)
            if reason is not None:
                return reason
            self._table = kept = Table(batch, owners, capturable=capturable)
            self._passes = [_Passes(part) for part in kept.parts]
        self.on_device = capturable
        self.ts, self.elements = None if capturable else kept.counted(), kept.elements
        kept.lay_out(batch)
        held = table.held_by_graphs(batch) if capturable else None
        for passes in self._passes:
            passes.begin(batch, hyper, held)
        return None

    def squares(self, batch: Batch, hyper: Hyper) -> Tensor:
        """Σ g² of the raw gradients, for each tensor where all are alike."""
        del batch, hyper
        squares = [passes.squares() for passes in self._passes]
        return squares[0] if len(squares) == 1 else total([each.sum() for each in squares])

    def factor(self, squares: Sequence[Tensor], limit: float, unscale: Any) -> Tensor | None:
        """The factor of clipping, with one launch for each batch; None if they are on several devices."""
        first = self._passes[0]
        part = first.part
        if any(each.device != part.device for each in squares):
            return None
        before = part.zeros
        for each in squares:
            first.factor(first.number(each), before, limit, unscale)
            before = part.clip
        return part.factor

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count]) -> Tensor:
        """Σ v̂ of the step before."""
        del batch, hyper, counts
        for passes in self._passes:
            passes.look_back(self.ts)
        return total([passes.part.hats.sum() for passes in self._passes])

    def mean_before(self, engines: Sequence[Any], clips: Sequence[Any]) -> Mean | None:
        """The mean of v̂ of the step before, or of this step, decided on the device; None if they are on several."""
        all_passes = [(passes, e.ts, clip) for e, clip in zip(engines, clips, strict=True) for passes in _passes_of(e)]
        part = self._passes[0].part
        if any(_passes_of(e) == [] for e in engines) or any(p.part.device != part.device for p, _, _ in all_passes):
            return None
        before = part.zeros
        for passes, ts, clip in all_passes:
            passes.look_back(ts)
            passes.previous(before, part.mean, clip, sums=True, own=len(all_passes) == 1)
            before = part.mean
        for passes, _, clip in all_passes if len(all_passes) > 1 else ():
            passes.previous(before, part.mean, clip, sums=False, own=True)
        return Mean(part.v_mean, part.alive)

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any) -> Tensor:
        """Σ v̂ of each tensor in this step. v itself is updated in `update`."""
        del batch, counts
        hats = [passes.accumulate(self.ts, clip) for passes in self._passes]
        if len(hats) == 1:
            return hats[0]
        return total([each.sum() for each in hats])

    def mean(self, hats: Sequence[Tensor], elements: int) -> Mean | None:
        """The mean, with one launch for each batch; None if they are on several devices."""
        first = self._passes[0]
        part = first.part
        if any(each.device != part.device for each in hats):
            return None
        before = part.zeros
        for each in hats:
            here = first.number(each)
            first.launch(("mean",), 1, lambda: {"BLOCK": BLOCK}, here, here.numel(), elements, before, part.mean)
            before = part.mean
        return Mean(part.v_mean, part.alive)

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean) -> None:
        """Update every parameter of the batch with the mean of v̂, and count the step."""
        del hyper, counts
        for passes in self._passes:
            passes.update(self.ts, clip, mean)
        assert self._table is not None
        self._table.leave(batch)


def _passes_of(engine: Any) -> "list[_Passes]":
    """The launches of an engine; none if it is of another kind."""
    return engine._passes if isinstance(engine, Fused) else []


class _Passes:
    """The launches for one part of a batch."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self._launches: dict[tuple[Any, ...], Launch] = {}
        self._flags: tuple[bool, ...] = ()
        types = _kernels().TYPES
        self._real, self._kept = types[part.real_dtype], types[part.state_dtype]
        self._types = {"PARAM": types[part.param_dtype], "GRAD": types[part.grad_dtype], "REAL": self._real}

    def begin(self, batch: Batch, hyper: Hyper, held: list[Tensor] | None) -> None:
        """Begin a step: send what is new."""
        self._hyper = hyper
        self._grads, self._numbers = self.part.begin(batch.grads, hyper, held)
        self._clipped = False  # whether `squares` has read the gradients already
        self._counted = False  # whether the facts of this step are on the device
        self._factor: Tensor | None = None  # that of clipping, where kernels can read it
        flags = hyper.l2 != 0, hyper.dampening != 1, hyper.capturable
        if flags != self._flags:
            self._flags = self._decays, self._dampened, self._capturable = flags
            small = self._dampened or self.part.in_runs or self.part.rounded
            self._block = SMALL_BLOCK if small else BLOCK
            self._launches.clear()

    def squares(self) -> Tensor:
        """Σ g² of each tensor."""
        self._clipped, part = True, self.part
        self._read("parts" if self._decays else "plain", part.one)
        self.launch(
            ("collect",), part.tensors, lambda: {"WHAT": self._what(), "CHUNK": CHUNK, **self._adding_up()},
            part.words, part.chunk_sums, part.tensor_sums,
        )  # fmt: skip
        return part.squares

    def factor(self, squares: Tensor, before: Tensor, limit: float, unscale: Any) -> None:
        """Add to the sum ``before``, and compute the factor of clipping."""
        columns = squares.stride(0) if squares.dim() else 1
        self.launch(
            ("factor", columns), 1, lambda: {"COLUMNS": columns, "BLOCK": BLOCK},
            squares, squares.numel(), before, _bits(limit), self.number(unscale), self.part.clip,
        )  # fmt: skip

    def accumulate(self, ts: list[float] | None, clip: Any) -> Tensor:
        """Σ v̂ of each tensor. ``ts`` contains the step counts of the whole batch, if the host counts them."""
        factor = self._clip(clip)
        if not self._clipped:
            self._read(self._what(), factor)
        elif self._decays:
            self._read("again", factor)
        self._add_up(self._what(), ts, factor)
        return self.part.hats

    def look_back(self, ts: list[float] | None) -> None:
        """Compute Σ v̂ of each tensor in the step before, where it took part in it."""
        if not self._clipped and (self._capturable or not self.part.summed):
            self._read("before", self.part.one)
        self._add_up("before", ts, self.part.one)

    def _add_up(self, what: str, ts: list[float] | None, factor: Tensor) -> None:
        part = self.part
        self._counted = True
        counts, later = (part.one, 0) if ts is None else part.counts(ts)
        self.launch(
            ("accumulate", what), part.tensors,
            lambda: {
                "WHAT": what, "COUNTED": self._capturable, "REAL": self._real, "CHUNK": CHUNK, **self._adding_up(),
                "enable_fp_fusion": False,
            },
            part.words, self._numbers, counts, later, part.chunk_sums, part.tensor_sums, part.v_sums, part.facts,
            part.hats, factor,
        )  # fmt: skip

    def previous(self, before: Tensor, out: Tensor, clip: Any, *, sums: bool, own: bool) -> None:
        """Add the sums of `look_back` to those ``before``, and read the gradients where the step's own mean is due."""
        part = self.part
        self.launch(
            ("previous", sums, own), 1,
            lambda: {
                "SUMS": sums, "OWN": own, "DECAYS": self._decays, **self._types, "CHUNK": CHUNK, "BLOCK": ONE_BLOCK,
                "num_warps": ONE_WARPS, "enable_fp_fusion": False,
            },
            part.words, self._grads, self._numbers, part.owner, part.v_sums, part.facts, part.hats,
            self._clip(clip), part.tensors, part.chunks, before, out,
        )  # fmt: skip

    def update(self, ts: list[float] | None, clip: Any, mean: Mean) -> None:
        """Update the parameters, and store the new Σ v."""
        lr, part = self._hyper.lr, self.part
        if not self._counted:
            self._add_up("before", ts, part.one)
        there = table.on_device(lr)
        self.launch(
            ("step",), part.chunks,
            lambda: {
                "CORRECTED": part.corrected, "DECAYS": self._decays, "DAMPENED": self._dampened,
                "ROUNDED": part.rounded, "RUNS": part.in_runs, "COUNTED": self._capturable,
                **self._types, "KEPT": self._kept,
                "EACH": self._each(part.param_dtype, part.grad_dtype, part.state_dtype), "CHUNK": CHUNK,
                "BLOCK": self._block, "num_warps": WARPS, "enable_fp_fusion": False,
            },
            part.words, self._grads, self._numbers, part.owner, part.v_sums, part.v_steps, part.facts,
            self._clip(clip), _bits(1.0 if there else float(lr)), self.number(lr) if there else part.one,
            self.number(mean.value), self.number(mean.alive),
        )  # fmt: skip
        part.summed = True

    def _read(self, what: str, factor: Tensor) -> None:
        part = self.part
        self.launch(
            ("read", what), part.chunks,
            lambda: {
                "WHAT": what, "COUNTED": self._capturable, **self._types, "KEPT": self._kept,
                "EACH": self._each(part.param_dtype, part.grad_dtype), "CHUNK": CHUNK, "BLOCK": self._block,
                "num_warps": WARPS, "enable_fp_fusion": False,
            },
            part.words, self._grads, self._numbers, part.owner, part.chunk_sums, part.tensor_sums, part.v_sums,
            part.v_steps, factor,
        )  # fmt: skip

    def launch(
        self, key: tuple[Any, ...], programs: int, constants: Callable[[], dict[str, Any]], *args: Tensor | int
    ) -> None:
        """Launch a kernel, whose name is the first part of ``key``; ``constants`` do not change while flags do not."""
        kept = self._launches.get(key)
        if kept is None:
            device = self.part.device
            kept = self._launches[key] = Launch(getattr(_kernels(), key[0]), programs, constants(), device)
        with _current(self.part.device):
            kept(*args)

    def _adding_up(self) -> dict[str, Any]:
        """The constants of a program that adds up the chunks of a tensor: wider if there are many."""
        is_long = self.part.longest > BLOCK
        return {"BLOCK": LONG_BLOCK if is_long else BLOCK, "num_warps": LONG_WARPS if is_long else WARPS}

    def _each(self, *dtypes: torch.dtype) -> int:
        """The number of elements in a wide access to arrays of these dtypes, of which a thread has only so many."""
        return max(1, min(16 // max(dtype.itemsize for dtype in dtypes), self._block // (32 * WARPS)))

    def _what(self) -> str:
        """The kind of sums that the first pass has computed."""
        if not self._decays:
            return "plain"
        return "parts" if self._clipped else "decayed"

    def _clip(self, clip: Any) -> Tensor:
        """The factor of clipping, which is the same in the whole step."""
        if self._factor is None:
            self._factor = self.number(clip)
        return self._factor

    def number(self, value: Any) -> Tensor:
        """A number, or several, on the device, where kernels can read it, aligned as `launch` needs it; 1 for None."""
        part = self.part
        if value is None:
            return part.one
        if not isinstance(value, Tensor):
            return torch.tensor(value, dtype=torch.float64, device=part.device)
        if value.dtype == torch.float64 and value.device == part.device and value.data_ptr() % ALIGNMENT == 0:
            return value
        return value.detach().to(part.device, torch.float64, copy=True)


def _bits(number: float) -> int:
    """The bits of a float64, because Triton would convert the number to float32."""
    bits: int = struct.unpack("q", struct.pack("d", number))[0]
    return bits


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """A context with this device as the current one, on which Triton launches."""
    there = device.type != "cuda" or torch.cuda.current_device() == device.index
    return nullcontext() if there else torch.cuda.device(device)


def _kernels() -> Any:
    return importlib.import_module("adai.optim.engines.triton.kernels")
