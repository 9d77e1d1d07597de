"""Engine: a compiled kernel for CPUs, which updates all tensors of a group in two passes over memory.

The first pass reads only the gradients, because Σ v_t = beta2 Σ v_{t-1} + (1 - beta2) Σ g_t² does not need v. The
second pass reads and writes everything once, and adds up the new v. The next step uses that sum, unless v has been
changed in between; then the sum is computed again, with the same additions in the same order. So the sum depends only
on v: checkpoints do not need it, and results do not depend on when it was computed.
"""

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.engines.batch import PLAIN, Batch
from adai.optim.engines.cpu import library
from adai.optim.engines.memory import COUNT_DTYPES, STATE_DTYPES, same_layout, written
from adai.optim.engines.narrow import kept_dtype, runs, without_least
from adai.optim.engines.rounding import NARROW, stream
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean, debias
from adai.optim.shared.watch import Watch

# The kernel's code for the dtypes of parameter and gradient. Gradients of other dtypes are converted to the state's.
_TYPES = {
    (torch.float32, torch.float32): 0,
    (torch.float64, torch.float64): 1,
    (torch.bfloat16, torch.bfloat16): 2,
    (torch.float16, torch.float16): 3,
    (torch.bfloat16, torch.float32): 4,
    (torch.float16, torch.float32): 5,
}
_ROUNDED = {2: 6, 4: 7}  # the codes of bfloat16 parameters that are rounded stochastically
_PLAIN, _DECAYED, _PARTS = 0, 1, 2
# If kernel.c's three sums for a clipped gradient with L2 decay cancel to less than this fraction, they are not used.
_CANCELLED = 1e-8


def missing() -> str | None:
    """The reason why the kernel cannot run here, and what to do; None if it can."""
    return library.missing()


def refusal(batch: Batch) -> str | None:
    """The reason why the kernel cannot work on these tensors; None if it can."""
    for step in batch.steps:
        if step.dtype not in COUNT_DTYPES or not step.is_cpu:
            return f"a step count is {step.dtype} on {step.device}"
    for p, m, v, c, place in zip(
        batch.params, batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections, batch.places, strict=True
    ):
        reason = _refusal(p, m, v, c)
        if reason is None and runs(p, m, place) is None:
            reason = f"a rounded parameter is sharded along several inner dimensions, to {tuple(p.shape)}"
        if reason is not None:
            return reason
    return None


def _refusal(p: Tensor, m: Tensor, v: Tensor, c: Tensor | None) -> str | None:
    if type(p) not in PLAIN or not p.is_cpu or p.layout != torch.strided:
        return f"a parameter is a {type(p).__name__} on {p.device}, not a dense tensor on the CPU"
    dtype = STATE_DTYPES.get(p.dtype)
    if dtype is None:
        return f"a parameter has dtype {p.dtype}"
    for state in (m, v) if c is None else (m, v, c):
        if state.dtype != kept_dtype(m, dtype) or not state.is_cpu:
            return f"the state of a {p.dtype} parameter is {state.dtype} on {state.device}"
        if not same_layout(p, state):
            return f"a parameter of shape {tuple(p.shape)} has strides {p.stride()}, its state {state.stride()}"
    return None


