"""Engine: one tensor at a time, by the rule itself. For odd tensors, and for differentiating through a step."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim import rule
from adai.optim.engines.batch import Batch
from adai.optim.options import rate
from adai.optim.shared.mean import accumulator, advance, total_hat


def _gradient(param: Tensor, grad: Tensor, like: Tensor, group: dict[str, Any], clip: Any) -> Tensor:
    return rule.gradient(
        param.to(like.dtype),
        grad.to(like.dtype),
        weight_decay=0 if group["decoupled_weight_decay"] else group["weight_decay"],
        maximize=group["maximize"],
        clip=clip.to(like) if isinstance(clip, Tensor) else clip,
    )


def squares(batch: Batch, group: dict[str, Any]) -> Tensor:
    """Σ g² of the gradients as they are."""
    del group
    norms = [torch.linalg.vector_norm(g, dtype=accumulator(g.device)) for g in batch.grads]
    return torch.stack([norm.to(norms[0].device) for norm in norms]).square().sum()


def accumulate(batch: Batch, group: dict[str, Any], counts: Sequence[rule.Count], clip: Any) -> Tensor:
    """Bring every v of the batch to this step; returns Σ v̂ over the batch."""
    sums = []
    for param, grad, v in zip(batch.params, batch.grads, batch.exp_avg_sqs, strict=True):
        v.copy_(rule.second_moment(v, _gradient(param, grad, v, group, clip), group["betas"][1]))
        sums.append(v.sum(dtype=accumulator(v.device)))
    return total_hat(sums, counts)


def update(batch: Batch, group: dict[str, Any], counts: Sequence[rule.Count], clip: Any, mean: rule.Mean) -> None:
    """Move every parameter of the batch, given the mean of v̂, and count the step."""
    # Autograd keeps what the rule reads, and the results are written over it: differentiate through copies.
    read: Callable[[Tensor], Tensor] = Tensor.clone if group["differentiable"] else _same
    for param, grad, m, v, c, count in zip(
        batch.params, batch.grads, batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections, counts, strict=True
    ):
        moved = rule.update(
            read(param).to(v.dtype),
            _gradient(read(param), grad, v, group, clip),
            read(m),
            read(v),
            None if c is None else read(c),
            count=count,
            mean=mean,
            lr=rate(group),
            beta0=group["betas"][0],
            eps=group["eps"],
            min_inertia=group["min_inertia"],
            decay=group["weight_decay"] if group["decoupled_weight_decay"] else 0,
            dampening=group["dampening"],
        )
        param.copy_(moved.theta)
        m.copy_(moved.m)
        if c is not None and moved.c is not None:
            c.copy_(moved.c)
    advance(batch.steps, mean)


def _same(tensor: Tensor) -> Tensor:
    return tensor
