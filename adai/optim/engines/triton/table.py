"""The data that the kernels read: sent to the device when it is new, and kept there as long as it is valid.

Every step checks whether the data has changed. Data on the device is never overwritten, because a captured graph may
still read it; the exception is data that kernels write for each other.
"""

import ctypes
import math
from array import array
from collections.abc import Sequence
from operator import attrgetter, eq
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from adai.optim.engines.batch import PLAIN, Batch
from adai.optim.engines.memory import COUNT_DTYPES, STATE_DTYPES, same_layout, written
from adai.optim.engines.narrow import kept_dtype, rounds_params, runs
from adai.optim.engines.rounding import Place, stream
from adai.optim.hyper import Hyper
from adai.optim.shared.mean import distinct
from adai.optim.shared.watch import Watch
from adai.optim.torch_private import looks_like

T = TypeVar("T")
CHUNK = 8192
WIDTH = 11
"""The words of the table for each tensor, which `adai.optim.engines.triton.kernels` lists."""
_CAPTURES = 4  # memory is in reserve for so many captures in a row; each step in between adds one
_ADDRESS: Any = Tensor.data_ptr
_VALUE = attrgetter("value")
_CELLS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}

# Memory that captured graphs read, by the step count of the first parameter, so that it is freed with the state.
_HELD = WeakTensorKeyDictionary()


class Table:
    """The table of the tensors of a group, valid as long as these do not change in identity, address or form."""

    def __init__(self, batch: Batch, owners: Batch, *, capturable: bool) -> None:
        """Create the table of tensors on which the kernels can work, see `refusal`."""
        self._capturable = capturable
        self._forms, self._places = _Forms(batch), batch.places
        self._odd = [i for i, (p, g) in enumerate(zip(batch.params, batch.grads, strict=True)) if not same_layout(p, g)]
        self._moments, self._squares = Watch(), Watch()  # kernels count their writes to v only
        self._look_at(batch, owners)
        self._moments.leave()
        self.elements = sum(p.numel() for p in batch.params)
        self._cells = [] if capturable else [_CELLS[t.dtype].from_address(t.data_ptr()) for t in batch.steps]
        self.parts = [Part(part, where, capturable=capturable) for part, where in batch.alike()]

    def fits(self, batch: Batch, owners: Batch, *, capturable: bool) -> bool:
        """Whether the table is still valid, except for the addresses of gradients. Call this once in each step."""
        unchanged = self._look_at(batch, owners)
        try:
            same = unchanged and capturable == self._capturable and batch.places == self._places
            return same and self._forms.fits(batch)
        except RuntimeError:  # some tensors have no address or no strides
            return False

    def _look_at(self, batch: Batch, owners: Batch) -> bool:
        """Whether the state tensors are the same, with the same contents and form."""
        here = _moments(batch)
        moments = self._moments.unchanged(here if owners is batch else _moments(owners), here)
        squares = self._squares.unchanged(owners.exp_avg_sqs, batch.exp_avg_sqs)
        return moments and squares

    def lay_out(self, batch: Batch) -> None:
        """Replace gradients of another layout than their parameter's by copies, which live as long as the batch."""
        for i in self._odd:
            p, g = batch.params[i], batch.grads[i]
            batch.grads[i] = torch.empty_like(p, dtype=g.dtype).copy_(g)

    def counted(self) -> list[float]:
        """The count of each tensor in this step, if the host counts steps."""
        before = list(map(_VALUE, self._cells))
        if len(distinct(before)) == 1:  # usually, and a list of one and the same object is fast to compare
            return [before[0] + 1] * len(before)
        return [t + 1 for t in before]

    def leave(self, batch: Batch) -> None:
        """Count the step, and remember v as it is now. Call this after a step, even if the device has skipped it."""
        # NOTE adding 1 with a torch operator takes longer than everything else that the host does for a tensor.
        for cell in self._cells:
            cell.value += 1
        self._squares.leave_written(batch.exp_avg_sqs, lambda: written(batch.params + batch.exp_avg_sqs))