class Fused:
    """The fused engine on CPUs, for the tensors of one group. It keeps a table of them as long as they do not move."""

    on_device = False
    one_pass = True
    ts: list[float] | None = None
    elements: int | None = None

    def __init__(self) -> None:
        self._forms: list[_Form] = []

    def prepare(self, batch: Batch, owners: Batch, hyper: Hyper) -> str | None:
        """Create or keep the kernel's table; return None, or the reason why the kernel cannot work on these tensors."""
        del hyper
        if not self._fits(batch):
            batch.check_shapes()
            reason = refusal(batch) or missing()
            if reason is not None:
                return reason
            self._make_table(batch)
        self._known = self._watch.unchanged(owners.exp_avg_sqs, batch.exp_avg_sqs)
        self._counted = False
        self._take_gradients(batch)
        return None

    def _fits(self, batch: Batch) -> bool:
        """Whether the table is of these tensors. Without a table this reads no addresses, as some tensors have none."""
        if not self._forms:
            return False
        return (
            batch.places == self._places
            and _forms(batch) == self._forms
            and [g.shape for g in batch.grads] == self._forms[0].shapes
        )

    def _make_table(self, batch: Batch) -> None:
        self._places = batch.places
        narrow = [m.dtype == NARROW for m in batch.exp_avgs]
        placed = [runs(*row) or (0, 1, 0) for row in zip(batch.params, batch.exp_avgs, batch.places, strict=True)]
        self._kernel: Any = library.load()
        self._sums = array("d", bytes(8 * len(batch.params)))  # Σ v of each tensor, valid until the watch sees a change
        self._watch = Watch()
        self._parts: array[float] | None = None  # the sums that `squares` found
        self._forms = forms = _forms(batch)
        self._tensors = library.Tensors(len(batch.params))
        self._columns: dict[str, array[Any]] = {}
        self._add_columns(
            wide_step=array("B", [step.dtype == torch.float64 for step in batch.steps]),
            narrow=array("B", narrow),
            size=array("q", [p.numel() for p in batch.params]),
            first_place=array("q", [first for first, _, _ in placed]),
            run=array("q", [run for _, run, _ in placed]),
            pitch=array("q", [pitch for _, _, pitch in placed]),
            stream=array("I", [stream(place) for place in batch.places]),
            **dict(zip("pmvc", (form.addresses for form in forms), strict=False)),
            step=forms[-1].addresses,
        )

    def _take_gradients(self, batch: Batch) -> None:
        self._crew = library.crew()
        self._parts = None
        # The batch keeps copies of gradients alive during this step. Nothing here may keep a gradient alive longer.
        params = self._forms[0]
        types = array("B", bytes(len(batch.grads)))
        for i, (g, dtype, strides) in enumerate(zip(batch.grads, params.dtypes, params.strides, strict=True)):
            kind = _TYPES.get((dtype, g.dtype))
            if kind is None or g.stride() != strides:
                batch.grads[i] = _laid_out_as(batch.params[i], g, wide=kind is None)
                kind = _TYPES[dtype, batch.grads[i].dtype]
            types[i] = _ROUNDED.get(kind, kind) if self._places[i].rounds_param else kind
        self._add_columns(type=types, g=_addresses(batch.grads))

    def squares(self, batch: Batch, hyper: Hyper) -> Tensor:
        """Σ g² of the raw gradients."""
        del batch
        self._parts = self._read(_PARTS if hyper.l2 else _PLAIN, hyper, 1.0)
        return _number(sum(self._parts[::3]))

    def factor(self, squares: Sequence[Tensor], limit: float, unscale: Any) -> None:
        """Return None: here the host computes it."""
        del squares, limit, unscale

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count]) -> Tensor:
        """Σ v̂ of the step before."""
        del batch
        self._take_totals()
        sums = zip(self._sums, counts, strict=True)
        return _number(sum(v / debias(hyper.beta2, count.t - 1) for v, count in sums if count.t > 1))

    def mean_before(self, engines: Sequence[Any], clips: Sequence[Any]) -> None:
        """Return None: here the host computes everything."""
        del engines, clips

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any) -> Tensor:
        """Σ v̂ of this step. v itself is updated in `update`."""
        self._count(batch, counts)
        squares = self._squared_gradients(hyper, 1.0 if clip is None else float(clip))
        self._take_totals()
        total = self._kernel.adai_accumulate(
            self._tensors, _options(hyper, 1.0), _address(squares), _address(self._sums)
        )
        return _number(total)

    def mean(self, hats: Sequence[Tensor], elements: int) -> None:
        """Return None: this engine has no single operation for the mean."""
        del hats, elements

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean) -> None:
        """Update every parameter of the batch with the mean of v̂, and count the step."""
        self._count(batch, counts)
        if mean.alive is not None and not mean.alive:
            return
        options = _options(hyper, 1.0 if clip is None else float(clip))
        v_mean = float(mean.value)
        _done(self._kernel.adai_step(self._crew, self._tensors, options, v_mean, _address(self._sums)))
        self._watch.leave_written(batch.exp_avg_sqs, lambda: written(batch.params + batch.exp_avg_sqs))

    def _count(self, batch: Batch, counts: Sequence[Count]) -> None:
        """Put the counts of this step into the table, once."""
        if self._counted:
            return
        self._counted = True
        self._add_columns(
            t=array("d", [count.t for count in counts]),
            bias_correction2=array("d", [count.bias_correction2 for count in counts]),
            least=array("d", [count.least for count in without_least(batch, counts)]),
            warmed=array("d", [count.warmed for count in counts]),
        )

    def _take_totals(self) -> None:
        """Compute Σ v of each tensor, unless it is known."""
        if not self._known:
            _done(self._kernel.adai_totals(self._crew, self._tensors, _address(self._sums)))
            self._known = True

    def _add_columns(self, **columns: "array[Any]") -> None:
        self._columns.update(columns)  # keeps them alive
        for name, column in columns.items():
            setattr(self._tensors, name, _address(column))

    def _squared_gradients(self, hyper: Hyper, clip: float) -> "array[float]":
        """The sum of squares of each tensor's gradient in the rule: clipped, and with the L2 penalty's part."""
        decay = hyper.l2
        if self._parts is None:
            if decay:
                return self._read(_DECAYED, hyper, clip)[::3]
            self._parts = self._read(_PLAIN, hyper, 1.0)
        gg, gp, pp = (self._parts[i::3] for i in range(3))
        if not decay:
            return array("d", [clip**2 * x for x in gg])
        # Σ (a g + λ p)² without another pass, unless the two parts cancel.
        a = hyper.sign * clip
        sums = array("d", [a * a * x + 2 * a * decay * y + decay**2 * z for x, y, z in zip(gg, gp, pp, strict=True)])
        if any(s < _CANCELLED * (a * a * x + decay**2 * z) for s, x, z in zip(sums, gg, pp, strict=True)):
            return self._read(_DECAYED, hyper, clip)[::3]
        return sums

    def _read(self, what: int, hyper: Hyper, clip: float) -> "array[float]":
        sums = array("d", bytes(8 * 3 * self._tensors.count))
        _done(self._kernel.adai_squares(self._crew, self._tensors, _options(hyper, clip), what, _address(sums)))
        return sums


