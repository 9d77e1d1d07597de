"""Engine: Triton kernels for GPUs, which move every tensor of a group in two passes over memory.

The same design as `adai.optim.engines.cpu`: the first pass reads the gradients alone, because Σ v_t = beta2 Σ v_{t-1} +
(1 - beta2) Σ g_t² needs no v; the second adds v up as it leaves it. That sum stays on the device, and is taken anew
where the host sees that v has changed since, and by graphs, which the host cannot see. The number of launches does not
depend on the number of tensors: three, four with clipping, five with clipping and an L2 penalty, for each combination
of dtypes in a group. Nothing waits for the device, except where `adai.optim.shared.mean` does.

Triton is imported when the first step on a GPU is made.
"""

import importlib
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.engines.batch import Batch
from adai.optim.engines.memory import written
from adai.optim.engines.triton import table
from adai.optim.engines.triton.table import CHUNK, Part
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean
from adai.optim.shared.mean import total, total_before

BLOCK, WARPS = 1024, 4
TRY_AGAIN_AFTER = 60.0
"""Seconds after which kernels that did not run are tried again."""


def missing(device: torch.device) -> str | None:
    """Why no kernel can run on a device; None where they can. The first answer that is not None is logged.

    That they can is known for good. That they cannot may pass, as memory or a disk may have been full: it is tried
    again after a minute, but not while a graph is captured.
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
        return "Triton is not installed"
    if kernels.INTERPRETED and device.type == "cuda":
        return "TRITON_INTERPRET is set"
    try:  # because Triton needs more than itself when it runs, a C compiler say
        with _current(device):
            number = torch.zeros((), device=device)
            address = torch.tensor(number.data_ptr(), dtype=torch.int64, device=device)
            kernels.probe[(1,)](address, ELEMENT=kernels.TYPES[number.dtype])
            if not number:
                return f"Triton kernels write nothing on {device}"
    except Exception as error:  # of any kind: it calls compilers, linkers and drivers
        return f"Triton does not work on {device} ({error})"
    return None


class Fused:
    """The engine for the tensors of one group."""

    on_device = False
    one_pass = False

    def prepare(self, batch: Batch, states: Sequence[dict[str, Any]], hyper: Hyper) -> str | None:
        """Send the table; returns why the kernels cannot work on these tensors, or None."""
        batch.check_shapes()
        plan = table.plan(batch, capturable=hyper.capturable)
        reason = plan if isinstance(plan, str) else missing(batch.params[0].device)
        if isinstance(plan, str) or reason is not None:
            return reason
        self.on_device = hyper.capturable
        table.lay_out(batch)
        self._passes = [_Passes(part, batch, states, hyper, plan.held) for part in plan.parts]
        return None

    def squares(self, batch: Batch, hyper: Hyper) -> Tensor:
        """Σ g² of the gradients as they are."""
        del batch, hyper
        return total([passes.squares() for passes in self._passes])

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count]) -> Tensor:
        """Σ v̂ of the step before."""
        return total_before(batch.exp_avg_sqs, counts, hyper.beta2)

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any) -> Tensor:
        """Σ v̂ of this step; v itself is brought to it by `update`."""
        del batch, hyper, counts  # they are in the table
        return total([passes.accumulate(clip) for passes in self._passes])

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean) -> None:
        """Move every parameter of the batch, given the mean of v̂."""
        del counts
        for passes in self._passes:
            passes.update(clip, mean)
        if not hyper.capturable:
            torch._foreach_add_(batch.steps, torch.tensor(1.0, device="cpu"))
        written([*batch.params, *batch.exp_avg_sqs])
        for passes in self._passes:
            passes.leave(batch)


class _Passes:
    """The launches for one part of a batch."""

    def __init__(
        self, part: Part, batch: Batch, states: Sequence[dict[str, Any]], hyper: Hyper, held: list[Tensor]
    ) -> None:
        self._kernels, self._hyper, self._part = _kernels(), hyper, part
        mine = batch.take(part.where)
        self._device = mine.params[0].device
        known = part.watch.unchanged([states[i] for i in part.where], mine.exp_avg_sqs)
        real = mine.exp_avgs[0].dtype
        self._table = table.table(
            part, mine, table.numbers(hyper, real), held, capturable=hyper.capturable, known=known
        )
        self._decays, self._corrected = hyper.l2 != 0, mine.bias_corrections[0] is not None
        self._clipped = False  # whether `squares` has read the gradients already
        dtypes = (("PARAM", mine.params[0].dtype), ("GRAD", mine.grads[0].dtype), ("REAL", real))
        self._types = {name: self._kernels.TYPES[dtype] for name, dtype in dtypes}
        tensors = len(part.where)
        self._chunk_sums = self._numbers(len(part.owner), self._kernels.SUMS.value)
        self._tensor_sums = self._numbers(tensors, self._kernels.SUMS.value)
        self._facts = self._numbers(tensors, self._kernels.FACTS.value)
        self._hats = self._numbers(tensors)

    def squares(self) -> Tensor:
        """Σ g², 0-dim."""
        self._clipped = True
        self._read(self._kernels.PARTS if self._decays else self._kernels.PLAIN, None)
        with _current(self._device):
            self._kernels.collect[(len(self._hats),)](
                self._table.words, self._chunk_sums, self._tensor_sums, WHAT=self._what(), CHUNK=CHUNK, BLOCK=BLOCK
            )
        return self._tensor_sums[:, 0].sum()

    def accumulate(self, clip: Any) -> Tensor:
        """Σ v̂, 0-dim."""
        if not self._clipped:
            self._read(self._kernels.DECAYED if self._decays else self._kernels.PLAIN, clip)
        elif self._decays:
            self._read(self._kernels.AGAIN, clip)
        with _current(self._device):
            self._kernels.accumulate[(len(self._hats),)](
                self._table.words, self._chunk_sums, self._tensor_sums, self._part.v_sums, self._facts, self._hats,
                self._number(clip),
                WHAT=self._what(), COUNTED=self._hyper.capturable, REAL=self._types["REAL"], CHUNK=CHUNK,
                BLOCK=BLOCK, enable_fp_fusion=False,
            )  # fmt: skip
        return self._hats.sum()

    def update(self, clip: Any, mean: Mean) -> None:
        """Move, and leave Σ v behind."""
        lr = self._hyper.lr
        with _current(self._device):
            self._kernels.step[(len(self._part.owner),)](
                self._table.words, self._part.owner, self._part.v_sums, self._part.v_steps, self._facts,
                self._number(clip),
                self._number(lr) if table.on_device(lr) else self._table.number(table.LR),
                self._number(mean.value), self._number(mean.alive),
                CORRECTED=self._corrected, DECAYS=self._decays, DAMPENED=self._hyper.dampening != 1,
                COUNTED=self._hyper.capturable, **self._types, CHUNK=CHUNK, BLOCK=BLOCK,
                num_warps=WARPS, enable_fp_fusion=False,
            )  # fmt: skip

    def leave(self, batch: Batch) -> None:
        """Have seen v as the step has left it."""
        self._part.watch.leave(batch.take(self._part.where).exp_avg_sqs)

    def _read(self, what: Any, clip: Any) -> None:
        with _current(self._device):
            self._kernels.read[(len(self._part.owner),)](
                self._table.words, self._part.owner, self._chunk_sums, self._tensor_sums, self._part.v_sums,
                self._part.v_steps, self._number(clip),
                WHAT=what.value, COUNTED=self._hyper.capturable, **self._types, CHUNK=CHUNK, BLOCK=BLOCK,
                num_warps=WARPS, enable_fp_fusion=False,
            )  # fmt: skip

    def _what(self) -> int:
        """What the first pass has read."""
        kernels = self._kernels
        what = (kernels.PARTS if self._clipped else kernels.DECAYED) if self._decays else kernels.PLAIN
        return int(what.value)

    def _numbers(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float64, device=self._device)

    def _number(self, value: Any) -> Tensor:
        """A number where kernels can read it; 1 for None."""
        if value is None:
            return self._table.number(table.ONE)
        if isinstance(value, Tensor):
            return value.detach().reshape(()).to(self._device, torch.float64)
        return torch.tensor(value, dtype=torch.float64, device=self._device)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _kernels() -> Any:
    return importlib.import_module("adai.optim.engines.triton.kernels")
