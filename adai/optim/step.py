"""One step: what the engines do, in which order, around the numbers that all parameters share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adai.optim.engines import triton
from adai.optim.engines.base import Engine
from adai.optim.engines.batch import Batch
from adai.optim.options import rate
from adai.optim.rule import Count
from adai.optim.saving.state import drop_settled
from adai.optim.shared.mean import clip_factor, gated
from adai.optim.shared.scaling import Scaled
from adai.optim.shared.sharding import Sharing


class Work(NamedTuple):
    """What there is to do in one step for the tensors of one group that are shared out alike."""

    engine: Engine
    batch: Batch
    share: int
    group: dict[str, Any]
    counts: list[Count]
    states: list[dict[str, Any]]


def keeps_off_host(groups: Sequence[dict[str, Any]], sharing: Sharing) -> bool:
    """Whether nothing may ask a device for a number, because a graph could not be captured or there are none."""
    return torch.compiler.is_compiling() or sharing.unreal or any(group["capturable"] for group in groups)


def carry_out(optimizer: Optimizer, work: list[Work], sharing: Sharing) -> None:
    """Step the tensors of this process, which may be none, together with all processes that share in them."""
    off_host, shares = keeps_off_host(optimizer.param_groups, sharing), [w.share for w in work]
    # Only the kernels that do everything in their last pass can leave all as it was once the gradients are in.
    on_device = all(w.group["capturable"] and isinstance(w.engine, triton.Fused) for w in work)
    scaled = Scaled.of(optimizer, on_device=on_device or sharing.unreal)
    if scaled.skip is True:
        return
    clips: list[Any] = [scaled.inverse] * len(work)
    if any(group["max_grad_norm"] is not None for group in optimizer.param_groups):
        norm = sharing.total([w.engine.squares(w.batch, w.group) for w in work], shares).sqrt()
        clips = [clip_factor(norm, w.group["max_grad_norm"], scaled.inverse) for w in work]
    told = [None if off_host else _told(w) for w in work]
    hats = [w.engine.accumulate(w.batch, w.group, w.counts, clip) for w, clip in zip(work, clips, strict=True)]
    v_mean = sharing.mean(hats, [sum(p.numel() for p in w.batch.params) for w in work], told, shares)
    # The step count stands still while all gradients are zero. Off the CPU the host asks for that only as long as
    # nothing has been counted, and the device's own guard serves afterwards.
    wait = not off_host and not optimizer.defaults["differentiable"]
    wait = wait and (v_mean.is_cpu or all(count.t == 1 for w in work for count in w.counts))
    mean = gated(v_mean, wait=wait)
    if mean is None:
        for w, squares in zip(work, told, strict=True):
            if squares is not None:  # nothing but weight decay, which has no say while nothing has been told
                torch._foreach_zero_(w.batch.exp_avg_sqs)
        return
    mean = scaled.gated(mean)
    for w, clip in zip(work, clips, strict=True):
        w.engine.update(w.batch, w.group, w.counts, clip, mean)
    if not off_host:
        _drop_settled(work)


def _told(w: Work) -> Tensor | None:
    """Σ g² of the raw gradients in a first step at learning rate 0, else None.

    NOTE torch.distributed.checkpoint takes such a step, with zero gradients, to have the state made. With L2 decay
    the mean of v̂ is not zero then.
    """
    if any(count.t != 1 for count in w.counts) or rate(w.group) != 0:
        return None
    return w.engine.squares(w.batch, w.group)


def _drop_settled(work: list[Work]) -> None:
    for w in work:
        if any(c is not None for c in w.batch.bias_corrections):
            for state, count in zip(w.states, w.counts, strict=True):
                drop_settled(state, count)
