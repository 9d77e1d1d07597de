"""Engine: runs another engine on float32 copies of what is rounded stochastically to bfloat16."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.engines.base import Engine
from adai.optim.engines.batch import Batch
from adai.optim.engines.rounding import NARROW, Place, next_words, random_words, rounded, stream
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean


class Narrow:
    """Runs another engine on float32 copies, and rounds the results. The copies last for one step.

    Tests compare kernels that round by themselves to this. The other engine must not keep anything between steps, and
    is slower in this way.
    """

    on_device = False
    one_pass = False
    ts: list[float] | None = None
    elements: int | None = None

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    def prepare(self, batch: Batch, owners: Batch, hyper: Hyper) -> str | None:
        """Create the copies, and prepare the other engine."""
        self._wide = batch._replace(
            params=[_wide(p) if place.rounds_param else p for p, place in zip(batch.params, batch.places, strict=True)],
            exp_avgs=[_wide(m) for m in batch.exp_avgs],
            exp_avg_sqs=[_wide(v) for v in batch.exp_avg_sqs],
            bias_corrections=[None if c is None else _wide(c) for c in batch.bias_corrections],
        )
        return self.inner.prepare(self._wide, owners, hyper)

    def squares(self, batch: Batch, hyper: Hyper) -> Tensor:
        """Σ g² of the raw gradients."""
        del batch
        return self.inner.squares(self._wide, hyper)

    def factor(self, squares: Sequence[Tensor], limit: float, unscale: Any) -> None:
        """Return None: the other engine has no single operation for it."""
        del squares, limit, unscale

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count]) -> Tensor:
        """Σ v̂ of the step before."""
        del batch
        return self.inner.total_before(self._wide, hyper, counts)

    def mean_before(self, engines: Sequence[Any], clips: Sequence[Any]) -> None:
        """Return None: the host decides."""
        del engines, clips

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any) -> Tensor:
        """Update the copy of every v; return Σ v̂ over the batch."""
        del batch
        return self.inner.accumulate(self._wide, hyper, counts, clip)

    def mean(self, hats: Sequence[Tensor], elements: int) -> Mean | None:
        """The mean, if the other engine can compute it."""
        return self.inner.mean(hats, elements)

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean) -> None:
        """Update every parameter of the batch, and round the copies into the state and the parameters."""
        wide = self._wide
        self.inner.update(wide, hyper, without_least(batch, counts), clip, mean)
        for i, count in enumerate(counts):
            m, v, c = batch.exp_avgs[i], batch.exp_avg_sqs[i], batch.bias_corrections[i]
            place = batch.places[i]
            words = random_words(stream(place), count.t, place.of_elements(m))
            _round_into(m, wide.exp_avgs[i], words & 0xFFFF)
            _round_into(v, wide.exp_avg_sqs[i], words >> 16)
            words = next_words(words)
            if c is not None:
                _round_into(c, wide.bias_corrections[i], words >> 16)
            _round_into(batch.params[i], wide.params[i], next_words(words) >> 16)
        del self._wide


def without_least(batch: Batch, counts: Sequence[Count]) -> list[Count]:
    """The counts, with the lower bound of 1 - Π mu set to 0 where 1 - Π mu is stored in bfloat16.

    The lower bound is not needed there: with stochastic rounding 1 - Π mu does not get stuck below 1, as it does in
    float32. And it would do harm: rounded values scatter around the exact one, so raising those that are too low makes
    the average too large, by 5 percent after 300 steps with mu = 0.999.
    """
    return [
        count._replace(least=count.least * 0) if c is not None and c.dtype == NARROW else count
        for count, c in zip(counts, batch.bias_corrections, strict=True)
    ]


def is_narrow(batch: Batch) -> bool:
    """Whether anything is rounded stochastically."""
    states = (*batch.exp_avgs, *batch.exp_avg_sqs, *batch.bias_corrections)
    return rounds_params(batch) or any(t is not None and t.dtype == NARROW for t in states)


def rounds_params(batch: Batch) -> bool:
    """Whether any parameter is rounded stochastically."""
    return any(place.rounds_param and p.dtype == NARROW for p, place in zip(batch.params, batch.places, strict=True))


def runs(p: Tensor, m: Tensor, place: Place) -> tuple[int, int, int] | None:
    """The places of a tensor's elements as kernels take them, see `Place.runs`; a single run if nothing is rounded."""
    is_rounded = m.dtype == NARROW or (place.rounds_param and p.dtype == NARROW)
    return place.runs(m) if is_rounded else (0, max(m.numel(), 1), 0)


def kept_dtype(m: Tensor, real: torch.dtype) -> torch.dtype:
    """The dtype that a kernel expects of the state, given ``exp_avg`` and the dtype of the arithmetic."""
    return NARROW if m.dtype == NARROW and real == torch.float32 else real


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.dtype == NARROW else tensor


def _round_into(kept: Tensor, wide: Tensor | None, bits: Tensor) -> None:
    if wide is not None and kept is not wide:
        kept.copy_(rounded(wide, bits))
