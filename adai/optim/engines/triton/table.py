"""Where everything lies: the table that the kernels read, sent to the device in one copy per step.

What depends on addresses that change from step to step (gradients are new tensors after ``zero_grad``) and on step
counts is written anew each time; what depends on sizes, layouts and dtypes alone is kept as long as these stay.
"""

import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from adai.optim.engines.batch import PLAIN, Batch
from adai.optim.engines.memory import COUNT_DTYPES, STATE_DTYPES, same_layout
from adai.optim.hyper import Hyper
from adai.optim.shared.watch import Watch

CHUNK = 8192
_CAPTURES = 4  # for so many in a row there is memory in reserve, filled up by one at each step in between
HEAD, WIDTH = 18, 9
KNOWN, STATE_ALIGNED, GRAD_ALIGNED = 1, 2, 4
"""What is so of a tensor: Σ v is known; parameter and state, or the gradient, begin at multiples of 16 bytes."""
LR, ONE = 14, 16  # numbers that kernels take by address; even places, so that every address is a multiple of 16


class Part(NamedTuple):
    """Tensors of a batch that one launch can serve, and how they are cut into chunks."""

    where: list[int]
    """Positions in the batch."""
    size: "array[int]"
    first: "array[int]"
    """Number of each tensor's first chunk; one without elements has a chunk too, in which its step is counted."""
    owner: Tensor
    """The tensor of each chunk; int32, on the device."""
    v_sums: Tensor
    """Σ v of each chunk as a step has left it; on the device, like the next."""
    v_steps: Tensor
    """The step count of each tensor that its sums belong to."""
    watch: Watch
    reserve: list[Tensor]
    """Pinned memory for captures to come."""


class Plan:
    """The parts of a batch, kept from step to step as long as what they follow from stays the same."""

    def __init__(self) -> None:
        self.key: Any = None
        self.parts: list[Part] = []
        self.held: list[Tensor] = []
        """Memory that captured graphs read, whatever becomes of the parts."""


# By the step count of the batch's first parameter, a tensor that stays the same object even where others are views. It
# outlives the engine, and so does what graphs read.
_PLANS = WeakTensorKeyDictionary()


def plan(batch: Batch, *, capturable: bool) -> Plan | str:
    """The parts of a batch, or why the kernels cannot work on it."""
    for tensor in (*batch.params, *batch.grads):
        if type(tensor) not in PLAIN or tensor.layout != torch.strided:
            return f"a parameter or gradient is a {type(tensor).__name__} on {tensor.device}, not a dense tensor"
        if tensor.dtype not in STATE_DTYPES:
            return f"a parameter or gradient has dtype {tensor.dtype}"
    found: Plan = _PLANS.setdefault(batch.steps[0], Plan())
    key = _key(batch, capturable)
    if found.key != key:
        reason = _refusal(batch, capturable)
        if reason is not None:
            return reason
        found.key, found.parts = key, [_part(part, where) for part, where in batch.alike()]
    return found


def _key(batch: Batch, capturable: bool) -> Any:
    """What parts follow from: where parameters and state lie and in which form, and the rest.

    Gradients are new at every step, so their layouts are looked at each time.
    """
    tensors = (t for column in (batch.params, *batch[2:5]) for t in column if t is not None)
    forms = [(t.data_ptr(), t.dtype, t.shape, t.stride()) for t in tensors]
    rest = zip(batch.grads, batch.bias_corrections, batch.steps, strict=True)
    return capturable, forms, [(g.dtype, c is None, t.dtype, t.device) for g, c, t in rest]


def _refusal(batch: Batch, capturable: bool) -> str | None:
    kind = batch.params[0].device.type
    for p, m, v, c, step in zip(
        batch.params, batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections, batch.steps, strict=True
    ):
        if p.device.type != kind:
            return f"one parameter is on {batch.params[0].device}, another on {p.device}"
        dtype = STATE_DTYPES.get(p.dtype)
        if dtype is None:
            return f"a parameter has dtype {p.dtype}"
        if step.dtype not in (COUNT_DTYPES[:1] if capturable else COUNT_DTYPES) or step.device != (
            p.device if capturable else torch.device("cpu")
        ):
            return f"a step count is {step.dtype} on {step.device}"
        for state in (m, v) if c is None else (m, v, c):
            if state.dtype != dtype or state.device != p.device:
                return f"the state of a {p.dtype} parameter on {p.device} is {state.dtype} on {state.device}"
            if not same_layout(p, state):
                return f"a parameter of shape {tuple(p.shape)} has strides {p.stride()}, its state {state.stride()}"
    return None


