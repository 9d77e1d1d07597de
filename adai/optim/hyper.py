"""A parameter group's options: what they may be, and the numbers that follow from them."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.rule import Count

ADDED: dict[str, Any] = {"min_inertia": 0.0, "warmup_steps": 0}
"""Options that state dicts of earlier versions do not have, with the values that these versions trained with."""


class Hyper(NamedTuple):
    """The numbers of one parameter group in one step. Every engine takes them from here and derives none itself."""

    lr: Any
    """Learning rate: a number, or a 0-dim tensor."""
    beta0: float
    beta2: float
    eps: float
    """The least that w = 1 - mu can be."""
    min_inertia: float
    most: float
    """The most that w = 1 - mu can be, 1 - min_inertia."""
    l2: float
    """Weight decay that is added to the gradient, 0 where it is decoupled."""
    decay: float
    """Decoupled weight decay, 0 where it is added to the gradient."""
    dampening: float
    power: float
    """The power to which v̂ / mean enters, 1 / (3 - 2 dampening)."""
    gain: float
    """The factor on the step, beta0^(1 - dampening)."""
    warmup_steps: int
    maximize: bool
    sign: float
    """The factor that makes a gradient one of what is minimised: -1 where ``maximize``, else 1."""
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
        """What follows from the step count t."""
        return Count.of(t, beta2=self.beta2, eps=self.eps, warmup_steps=self.warmup_steps)


def check(options: dict[str, Any]) -> None:
    """Raise where an option of the constructor or of a parameter group is outside its range."""
    lr, eps, dampening = options["lr"], options["eps"], options["dampening"]
    beta0, beta2 = options["betas"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"Tensor lr must be 1-element, but it has {lr.numel()} elements")
    if tensor_lr_is_refused(options):
        raise ValueError(TENSOR_LR)
    if not 0.0 <= lr < math.inf:
        raise ValueError(f"Invalid learning rate: {lr}")
    if not 0.0 < beta0 <= 1.0:
        raise ValueError(f"Invalid beta parameter at index 0: {beta0}")
    if not 0.0 <= beta2 < 1.0:
        raise ValueError(f"Invalid beta parameter at index 1: {beta2}")
    if not 0.0 <= eps < 1.0:
        raise ValueError(f"Invalid eps value: {eps}")
    min_inertia = options["min_inertia"]
    if not 0.0 <= min_inertia <= 1.0 - eps:
        raise ValueError(f"Invalid min_inertia value: {min_inertia}; it has to lie in [0, 1 - eps], eps being {eps}")
    warmup_steps = options["warmup_steps"]
    if warmup_steps != int(warmup_steps) or warmup_steps < 0:
        raise ValueError(f"Invalid warmup_steps value: {warmup_steps}; it has to be a whole number, 0 or more")
    if not 0.0 <= options["weight_decay"] < math.inf:
        raise ValueError(f"Invalid weight_decay value: {options['weight_decay']}")
    if not 0.0 <= dampening <= 1.0:
        raise ValueError(f"Invalid dampening value: {dampening}")
    max_grad_norm = options["max_grad_norm"]
    if max_grad_norm is not None and not max_grad_norm >= 0.0:
        raise ValueError(f"Invalid max_grad_norm value: {max_grad_norm}")
    _check_engine(options)


def check_mean(mean: str) -> None:
    """Raise where this is not one of the means by which v̂ can be divided."""
    if mean not in ("current", "previous"):
        raise ValueError(f'Invalid mean: {mean!r}; it has to be "current" or "previous"')


def check_state_dtype(state_dtype: torch.dtype | None, rounding_seed: int, options: dict[str, Any]) -> None:
    """Raise where the state cannot be kept in this dtype, or not with these options of a parameter group."""
    if state_dtype not in (None, torch.float32, torch.bfloat16):
        raise ValueError(f"Invalid state_dtype: {state_dtype}; it has to be torch.bfloat16, torch.float32 or None")
    if isinstance(rounding_seed, bool) or not isinstance(rounding_seed, int):
        raise ValueError(f"Invalid rounding_seed value: {rounding_seed}; it has to be a whole number")
    if state_dtype == torch.bfloat16 and options["differentiable"]:
        raise RuntimeError("`state_dtype=torch.bfloat16` does not support `differentiable`: rounding has no derivative")


def check_coupled(options: dict[str, Any]) -> None:
    """Raise where a parameter group cannot share its mean of v̂ with other optimizers."""
    for name, value in (("max_grad_norm", None), ("dampening", 1), ("capturable", False), ("differentiable", False)):
        if options[name] != value:
            raise ValueError(f"coupling is not possible with {name}={options[name]}; leave {name} at {value}")


def _check_engine(options: dict[str, Any]) -> None:
    """Raise where the options that choose an engine do not go together."""
    if options["foreach"] and options["differentiable"]:
        raise RuntimeError("`foreach` does not support `differentiable`")
    if options["fused"]:
        for name in ("foreach", "differentiable"):
            if options[name]:
                raise RuntimeError(f"`fused` and `{name}` cannot be `True` together")


TENSOR_LR = "lr as a Tensor is not supported for capturable=False and foreach=True"


def tensor_lr_is_refused(options: dict[str, Any]) -> bool:
    """Whether these options ask the foreach engine to wait for a learning rate, which torch.optim refuses too."""
    return bool(options["foreach"]) and isinstance(options["lr"], Tensor) and not options["capturable"]


def check_beta0(param_groups: list[dict[str, Any]], beta0s: tuple[float, ...], name: str) -> tuple[float, ...]:
    """Raise where a scheduler cycles beta0, after putting it back, so that another scheduler can take over.

    Args:
        param_groups: the groups as they are now.
        beta0s: beta0 of each group at the step before.
        name: of the optimizer's class, for the message.

    Returns:
        beta0 of each group.
    """
    if len(beta0s) == len(param_groups) and any(
        "base_momentum" in group and group["betas"][0] != beta0
        for group, beta0 in zip(param_groups, beta0s, strict=True)
    ):
        for group, beta0 in zip(param_groups, beta0s, strict=True):
            group["betas"] = (beta0, *group["betas"][1:])
        raise ValueError(
            f"a scheduler cycles betas[0] of {name}, which is beta0 and no momentum; make it anew "
            "with cycle_momentum=False (betas are what they were before)"
        )
    return tuple(group["betas"][0] for group in param_groups)
