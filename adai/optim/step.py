"""One step: what the engines do, in which order, around the numbers that all parameters share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adai.optim.engines.base import Engine
from adai.optim.engines.batch import Batch
from adai.optim.engines.choice import choose
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean
from adai.optim.saving.state import drop_settled
from adai.optim.shared.mean import accumulator, clip_factor, gated
from adai.optim.shared.scaling import Scaled
from adai.optim.shared.sharding import Sharing, local

Engines = dict[tuple[int, int], Engine]
"""The engines of the last step, by the positions of group and share."""


class Work(NamedTuple):
    """What there is to do in one step for the tensors of one group that are shared out alike."""

    engine: Engine
    batch: Batch
    share: int
    hyper: Hyper
    counts: list[Count]
    states: list[dict[str, Any]]


def work_of_group(
    optimizer: Optimizer,
    index: int,
    batch: Batch,
    states: list[dict[str, Any]],
    shares: list[int],
    sharing: Sharing,
    engines: Engines,
    *,
    has_complex: bool,
) -> list[Work]:
    """The work of a step in one group, with an engine for each share, ready to go.

    Args:
        optimizer: whose step it is.
        index: the group's position.
        batch: the tensors of the group that take part.
        states: the state dicts of its parameters; empty under `torch.compile`.
        shares: the position of each one's share in ``sharing.shares``.
        sharing: what each tensor is on this process.
        engines: those of the last step; they are replaced by those of this one.
        has_complex: whether one of the tensors is complex.
    """
    group, compiling = optimizer.param_groups[index], torch.compiler.is_compiling()
    hyper, work = Hyper.of(group), []
    off_host = keeps_off_host(optimizer.param_groups, sharing)
    for share in range(len(sharing.shares)):
        part, own = batch, states
        if len(sharing.shares) > 1:
            where = [i for i, other in enumerate(shares) if other == share]
            part, own = batch.take(where), [states[i] for i in where] if states else []
        if not part.params:
            continue
        if not sharing.plain:
            part = local(part)
        if has_complex:
            part = part.real()
        if compiling:
            engine = choose(group, hyper, part, own)
        else:
            # Taken out, so that an engine whose preparation fails is not used again.
            engine = choose(group, hyper, part, own, engines.pop((index, share), None))
            engines[index, share] = engine
        counts = [] if engine.on_device else _counts(part.steps, hyper, off_host, engine.ts)
        work.append(Work(engine, part, share, hyper, counts, own))
    return work


def keeps_off_host(groups: Sequence[dict[str, Any]], sharing: Sharing) -> bool:
    """Whether nothing may ask a device for a number, because a graph could not be captured or there are none."""
    return torch.compiler.is_compiling() or sharing.unreal or any(group["capturable"] for group in groups)


def carry_out(optimizer: Optimizer, work: list[Work], sharing: Sharing, *, previous: bool) -> None:
    """Step the tensors of this process, which may be none, together with all processes that share in them.

    ``previous`` takes the mean of v̂ of the step before, where there was one.
    """
    off_host, shares = keeps_off_host(optimizer.param_groups, sharing), [w.share for w in work]
    # Only engines that do everything in their last pass can leave all as it was once the gradients are in.
    on_device = all(w.engine.on_device for w in work)
    scaled = Scaled.of(optimizer, on_device=on_device or sharing.unreal)
    if scaled.skip is True:
        return
    clips: list[Any] = [scaled.inverse] * len(work)
    if any(group["max_grad_norm"] is not None for group in optimizer.param_groups):
        norm = sharing.total([w.engine.squares(w.batch, w.hyper) for w in work], shares).sqrt()
        clips = [clip_factor(norm, w.hyper.max_grad_norm, scaled.inverse) for w in work]
    mean: Mean | None = _mean_before(work, sharing, shares, off_host=off_host) if previous else None
    if mean is not None:
        for w, clip in zip(work, clips, strict=True):
            if not w.engine.one_pass:
                w.engine.accumulate(w.batch, w.hyper, w.counts, clip)
        _update(work, clips, scaled.gated(mean), off_host=off_host)
        return
    told = [None if off_host else _told(w) for w in work]
    hats = [w.engine.accumulate(w.batch, w.hyper, w.counts, clip) for w, clip in zip(work, clips, strict=True)]
    elements = [sum(map(Tensor.numel, w.batch.params)) for w in work]
    may_ask = not off_host and not optimizer.defaults["differentiable"]
    mean = None
    if sharing.alone and all(t is None for t in told) and not (may_ask and _asks(work, hats[0])):
        mean = work[0].engine.mean(hats, sum(elements))
    if mean is None:
        v_mean = sharing.mean([h.sum() if h.dim() else h for h in hats], elements, told, shares)
        mean = gated(v_mean, wait=may_ask and _asks(work, v_mean))
    if mean is None:
        for w, squares in zip(work, told, strict=True):
            if squares is not None:  # v holds weight decay alone, which does not count before the first gradient
                torch._foreach_zero_(w.batch.exp_avg_sqs)
        return
    _update(work, clips, scaled.gated(mean), off_host=off_host)


def _mean_before(work: list[Work], sharing: Sharing, shares: list[int], *, off_host: bool) -> Mean | None:
    """The mean of v̂ of the step before, over the tensors of this step that had one; None where it is 0."""
    if off_host:
        raise RuntimeError(
            'mean="previous" has to know on the host whether there was a step before; leave mean at "current" for '
            "capturable=True, torch.compile and tensors without numbers"
        )
    sums = [w.engine.total_before(w.batch, w.hyper, w.counts) for w in work]
    elements = [sum(p.numel() for p, count in zip(w.batch.params, w.counts, strict=True) if count.t > 1) for w in work]
    return gated(sharing.mean(sums, elements, [None] * len(work), shares), wait=True)


def _update(work: list[Work], clips: list[Any], mean: Mean, *, off_host: bool) -> None:
    for w, clip in zip(work, clips, strict=True):
        w.engine.update(w.batch, w.hyper, w.counts, clip, mean)
    if not off_host:
        _drop_settled(work)


def mark_as_begun(optimizer: Optimizer) -> None:
    """Leave no state empty after a step.

    NOTE torch.distributed.checkpoint takes a hidden step where the state is empty. On a process that never has a
    gradient it would be a step that no other process takes part in.
    """
    if not optimizer.state and not torch.compiler.is_compiling():
        for group in optimizer.param_groups:
            for param in group["params"][:1]:
                optimizer.state[param] = {}


def _counts(steps: Sequence[Tensor], hyper: Hyper, off_host: bool, ts: list[float] | None) -> list[Count]:
    """The count of every tensor in the step that is being made; ``off_host`` does not ask a device for them.

    ``ts`` are their numbers, where they are known.
    """
    if off_host:
        return [hyper.count_at(step.to(accumulator(step.device)) + 1) for step in steps]
    if ts is None:
        ts = [step.item() + 1 for step in steps]
    if ts and ts.count(ts[0]) == len(ts):  # as a rule
        return [hyper.count_at(ts[0])] * len(ts)
    each = {t: hyper.count_at(t) for t in set(ts)}
    return [each[t] for t in ts]


def _told(w: Work) -> Tensor | None:
    """Σ g² of the raw gradients in a first step at learning rate 0, else None.

    NOTE torch.distributed.checkpoint takes such a step, with zero gradients, to have the state made. With L2 decay
    the mean of v̂ is not zero then.
    """
    if any(count.t != 1 for count in w.counts) or w.hyper.lr != 0:
        return None
    return w.engine.squares(w.batch, w.hyper)


def _asks(work: list[Work], number: Tensor) -> bool:
    """Whether the host asks if all gradients have been zero so far: the step count stands still as long as they are.

    Off the CPU it would wait for the device, and so asks only as long as nothing has been counted; the device's own
    guard serves afterwards.
    """
    return number.is_cpu or all(count.t == 1 for w in work for count in w.counts)


def _drop_settled(work: list[Work]) -> None:
    for w in work:
        soon = any(count.least > 0.99 for count in w.counts)  # which is quick, and false in most steps
        if soon and any(c is not None for c in w.batch.bias_corrections):
            for state, count in zip(w.states, w.counts, strict=True):
                drop_settled(state, count)