class Part:
    """Tensors of a batch that one launch can process, their division into chunks, and the data on the device."""

    def __init__(self, batch: Batch, where: list[int], *, capturable: bool) -> None:
        """Create the part for a batch whose positions in the whole batch are ``where``."""
        self._where = where
        self.device = batch.params[0].device
        self.param_dtype, self.grad_dtype = batch.params[0].dtype, batch.grads[0].dtype
        self.state_dtype, self.real_dtype = batch.exp_avgs[0].dtype, STATE_DTYPES[self.param_dtype]
        self.corrected = batch.bias_corrections[0] is not None
        self.rounded = rounds_params(batch)
        self.summed = False  # whether Σ v of each chunk is on the device, if nothing but these kernels writes to v
        self._capturable = capturable
        size = [p.numel() for p in batch.params]
        # A tensor without elements also has a chunk, which counts its step.
        chunks = torch.tensor([max(1, -(-n // CHUNK)) for n in size], device="cpu")
        owner = torch.arange(len(size), dtype=torch.int32, device="cpu").repeat_interleave(chunks)
        self.owner = owner.to(self.device)
        self.tensors, self.chunks, self.longest = len(size), len(owner), int(chunks.max())
        columns = [_addresses(column) for column in (batch.params, *batch[2:5])]
        steps = _addresses(batch.steps) if capturable else [0] * len(size)
        placed = [_placed(*row) for row in zip(batch.params, batch.exp_avgs, batch.places, strict=True)]
        self.in_runs = any(pitch > 1 for _, _, pitch in placed)
        columns += [steps, size, (chunks.cumsum(0) - chunks).tolist()]
        columns += [[stream(place) for place in batch.places], *map(list, zip(*placed, strict=True))]
        words = torch.tensor(columns, dtype=torch.int64, device="cpu").T.contiguous()
        self.words = words.to(self.device)
        self.zeros, self.one = self._filled(2).zero_(), self._filled().fill_(1)
        self.v_sums, self.v_steps = self._filled(len(owner)), self._filled(len(size))
        self.chunk_sums, self.tensor_sums = self._filled(len(owner), 4), self._filled(len(size), 4)
        self.facts, self.hats = self._filled(len(size), 4), self._filled(len(size))
        # 16 bytes apart, because Triton compiles different code for other alignments.
        self.mean = self._filled(8)
        self.v_mean, self.alive = self.mean[2], self.mean[4]
        self.clip = self._filled(4)
        self.factor, self.squares = self.clip[2], self.tensor_sums[:, 0]
        self._grads, self._numbers, self._counts = _Sent("q"), _Sent("d"), _Sent("d")
        self._first_ts: list[float] = []
        self._options: Any = None
        self._last_numbers: list[float] = []

    def _filled(self, *shape: int) -> Tensor:
        return torch.full(shape, -1.0, dtype=torch.float64, device=self.device)

    def begin(self, grads: list[Tensor], hyper: Hyper, held: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        """Send the addresses of gradients and the group's numbers, if they are new; return both on the device.

        Args:
            grads: the gradients of the whole batch, after `Table.lay_out`.
            hyper: the group's numbers.
            held: the list to which to append what the captured graph reads; None if no graph is being captured.
        """
        addresses = list(map(_ADDRESS, self._own(grads)))
        if held is not None:
            # The host cannot check v when the graph replays, so each replay computes its sum.
            self.v_steps.fill_(-1)
            held += [t for t in vars(self).values() if isinstance(t, Tensor)]
        return (
            self._grads.send(addresses, self.device, held, reserve=self._capturable),
            self._numbers.send(self._numbers_of(hyper), self.device, held, reserve=False),
        )

    def _own(self, values: list[T]) -> list[T]:
        """Those that belong to this part, of values for the whole batch."""
        return values if len(values) == len(self._where) else [values[i] for i in self._where]

    def _numbers_of(self, hyper: Hyper) -> list[float]:
        options = hyper[1:]  # without lr, which is not among the numbers
        if options != self._options:
            self._options, self._last_numbers = options, _numbers(hyper, self.real_dtype)
        return self._last_numbers

    def counts(self, ts: list[float]) -> tuple[Tensor, int]:
        """Step counts on the device, and the number of steps by which they are later now.

        Args:
            ts: the step counts of the whole batch.
        """
        ts, first = self._own(ts), self._first_ts
        later = int(ts[0] - first[0]) if first else 0
        if distinct(ts) != [t + later for t in distinct(first)]:
            self._first_ts, later = ts, 0
        return self._counts.send(self._first_ts, self.device, None, reserve=False), later


class _Sent:
    """Words on the device, int64 or float64. If they change, they are sent again, into other memory."""

    def __init__(self, typecode: str) -> None:
        """Create it for words of a type, as `array` names it: "q" or "d"."""
        self._typecode = typecode
        self._words: list[Any] | None = None
        self._there = torch.empty(0)
        self._reserve: list[Tensor] = []

    def send(self, words: list[Any], device: torch.device, held: list[Tensor] | None, *, reserve: bool) -> Tensor:
        """Return the words on the device; send them if they are new.

        Words that are sent during a capture are only for that graph, because they arrive when it replays.

        Args:
            words: the words. The list must not be changed afterwards.
            device: the device to send them to.
            held: the list to which to append what the captured graph reads; None if no graph is being captured.
            reserve: whether a capture may follow, for which pinned memory is reserved.
        """
        if held is None and reserve and device.type == "cuda" and len(self._reserve) < _CAPTURES:
            self._reserve.append(_pinned(len(words)))
        if words is self._words or words == self._words:
            if held is not None:
                held.append(self._there)
            return self._there
        host, there = self._new(words, device, held)
        if held is not None:
            held += [host, there]
        else:
            self._words, self._there = words, there
        return there

    def _new(self, words: list[Any], device: torch.device, held: list[Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return the words in host memory, and their copy on the device.

        A captured copy reads the host memory at every replay. That memory is pinned in earlier steps, which are not
        captured, because older versions of torch cannot pin memory during a capture. Outside of captures torch keeps
        the host memory until it has been read.
        """
        if device.type != "cuda":  # the interpreter
            host = torch.empty(len(words), dtype=torch.int64, device="cpu")
        elif held is not None and self._reserve:
            host = self._reserve.pop()
        else:
            host = _pinned(len(words))
        own = array(self._typecode, words)
        ctypes.memmove(host.data_ptr(), own.buffer_info()[0], own.itemsize * len(own))  # faster than through a tensor
        there = host.to(device, non_blocking=True)
        return host, there.view(torch.float64) if self._typecode == "d" else there


def held_by_graphs(batch: Batch) -> list[Tensor] | None:
    """The list that keeps alive what the captured graph reads; None if no graph is being captured."""
    if not is_capturing(batch.params[0].device):
        return None
    held: list[Tensor] = _HELD.setdefault(batch.steps[0], [])
    return held


def refusal(batch: Batch, *, capturable: bool) -> str | None:
    """The reason why the kernels cannot work on these tensors; None if they can."""
    for tensor in (*batch.params, *batch.grads):
        if type(tensor) not in PLAIN or tensor.layout != torch.strided:
            return f"a parameter or gradient is a {type(tensor).__name__} on {tensor.device}, not a dense tensor"
        if tensor.dtype not in STATE_DTYPES:
            return f"a parameter or gradient has dtype {tensor.dtype}"
    device = next((p.device for p in batch.params if p.device.type != batch.params[0].device.type), None)
    if device is not None:
        return f"one parameter is on {batch.params[0].device}, another on {device}"
    return _refusal_of_state(batch, capturable=capturable)


def _refusal_of_state(batch: Batch, *, capturable: bool) -> str | None:
    for p, m, v, c, step, place in zip(*batch[:1], *batch[2:], strict=True):
        if step.dtype not in (COUNT_DTYPES[:1] if capturable else COUNT_DTYPES) or step.device != (
            p.device if capturable else torch.device("cpu")
        ):
            return f"a step count is {step.dtype} on {step.device}"
        for state in (m, v) if c is None else (m, v, c):
            if state.dtype != kept_dtype(m, STATE_DTYPES[p.dtype]) or state.device != p.device:
                return f"the state of a {p.dtype} parameter on {p.device} is {state.dtype} on {state.device}"
            if not same_layout(p, state):
                return f"a parameter of shape {tuple(p.shape)} has strides {p.stride()}, its state {state.stride()}"
        in_runs = runs(p, m, place)
        if in_runs is None:
            return f"a rounded parameter is sharded along several inner dimensions, to {tuple(p.shape)}"
        if 2**31 <= in_runs[1] < p.numel():
            return f"a rounded parameter is sharded into runs of {in_runs[1]} elements"
    return None


def on_device(number: Any) -> bool:
    """Whether a number is on a device, so that the host would have to wait for it."""
    return isinstance(number, Tensor) and not number.is_cpu


def is_capturing(device: torch.device) -> bool:
    """Whether a CUDA graph is capturing launches on a device."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


class _Forms:
    """Data that the table depends on and torch's version counters do not cover: addresses, and forms of non-state.

    Gradients are new in each step, perhaps at the address of an old one, and a parameter's ``.data`` may be replaced.
    """

    def __init__(self, batch: Batch) -> None:
        self._addresses = [_addresses(ts) for ts in (batch.params, *batch[2:-1])]
        self._forms = [_Form(ts) for ts in self._of_no_moments(batch)]

    def fits(self, batch: Batch) -> bool:
        """Whether addresses and forms are still the same."""
        if self._addresses != [_addresses(ts) for ts in (batch.params, *batch[2:-1])]:
            return False
        return all(form.fits(ts) for form, ts in zip(self._forms, self._of_no_moments(batch), strict=True))

    @staticmethod
    def _of_no_moments(batch: Batch) -> tuple[list[Tensor], ...]:
        """The tensors whose forms are compared; those of the moments follow from their identity."""
        return batch.params, batch.grads, batch.steps


class _Form:
    """The form of some tensors."""

    _GET: Any = type, attrgetter("dtype"), Tensor.size, Tensor.stride

    def __init__(self, tensors: list[Tensor]) -> None:
        self._looks_right = looks_like(tensors)
        self._columns = [[get(t) for t in tensors] for get in self._GET]

    def fits(self, tensors: list[Tensor]) -> bool:
        """Whether these tensors have the same form.

        NOTE shapes and strides are compared one by one: creating a list of thousands of tuples in each step would start
        Python's garbage collector, which takes longer than everything else.
        """
        if self._looks_right(*tensors):
            return True
        return all(all(map(eq, map(get, tensors), kept)) for get, kept in zip(self._GET, self._columns, strict=True))


def _addresses(tensors: Sequence[Tensor | None]) -> list[int]:
    try:
        return list(map(_ADDRESS, tensors))
    except TypeError:  # one is None
        return [0 if t is None else t.data_ptr() for t in tensors]


def _placed(p: Tensor, m: Tensor, place: Place) -> tuple[int, int, int]:
    """The places of a tensor's elements, see `runs`. A single run is given as many runs of one element, side by side.

    These are the same places, and the length fits in the 32 bits that kernels have for it, however long the tensor is.
    """
    first, run, pitch = runs(p, m, place) or (0, 1, 1)
    return (first, 1, 1) if run >= p.numel() else (first, run, pitch)


def _moments(batch: Batch) -> list[Tensor]:
    return batch.exp_avgs + [c for c in batch.bias_corrections if c is not None]


def _numbers(hyper: Hyper, real: torch.dtype) -> list[float]:
    """The numbers of a group, in the order of `adai.optim.engines.triton.kernels`."""
    info = torch.finfo(real)
    return [
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
        info.tiny * info.eps,
        hyper.most,
        hyper.warmup_steps + 1.0,
    ]


def _pinned(length: int) -> Tensor:
    return torch.empty(length, dtype=torch.int64, device="cpu", pin_memory=True)