def _options(hyper: Hyper, clip: float) -> library.Options:
    lr = float(hyper.lr)
    return library.Options(
        a=hyper.sign * clip,
        lambda_=hyper.l2,
        decay=lr * hyper.decay,
        step=lr * hyper.gain,
        beta0=hyper.beta0,
        one_minus_beta2=1 - hyper.beta2,
        eps=hyper.eps,
        min_inertia=hyper.min_inertia,
        dampening=hyper.dampening,
    )


def _number(value: float) -> Tensor:
    """A tensor on the CPU, whatever the default device is."""
    return torch.tensor(value, dtype=torch.float64, device="cpu")


class _Form(NamedTuple):
    """Addresses and forms of some tensors: everything that the kernel's table depends on."""

    addresses: "array[int]"
    dtypes: list[torch.dtype]
    shapes: list[torch.Size]
    strides: list[tuple[int, ...]]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> "_Form":
        return cls(
            _addresses(tensors),
            [t.dtype for t in tensors],
            [t.shape for t in tensors],
            [t.stride() for t in tensors],
        )


def _forms(batch: Batch) -> list[_Form]:
    """The forms of parameters, m, v, c and step counts."""
    cs = batch.bias_corrections
    there = [c for c in cs if c is not None]
    form = _Form.of(there)
    if len(there) < len(cs):
        form = form._replace(addresses=_addresses(cs))
    steps = _Form(_addresses(batch.steps), [step.dtype for step in batch.steps], [], [])  # single numbers
    return [_Form.of(batch.params), _Form.of(batch.exp_avgs), _Form.of(batch.exp_avg_sqs), form, steps]


def _laid_out_as(p: Tensor, g: Tensor, *, wide: bool) -> Tensor:
    """The gradient with the parameter's strides, and in the state's dtype if ``wide``; not copied unless necessary."""
    dtype = STATE_DTYPES[p.dtype] if wide else g.dtype
    if g.dtype == dtype and same_layout(p, g):
        return g
    return torch.empty_like(p, dtype=dtype, memory_format=torch.preserve_format).copy_(g)


def _addresses(tensors: Sequence[Tensor | None]) -> "array[int]":
    return array("Q", [0 if t is None else t.data_ptr() for t in tensors])


def _address(numbers: "array[Any]") -> int:
    return numbers.buffer_info()[0]


def _done(failed: int) -> None:
    if failed:
        raise MemoryError("not enough memory for the work list of the CPU kernel; free some, or give foreach=True")
