"""The order of a step: what the engines compute, and the numbers that all parameters share."""

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
from adai.optim.shared.coupling import Coupled
from adai.optim.shared.mean import accumulator, clip_factor, distinct, gated
from adai.optim.shared.scaling import Scaled
from adai.optim.shared.sharding import Sharing, local

Engines = dict[tuple[int, int], Engine]
"""The engines of the last step, by the positions of their group and their share."""


class Work(NamedTuple):
    """The work of one step for those tensors of a group that are sharded alike."""

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
    """Prepare an engine for each share of a group, and return the work of a step in this group.

    Args:
        optimizer: the optimizer that takes the step.
        index: the group's position.
        batch: the tensors of the group that have a gradient.
        states: the state dicts of their parameters; empty under `torch.compile`.
        shares: for each tensor, the position of its share in ``sharing.shares``.
        sharing: how the parameters are sharded.
        engines: the engines of the last step. They are replaced by those of this step.
        has_complex: whether any of the tensors is complex.
    """
    group, compiling = optimizer.param_groups[index], torch.compiler.is_compiling()
    hyper, work = Hyper.of(group), []
    off_host = keeps_off_host(optimizer.param_groups, sharing)
    for share in range(len(sharing.shares)):
        owners, own = batch, states
        if len(sharing.shares) > 1:
            where = [i for i, other in enumerate(shares) if other == share]
            owners, own = batch.take(where), [states[i] for i in where] if states else []
        if not owners.params:
            continue
        part = owners if sharing.plain else local(owners)
        if has_complex:
            part = part.real()
        if compiling:
            engine = choose(group, hyper, part, owners)
        else:
            # Remove the engine, so that it is not used again if its preparation fails.
            engine = choose(group, hyper, part, owners, engines.pop((index, share), None))
            engines[index, share] = engine
        counts = [] if engine.on_device else _counts(part.steps, hyper, off_host, engine.ts)
        work.append(Work(engine, part, share, hyper, counts, own))
    return work


def keeps_off_host(groups: Sequence[dict[str, Any]], sharing: Sharing) -> bool:
    """Whether the host must not read numbers from tensors: graphs cannot capture that, and some tensors have none."""
    return torch.compiler.is_compiling() or sharing.unreal or any(group["capturable"] for group in groups)


def carry_out(
    optimizer: Optimizer, work: list[Work], sharing: Sharing, *, previous: bool, coupled: Coupled | None = None
) -> None:
    """Take a step, together with the other processes that hold shards.

    Args:
        optimizer: the optimizer that takes the step.
        work: the tensors of this process; may be empty.
        sharing: how the parameters are sharded.
        previous: use the mean of v̂ of the step before, if there was one.
        coupled: the mean of the round before, if other optimizers share it.
    """
    off_host, shares = keeps_off_host(optimizer.param_groups, sharing), [w.share for w in work]
    # Only engines that write everything in their last pass can still skip the step after they have read the gradients.
    on_device = all(w.engine.on_device for w in work)
    scaled = Scaled.of(optimizer, on_device=on_device or sharing.unreal)
    if scaled.skip is True:
        return
    clips: list[Any] = [scaled.inverse] * len(work)
    if any(group["max_grad_norm"] is not None for group in optimizer.param_groups):
        clips = _clips(work, sharing, shares, scaled.inverse)
    mean: Mean | None = None
    if coupled is not None:
        mean = coupled.mean
    elif previous:
        mean = _mean_before(work, clips, sharing, shares, off_host=off_host)
    if mean is not None:
        for w, clip in zip(work, clips, strict=True):
            if not w.engine.one_pass:
                w.engine.accumulate(w.batch, w.hyper, w.counts, clip)
    else:
        asks = not off_host and not optimizer.defaults["differentiable"]
        mean = _mean_now(work, clips, sharing, off_host=off_host, asks=asks, counts_anyway=coupled is not None)
    if mean is not None:
        _update(work, clips, scaled.gated(mean), off_host=off_host)


def _clips(work: list[Work], sharing: Sharing, shares: list[int], unscale: Any) -> list[Any]:
    """The factor by which the gradients of each part of the work are clipped and unscaled."""
    squares = [w.engine.squares(w.batch, w.hyper) for w in work]
    limits, limit = {w.hyper.max_grad_norm for w in work}, work[0].hyper.max_grad_norm if work else None
    if sharing.alone and limit is not None and len(limits) == 1:
        factor = work[0].engine.factor(squares, limit, unscale)
        if factor is not None:
            return [factor] * len(work)
    norm = sharing.total([_summed(gg) for gg in squares], shares).sqrt()
    factors = {limit: clip_factor(norm, limit, unscale) for limit in limits}
    return [factors[w.hyper.max_grad_norm] for w in work]


