"""Engine: one tensor at a time, by the functions of `adai.optim.rule`. It takes any tensors and is differentiable."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim import rule
from adai.optim.engines.batch import Batch
from adai.optim.engines.operators import Operators
from adai.optim.hyper import Hyper
from adai.optim.shared.mean import accumulator, advance, sum_of, total_hat


class Loop(Operators):
    """The for-loop engine, to which tests compare the other engines."""

    def squares(self, batch: Batch, hyper: Hyper) -> Tensor:
        """Σ g² of the raw gradients."""
        del hyper
        norms = [torch.linalg.vector_norm(g, dtype=accumulator(g.device)) for g in batch.grads]
        return torch.stack([norm.to(norms[0].device) for norm in norms]).square().sum()

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[rule.Count], clip: Any) -> Tensor:
        """Update v of every tensor of the batch; return Σ v̂ over the batch."""
        sums = []
        for param, grad, v in zip(batch.params, batch.grads, batch.exp_avg_sqs, strict=True):
            v.copy_(rule.second_moment(v, _gradient(param, grad, v, hyper, clip), hyper.beta2))
            sums.append(sum_of(v))
        return total_hat(sums, counts)

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[rule.Count], clip: Any, mean: rule.Mean) -> None:
        """Update every parameter of the batch with the mean of v̂, and count the step."""
        # Autograd saves the tensors that the rule reads, and the results overwrite them: the rule reads copies.
        read: Callable[[Tensor], Tensor] = Tensor.clone if hyper.differentiable else _same
        for param, grad, m, v, c, count in zip(
            batch.params, batch.grads, batch.exp_avgs, batch.exp_avg_sqs, batch.bias_corrections, counts, strict=True
        ):
            moved = rule.update(
                read(param).to(v.dtype),
                _gradient(read(param), grad, v, hyper, clip),
                read(m),
                read(v),
                None if c is None else read(c),
                count=count,
                mean=mean,
                lr=hyper.lr,
                beta0=hyper.beta0,
                eps=hyper.eps,
                min_inertia=hyper.min_inertia,
                decay=hyper.decay,
                dampening=hyper.dampening,
            )
            param.copy_(moved.theta)
            m.copy_(moved.m)
            if c is not None and moved.c is not None:
                c.copy_(moved.c)
        advance(batch.steps, mean)


def _gradient(param: Tensor, grad: Tensor, like: Tensor, hyper: Hyper, clip: Any) -> Tensor:
    return rule.gradient(
        param.to(like.dtype),
        grad.to(like.dtype),
        weight_decay=hyper.l2,
        maximize=hyper.maximize,
        clip=clip.to(like) if isinstance(clip, Tensor) else clip,
    )


def _same(tensor: Tensor) -> Tensor:
    return tensor
