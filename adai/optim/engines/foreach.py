"""Engine: `torch._foreach` operators, each of which processes a whole list of tensors.

The fused engines compute Σ v̂ from Σ g², which saves them a pass over v. Here, as in the for-loop, it would save
nothing: updating v is an operator of its own in any case, and Σ g² reads as many bytes as Σ v.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.engines.batch import Batch
from adai.optim.engines.operators import Operators
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean, typical
from adai.optim.shared.mean import accumulator, advance, squares_of, sums_of, total, total_hat


class Foreach(Operators):
    """The multi-tensor engine."""

    def squares(self, batch: Batch, hyper: Hyper) -> Tensor:
        """Σ g² of the raw gradients."""
        del hyper
        if torch.compiler.is_compiling():
            # NOTE _foreach_norm returns bfloat16 for bfloat16, which is not exact enough for a sum of squares.
            parts = [torch._foreach_norm(_in_dtype_of(part.exp_avgs, part.grads)) for part, _ in batch.alike()]
            return total([norm.to(accumulator(norm.device)) ** 2 for norms in parts for norm in norms])
        return total([squares_of(part.grads) for part, _ in batch.alike()])

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any) -> Tensor:
        """Update v of every tensor of the batch; return Σ v̂ over the batch."""
        beta2 = hyper.beta2
        sums: list[Tensor] = [torch.empty(0)] * len(batch.params)
        for part, where in batch.alike():
            vs, gs = part.exp_avg_sqs, _gradients(part, hyper, clip)
            torch._foreach_mul_(vs, beta2)
            torch._foreach_addcmul_(vs, gs, gs, 1 - beta2)
            for i, v_sum in zip(where, sums_of(vs), strict=True):
                sums[i] = v_sum
        return total_hat(sums, counts)

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean) -> None:
        """Update every parameter of the batch with the mean of v̂, and count the step."""
        for part, where in batch.alike():
            _update_alike(part, hyper, [counts[i] for i in where], clip, mean)
        advance(batch.steps, mean)


def _gradients(batch: Batch, hyper: Hyper, clip: Any) -> list[Tensor]:
    """g of every tensor in the state's dtype. Some of these may be the caller's tensors: do not write to them."""
    gs = _in_dtype_of(batch.exp_avgs, batch.grads)
    if clip is not None:
        gs = list(torch._foreach_mul(gs, _number(clip, gs[0])))
    if hyper.maximize:
        gs = list(torch._foreach_neg(gs))
    if hyper.l2 != 0:
        thetas = _in_dtype_of(batch.exp_avgs, batch.params)
        gs = list(torch._foreach_add(gs, thetas, alpha=hyper.l2))
    return gs


def _update_alike(batch: Batch, hyper: Hyper, counts: list[Count], clip: Any, mean: Mean) -> None:
    eps, lr, dampening, decay = hyper.eps, hyper.lr, hyper.dampening, hyper.decay
    ms, vs = batch.exp_avgs, batch.exp_avg_sqs
    dtype = ms[0].dtype
    gs = _gradients(batch, hyper, clip)
    thetas = _in_dtype_of(ms, batch.params)

    # w = 1 - mu
    ws = torch._foreach_div(vs, _each(counts, lambda count: _number(typical(mean, count, dtype), ms[0])))
    if dampening != 1:
        torch._foreach_pow_(ws, hyper.power)
    torch._foreach_mul_(ws, hyper.beta0)
    torch._foreach_clamp_min_(ws, eps)
    torch._foreach_clamp_max_(ws, hyper.most)
    if mean.alive is not None:
        torch._foreach_mul_(ws, _number(mean.alive, ms[0]))
        lr = lr * mean.alive.to(ms[0].device)

    # m = mu m + (1 - mu) g, and c = mu c + (1 - mu).
    # NOTE _foreach_lerp_ would save a pass, but torch.compile (2.13) cannot trace it with a list of weights.
    torch._foreach_addcmul_(ms, ms, ws, -1)
    torch._foreach_addcmul_(ms, gs, ws if dampening == 1 else torch._foreach_pow(ws, dampening))
    cs = [c for c in batch.bias_corrections if c is not None]  # all or none are None, see Batch.alike
    if cs:
        torch._foreach_addcmul_(cs, cs, ws, -1)
        torch._foreach_add_(cs, ws)
        _raise_to_least(cs, counts, mean)
    del gs, ws

    # theta = theta - lr m / c
    lr = _warmed(lr, counts, ms[0])
    if decay != 0:
        torch._foreach_mul_(thetas, [1 - rate * decay for rate in lr] if isinstance(lr, list) else 1 - lr * decay)
    step_size = [rate * hyper.gain for rate in lr] if isinstance(lr, list) else lr * hyper.gain
    divisors = cs
    if cs and (eps == 0 or mean.alive is not None):  # only then c can be 0, and then m is 0 too
        divisors = list(torch._foreach_clamp_min(cs, torch.finfo(dtype).tiny))
    if isinstance(step_size, (Tensor, list)):  # NOTE torch.compile (2.6) cannot trace Tensor | list
        steps = torch._foreach_div(ms, divisors) if cs else ms
        torch._foreach_sub_(thetas, torch._foreach_mul(steps, step_size))
    elif cs:
        torch._foreach_addcdiv_(thetas, ms, divisors, value=-step_size)
    else:
        torch._foreach_add_(thetas, ms, alpha=-step_size)
    if thetas[0] is not batch.params[0]:
        torch._foreach_copy_(batch.params, thetas)


def _warmed(lr: Any, counts: list[Count], like: Tensor) -> Any:
    """The learning rate in the form that the operators take; a list with one per tensor while some are warming up."""
    if all(not isinstance(count.warmed, Tensor) and count.warmed == 1 for count in counts):
        return _number(lr, like)
    return _each(counts, lambda count: _number(lr * count.warmed, like))


def _raise_to_least(cs: list[Tensor], counts: list[Count], mean: Mean) -> None:
    """Apply `rule.at_least` to the list, in place."""
    leasts: list[Any] = [count.least for count in counts]
    if isinstance(leasts[0], Tensor):
        if mean.alive is not None:
            leasts = [least * mean.alive for least in leasts]
        torch._foreach_clamp_min_(cs, [_number(least, cs[0]).expand_as(c) for least, c in zip(leasts, cs, strict=True)])
    elif mean.alive is None:
        torch._foreach_clamp_min_(cs, leasts)
    else:  # c -= alive * min(c - least, 0). Where c is raised the result is exactly least, because the two are close.
        below = torch._foreach_sub(cs, leasts)
        torch._foreach_clamp_max_(below, 0)
        torch._foreach_mul_(below, _number(mean.alive, cs[0]))
        torch._foreach_sub_(cs, below)


def _each(counts: list[Count], number: Callable[[Count], Any]) -> Any:
    """A number for each tensor, computed once per distinct count; a single number if all tensors share a count."""
    if isinstance(counts[0].t, Tensor):  # every count is distinct
        return [number(count) for count in counts]
    made = {id(count): number(count) for count in {id(count): count for count in counts}.values()}
    return next(iter(made.values())) if len(made) == 1 else [made[id(count)] for count in counts]


def _in_dtype_of(like: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    return [t if t.dtype == s.dtype else t.to(s.dtype) for t, s in zip(tensors, like, strict=True)]


def _number(value: float | Tensor, like: Tensor) -> Any:
    """A number in the form that the foreach operators take: a tensor needs the dtype and the device of the list."""
    return value.to(like.device, like.dtype) if isinstance(value, Tensor) else value