def _summed(numbers: Tensor) -> Tensor:
    return numbers.sum() if numbers.dim() else numbers


def _mean_now(
    work: list[Work], clips: list[Any], sharing: Sharing, *, off_host: bool, asks: bool, counts_anyway: bool
) -> Mean | None:
    """Accumulate the gradients; return the mean of v̂ of this step, or None if the step does not count.

    Args:
        work: the tensors of this process; may be empty.
        clips: the factor on the gradients of each part of the work.
        sharing: how the parameters are sharded.
        off_host: the host must not ask a device for a number.
        asks: the host may ask whether all gradients have been zero so far.
        counts_anyway: the step counts even if they have, because other optimizers share the mean.
    """
    squares = [None if off_host else _squares_of_empty_step(w) for w in work]
    hats = [w.engine.accumulate(w.batch, w.hyper, w.counts, clip) for w, clip in zip(work, clips, strict=True)]
    elements = [w.engine.elements or sum(map(Tensor.numel, w.batch.params)) for w in work]
    mean = None
    if sharing.alone and all(gg is None for gg in squares) and not (asks and (counts_anyway or _asks(work, hats[0]))):
        mean = work[0].engine.mean(hats, sum(elements))
    if mean is None:
        v_mean = sharing.mean([_summed(h) for h in hats], elements, squares, [w.share for w in work])
        mean = gated(v_mean, wait=asks and (counts_anyway or _asks(work, v_mean)))
    if mean is not None:
        return mean
    if counts_anyway and all(gg is None for gg in squares):
        return Mean(1.0)  # v is 0 here: any mean will do
    for w, gg in zip(work, squares, strict=True):
        if gg is not None:  # v contains only weight decay, which does not count before the first gradient
            torch._foreach_zero_(w.batch.exp_avg_sqs)
    return None


def _mean_before(
    work: list[Work], clips: list[Any], sharing: Sharing, shares: list[int], *, off_host: bool
) -> Mean | None:
    """The mean of v̂ of the step before, over those tensors of this step that took part in it; None if it is 0."""
    if sharing.alone:
        if not off_host and all(count.t == 1 for w in work for count in w.counts):
            return None
        mean = work[0].engine.mean_before([w.engine for w in work], clips)
        if mean is not None:
            return mean
    if off_host:
        raise RuntimeError(
            'mean="previous" needs to know on the host whether there was a step before; leave mean at "current" for '
            "torch.compile, for tensors without numbers, and for capturable=True unless Triton's kernels update all "
            "parameters on one GPU"
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
    """Make sure that the optimizer's state is not empty after a step.

    NOTE torch.distributed.checkpoint takes a step of its own if the state is empty. A process that never has a gradient
    would take that step without the other processes.
    """
    if not optimizer.state and not torch.compiler.is_compiling():
        for group in optimizer.param_groups:
            for param in group["params"][:1]:
                optimizer.state[param] = {}


def _counts(steps: Sequence[Tensor], hyper: Hyper, off_host: bool, ts: list[float] | None) -> list[Count]:
    """The count of every tensor in this step.

    Args:
        steps: the step counts before this step.
        hyper: the group's numbers.
        off_host: leave the counts on their devices.
        ts: the counts in this step as numbers, if they are known.
    """
    if off_host:
        return [hyper.count_at(step.to(accumulator(step.device)) + 1) for step in steps]
    if ts is None:
        ts = [step.item() + 1 for step in steps]
    if len(distinct(ts)) == 1:  # usually
        return [hyper.count_at(ts[0])] * len(ts)
    each = {t: hyper.count_at(t) for t in set(ts)}
    return [each[t] for t in ts]


def _squares_of_empty_step(w: Work) -> Tensor | None:
    """Σ g² of the raw gradients in a first step with learning rate 0; None in any other step.

    NOTE torch.distributed.checkpoint takes such a step, with zero gradients, to create the state. With L2 decay the
    mean of v̂ is not zero then, but Σ g² is.
    """
    if any(count.t != 1 for count in w.counts) or w.hyper.lr != 0:
        return None
    return _summed(w.engine.squares(w.batch, w.hyper))


def _asks(work: list[Work], number: Tensor) -> bool:
    """Whether the host checks if all gradients have been zero so far, in which case the step is not counted.

    On a CPU it always does. Elsewhere it would wait for the device, so it does only until a step has been counted;
    after that `Mean.alive` has the same effect on the device.
    """
    return number.is_cpu or all(count.t == 1 for w in work for count in w.counts)


def _drop_settled(work: list[Work]) -> None:
    for w in work:
        soon = any(count.least > 0.99 for count in distinct(w.counts))  # fast, and false in most steps
        if soon and any(c is not None for c in w.batch.bias_corrections):
            for state, count in zip(w.states, w.counts, strict=True):
                drop_settled(state, count)
