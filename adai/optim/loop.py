"""Engine: one tensor at a time, by the rule itself. For CPUs, odd tensors, and for differentiating through a step."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from adai.optim import rule
from adai.optim.batch import Batch
from adai.optim.mean import accumulator


def _gradient(param: Tensor, grad: Tensor, like: Tensor, group: dict[str, Any]) -> Tensor:
    return rule.gradient(
        param.to(like.dtype),
        grad.to(like.dtype),
        weight_decay=0 if group["decoupled_weight_decay"] else group["weight_decay"],
        maximize=group["maximize"],
    )


def accumulate(batch: Batch, group: dict[str, Any]) -> list[Tensor]:
    """Bring every v of the batch to this step; returns Σ v of each tensor."""
    sums = []
    for param, grad, v in zip(batch.params, batch.grads, batch.exp_avg_sqs, strict=True):
        v.copy_(rule.second_moment(v, _gradient(param, grad, v, group), group["betas"][1]))
        sums.append(v.sum(dtype=accumulator(v.device)))
    return sums


def update(batch: Batch, group: dict[str, Any], mean: rule.Mean, bias_corrections2: Sequence[Any]) -> None:
    """Move every parameter of the batch, given the mean of v̂."""
    # Autograd keeps what the rule reads, and the results are written over it: differentiate through copies.
    read: Callable[[Tensor], Tensor] = Tensor.clone if group["differentiable"] else _same
    for param, grad, m, v, c, bias_correction2 in zip(
        batch.params, batch.grads, batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections, bias_corrections2,
        strict=True,
    ):  # fmt: skip
        moved = rule.update(
            read(param).to(v.dtype),
            _gradient(read(param), grad, v, group),
            read(m),
            read(v),
            read(c),
            bias_correction2=bias_correction2,
            mean=mean,
            lr=group["lr"],
            beta0=group["betas"][0],
            eps=group["eps"],
            decay=group["weight_decay"] if group["decoupled_weight_decay"] else 0,
            dampening=group["dampening"],
        )
        param.copy_(moved.theta)
        m.copy_(moved.m)
        c.copy_(moved.c)


def _same(tensor: Tensor) -> Tensor:
    return tensor
