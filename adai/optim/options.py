"""What the options of the constructor and of parameter groups may be."""

import math
from typing import Any

import torch.distributed as dist
from torch import Tensor

ADDED: dict[str, Any] = {"min_inertia": 0.0, "warmup_steps": 0}
"""Options that state dicts of earlier versions do not have, with the values that these versions trained with."""


def check(options: dict[str, Any]) -> None:
    """Raise where an option of the constructor or of a parameter group is outside its range."""
    lr, eps, dampening = options["lr"], options["eps"], options["dampening"]
    beta0, beta2 = options["betas"]
    if isinstance(lr, Tensor):
        if lr.numel() != 1:
            raise ValueError(f"Tensor lr must be 1-element, but it has {lr.numel()} elements")
        if options["foreach"] and not options["capturable"]:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
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
    _check_engine(options)


def rate(group: dict[str, Any]) -> Any:
    """A group's learning rate for arithmetic: a number, or a tensor without dimensions, whatever shape it has."""
    lr = group["lr"]
    return lr.reshape(()) if isinstance(lr, Tensor) else lr


def _check_engine(options: dict[str, Any]) -> None:
    """Raise where the options that choose an engine do not go together or cannot be had."""
    if options["foreach"] and options["differentiable"]:
        raise RuntimeError("`foreach` does not support `differentiable`")
    max_grad_norm = options["max_grad_norm"]
    if max_grad_norm is not None and not max_grad_norm >= 0.0:
        raise ValueError(f"Invalid max_grad_norm value: {max_grad_norm}")
    if options["fused"]:
        for name in ("foreach", "differentiable"):
            if options[name]:
                raise RuntimeError(f"`fused` and `{name}` cannot be `True` together")


def check_process_group(process_group: Any) -> None:
    """Raise where this is neither None nor a process group that has this process in it."""
    if process_group is None:
        return
    if dist.is_available() and process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("Invalid process_group: this process is not a member of it")
    if not dist.is_available() or not isinstance(process_group, dist.ProcessGroup):
        raise TypeError(
            f"process_group must be a torch.distributed.ProcessGroup, but got {type(process_group).__name__}; "
            "for all processes give torch.distributed.group.WORLD"
        )