def _part(batch: Batch, where: list[int]) -> Part:
    size = array("q", [p.numel() for p in batch.params])
    chunks = torch.tensor([max(1, -(-n // CHUNK)) for n in size], device="cpu")
    owner = torch.arange(len(size), dtype=torch.int32, device="cpu").repeat_interleave(chunks)
    first = array("q", (chunks.cumsum(0) - chunks).tolist())
    device = batch.params[0].device
    v_sums, v_steps = (torch.full((n,), -1.0, dtype=torch.float64, device=device) for n in (len(owner), len(size)))
    return Part(where, size, first, owner.to(device), v_sums, v_steps, Watch(), [])


class Table(NamedTuple):
    """The table of one part in one step."""

    words: Tensor
    """On the device: HEAD numbers, then WIDTH words per tensor, in the order of `adai.optim.engines.triton.kernels`."""

    def number(self, place: int) -> Tensor:
        """One of the numbers, on the device."""
        return self.words[place].view(torch.float64)


def table(
    part: Part, batch: Batch, numbers: Sequence[float], held: list[Tensor], *, capturable: bool, known: bool
) -> Table:  # fmt: skip
    """Write and send it; ``batch`` is the part's own, ``held`` the plan's, and v is as it was left where ``known``."""
    tensors: list[Sequence[Tensor | None]] = [
        batch.params, batch.grads, batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections
    ]  # fmt: skip
    addresses = [array("q", [0 if t is None else t.data_ptr() for t in column]) for column in tensors]
    counts = (
        array("q", [step.data_ptr() for step in batch.steps])
        if capturable
        else _bits([step.item() + 1 for step in batch.steps])
    )
    device = batch.params[0].device
    if is_capturing(device):
        # The host cannot look at v when the graph replays, so each replay takes its sum.
        known = False
        held += (part.owner, part.v_sums, part.v_steps)
    words = array("q", bytes(8 * (HEAD + WIDTH * len(part.size))))
    words[: len(numbers)] = _bits(numbers)
    columns = (*addresses, counts, _flags(addresses, known), part.size, part.first)
    for i, column in enumerate(columns):
        words[HEAD + i :: WIDTH] = column
    host = _host_memory(len(words), device, part.reserve if capturable else None, held)
    host.copy_(torch.frombuffer(words, dtype=torch.int64))
    return Table(host.to(device, non_blocking=True))


def _flags(addresses: Sequence["array[int]"], known: bool) -> "array[int]":
    """The flags of each tensor, so that one at an odd place costs the others nothing."""
    ps, gs, ms, vs, cs = addresses
    return array(
        "q",
        [
            KNOWN * known + STATE_ALIGNED * ((p | m | v | c) % 16 == 0) + GRAD_ALIGNED * (g % 16 == 0)
            for p, g, m, v, c in zip(ps, gs, ms, vs, cs, strict=True)
        ],
    )


def numbers(hyper: Hyper, real: torch.dtype) -> list[float]:
    """The head of the table, for a group and the dtype of its state."""
    info = torch.finfo(real)
    shared = [
        hyper.sign,
        hyper.l2,
        1 - hyper.beta2,
        math.log(hyper.beta2) if hyper.beta2 > 0 else -math.inf,
        math.log1p(-hyper.eps),
        hyper.eps,
        hyper.beta0,
        hyper.dampening,
        hyper.decay,
        info.tiny,
        info.tiny * info.eps,  # the smallest number that is not 0
        hyper.most,
        hyper.warmup_steps + 1.0,
    ]
    head = shared + [0.0] * (HEAD - len(shared))
    head[LR] = 0.0 if on_device(hyper.lr) else float(hyper.lr)
    head[ONE] = 1.0
    return head


def lay_out(batch: Batch) -> None:
    """Give gradients of another layout than their parameter's a copy in it, which lives as long as the batch."""
    for i, (p, g) in enumerate(zip(batch.params, batch.grads, strict=True)):
        if not same_layout(p, g):
            batch.grads[i] = torch.empty_like(p, dtype=g.dtype).copy_(g)


def on_device(number: Any) -> bool:
    """Whether the host would have to wait for a number."""
    return isinstance(number, Tensor) and not number.is_cpu


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched on a device now goes into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _bits(numbers: Sequence[float]) -> "array[int]":
    bits = array("q")
    bits.frombytes(array("d", numbers).tobytes())
    return bits


def _host_memory(length: int, device: torch.device, reserve: list[Tensor] | None, held: list[Tensor]) -> Tensor:
    """Memory that a copy to the device may read later.

    A captured copy reads it again at every replay, so it is held for good then. It is pinned before, in steps that are
    not captured, because older versions of torch cannot do so during a capture. Else torch keeps it until it is read.
    """
    if device.type != "cuda":  # the interpreter
        return torch.empty(length, dtype=torch.int64, device=device)
    if is_capturing(device):
        held.append(reserve.pop() if reserve else _pinned(length))
        return held[-1]
    if reserve is not None and len(reserve) < _CAPTURES:
        reserve.append(_pinned(length))
    return _pinned(length)


def _pinned(length: int) -> Tensor:
    return torch.empty(length, dtype=torch.int64, device="cpu", pin_memory=True)
