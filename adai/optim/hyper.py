"""The numbers of a parameter group, derived from its options once per step."""

from typing import Any, NamedTuple

from torch import Tensor

from adai.optim.rule import Count


class Hyper(NamedTuple):
    """The numbers of one parameter group in one step. Every engine reads them here instead of deriving its own."""

    lr: Any
    """Learning rate: a number, or a 0-dim tensor."""
    beta0: float
    beta2: float
    eps: float
    """The lower bound of w = 1 - mu."""
    min_inertia: float
    most: float
    """The upper bound of w = 1 - mu, which is 1 - min_inertia."""
    l2: float
    """Weight decay that is added to the gradient; 0 if it is decoupled."""
    decay: float
    """Decoupled weight decay; 0 if it is added to the gradient."""
    dampening: float
    power: float
    """The exponent of v̂ / mean, 1 / (3 - 2 dampening)."""
    gain: float
    """The factor of the step, beta0^(1 - dampening)."""
    warmup_steps: int
    maximize: bool
    sign: float
    """The factor of the gradient: -1 with ``maximize``, else 1."""
    max_grad_norm: float | None
    capturable: bool
    differentiable: bool

    @classmethod
    def of(cls, group: dict[str, Any]) -> "Hyper":
        """Derive the numbers of a parameter group, whose options may have changed since the last step."""
        lr, (beta0, beta2), dampening = group["lr"], group["betas"], group["dampening"]
        decoupled, weight_decay, maximize = group["decoupled_weight_decay"], group["weight_decay"], group["maximize"]
        return cls(
            lr=lr.reshape(()) if isinstance(lr, Tensor) else lr,
            beta0=beta0,
            beta2=beta2,
            eps=group["eps"],
            min_inertia=group["min_inertia"],
            most=1 - group["min_inertia"],
            l2=0.0 if decoupled else weight_decay,
            decay=weight_decay if decoupled else 0.0,
            dampening=dampening,
            power=1 / (3 - 2 * dampening),
            gain=beta0 ** (1 - dampening),
            warmup_steps=group["warmup_steps"],
            maximize=maximize,
            sign=-1.0 if maximize else 1.0,
            max_grad_norm=group["max_grad_norm"],
            capturable=group["capturable"],
            differentiable=group["differentiable"],
        )

    def count_at(self, t: Any) -> Count:
        """The numbers that follow from the step count t."""
        return Count.of(t, beta2=self.beta2, eps=self.eps, warmup_steps=self.warmup_steps)
