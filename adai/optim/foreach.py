"""Engine: `torch._foreach` operators, which move a whole list of tensors with each launch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.batch import Batch
from adai.optim.mean import accumulator
from adai.optim.rule import Mean


def accumulate(batch: Batch, group: dict[str, Any]) -> list[Tensor]:
    """Bring every v of the batch to this step; returns Σ v of each tensor."""
    beta2 = group["betas"][1]
    sums: list[Tensor] = [torch.empty(0)] * len(batch.params)
    for part, where in batch.alike():
        vs, gs = part.exp_avg_sqs, _gradients(part, group)
        torch._foreach_mul_(vs, beta2)
        torch._foreach_addcmul_(vs, gs, gs, 1 - beta2)
        for i, v in zip(where, vs, strict=True):
            sums[i] = v.sum(dtype=accumulator(v.device))
    return sums


def update(batch: Batch, group: dict[str, Any], mean: Mean, bias_corrections2: Sequence[Any]) -> None:
    """Move every parameter of the batch, given the mean of v̂."""
    for part, where in batch.alike():
        _update_alike(part, group, mean, [bias_corrections2[i] for i in where])


def _gradients(batch: Batch, group: dict[str, Any]) -> list[Tensor]:
    """g of every tensor in the state's dtype; the caller's own tensors where nothing has to change, never written."""
    gs = _in_dtype_of(batch.exp_avgs, batch.grads)
    if group["maximize"]:
        gs = list(torch._foreach_neg(gs))
    if group["weight_decay"] != 0 and not group["decoupled_weight_decay"]:
        thetas = _in_dtype_of(batch.exp_avgs, batch.params)
        gs = list(torch._foreach_add(gs, thetas, alpha=group["weight_decay"]))
    return gs


def _update_alike(batch: Batch, group: dict[str, Any], mean: Mean, bias_corrections2: list[Any]) -> None:
    beta0, eps, lr, dampening = group["betas"][0], group["eps"], group["lr"], group["dampening"]
    ms, vs, cs = batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections
    device, dtype = ms[0].device, ms[0].dtype
    gs = _gradients(batch, group)
    thetas = _in_dtype_of(ms, batch.params)

    # w = 1 - mu
    if isinstance(mean.value, Tensor):
        v_mean = mean.value.to(device)
        ws = torch._foreach_div(vs, [(v_mean * b).to(dtype) for b in bias_corrections2])
    else:
        ws = torch._foreach_div(vs, [mean.value * b for b in bias_corrections2])
    if dampening != 1:
        torch._foreach_pow_(ws, 1 / (3 - 2 * dampening))
    torch._foreach_mul_(ws, beta0)
    torch._foreach_clamp_min_(ws, eps)
    torch._foreach_clamp_max_(ws, 1.0)
    if mean.alive is not None:
        alive = mean.alive.to(device)
        torch._foreach_mul_(ws, alive.to(dtype))
        lr = lr * alive

    # m = mu m + (1 - mu) g, and c the same average of ones.
    # NOTE _foreach_lerp_ would save a pass, but torch.compile (2.13) cannot trace it with a list of weights.
    torch._foreach_addcmul_(ms, ms, ws, -1)
    torch._foreach_addcmul_(ms, gs, ws if dampening == 1 else torch._foreach_pow(ws, dampening))
    torch._foreach_addcmul_(cs, cs, ws, -1)
    torch._foreach_add_(cs, ws)
    del gs, ws

    # theta = theta - lr m / c
    if group["decoupled_weight_decay"] and group["weight_decay"] != 0:
        torch._foreach_mul_(thetas, _number(1 - lr * group["weight_decay"], dtype))
    step_size = lr * beta0 ** (1 - dampening)
    divisors = cs
    if eps == 0 or mean.alive is not None:  # only then can c be 0, where m is 0 too
        divisors = list(torch._foreach_clamp_min(cs, torch.finfo(dtype).tiny))
    if isinstance(step_size, Tensor):
        steps = torch._foreach_div(ms, divisors)
        torch._foreach_mul_(steps, _number(step_size, dtype))
        torch._foreach_sub_(thetas, steps)
    else:
        torch._foreach_addcdiv_(thetas, ms, divisors, value=-step_size)
    if thetas[0] is not batch.params[0]:
        torch._foreach_copy_(batch.params, thetas)


def _in_dtype_of(like: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
    return [t.to(s.dtype) for t, s in zip(tensors, like, strict=True)]


def _number(value: float | Tensor, dtype: torch.dtype) -> Any:
    """A number as the foreach operators take it: a tensor has to be 0-dim and of the list's dtype."""
    return value.to(dtype) if isinstance(value, Tensor) else value
