"""The options of the constructor and of parameter groups: which values are valid, and which go together."""

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from adai.optim.engines.choice import missing

DEFAULT_EPS = 1e-3
ADDED: dict[str, Any] = {"min_inertia": 0.0, "warmup_steps": 0}
"""Options that state dicts of earlier versions lack, with the values that those versions used."""
NUMBERS = ("lr", "eps", "min_inertia", "warmup_steps", "weight_decay", "dampening")
"""Options that have to be numbers."""
MOMENTUM = 0.5
"""From this beta0 on it is probably meant as a momentum."""
OF_OPTIMIZER = ("process_group", "state_dtype", "rounding_seed", "stochastic_rounding", "mean", "coupling")
"""Options of the whole optimizer, which a parameter group cannot set."""
TENSOR_LR = "lr as a Tensor is not supported for capturable=False and foreach=True; leave foreach at None"


def check(options: dict[str, Any]) -> None:
    """Raise if an option of the constructor or of a parameter group is no number, or is outside its range."""
    lr, eps, dampening = options["lr"], options["eps"], options["dampening"]
    beta0, beta2 = _pair(options["betas"])
    _check_numbers(options)
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"Tensor lr must be 1-element, but it has {lr.numel()} elements")
    if tensor_lr_is_refused(options):
        raise ValueError(TENSOR_LR)
    if not 0.0 <= lr < math.inf:
        raise ValueError(f"Invalid learning rate: {lr}; it must be finite and at least 0")
    if not 0.0 < beta0 <= 1.0:
        raise ValueError(f"Invalid beta parameter at index 0: {beta0}; it must be in (0, 1]")
    if not 0.0 <= beta2 < 1.0:
        raise ValueError(f"Invalid beta parameter at index 1: {beta2}; it must be in [0, 1)")
    if not 0.0 <= eps < 1.0:
        raise ValueError(f"Invalid eps value: {eps}; it must be in [0, 1)")
    min_inertia = options["min_inertia"]
    if not 0.0 <= min_inertia <= 1.0 - eps:
        raise ValueError(f"Invalid min_inertia value: {min_inertia}; it must be in [0, 1 - eps], with eps = {eps}")
    warmup_steps = options["warmup_steps"]
    if warmup_steps != int(warmup_steps) or warmup_steps < 0:
        raise ValueError(f"Invalid warmup_steps value: {warmup_steps}; it must be a whole number, 0 or more")
    weight_decay = options["weight_decay"]
    if not 0.0 <= weight_decay < math.inf:
        raise ValueError(f"Invalid weight_decay value: {weight_decay}; it must be finite and at least 0")
    if not 0.0 <= dampening <= 1.0:
        raise ValueError(f"Invalid dampening value: {dampening}; it must be in [0, 1]")
    max_grad_norm = options["max_grad_norm"]
    if max_grad_norm is not None and not max_grad_norm >= 0.0:
        raise ValueError(f"Invalid max_grad_norm value: {max_grad_norm}; it must be at least 0, or None")
    _check_engine(options)


def _pair(betas: Any) -> tuple[Any, Any]:
    """The two betas; raise if there are not two."""
    try:
        beta0, beta2 = betas
    except (TypeError, ValueError) as error:
        raise type(error)(f"Invalid betas: {betas!r}; they must be two numbers, such as (0.1, 0.99)") from None
    return beta0, beta2


def _check_numbers(options: dict[str, Any]) -> None:
    """Raise if an option that has to be a number is something else."""
    for name in (*NUMBERS, "betas", "max_grad_norm"):
        value = options[name]
        for each in value if name == "betas" else (value,):
            if not isinstance(each, Real | Tensor) and not (each is None and name == "max_grad_norm"):
                raise TypeError(f"Invalid {name}: {value!r}; {each!r} is no number")


def warn_of_momentum(param_groups: Sequence[dict[str, Any]]) -> None:
    """Warn if a group's betas look like those of Adam, whose first is a momentum."""
    betas = next((group["betas"] for group in param_groups if group["betas"][0] >= MOMENTUM), None)
    if betas is not None:
        warnings.warn(
            "betas[0] is not a momentum here, as it is in Adam, but beta0, the mean of 1 - inertia. By default betas "
            f"are (0.1, 0.99); here they are {betas}",
            stacklevel=3,
        )


def check_group(group: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Raise if the options of a new parameter group are invalid; return them together with the defaults."""
    for name in OF_OPTIMIZER:
        if name in group:
            raise ValueError(
                f"{name} is an option of the whole optimizer, not of a parameter group; give it to the constructor. "
                f"ZeroRedundancyOptimizer needs optimizer_class=functools.partial(Adai, {name}=...) for that"
            )
    options = {**defaults, **group}
    check(options)
    return options


def check_mean(mean: str) -> None:
    """Raise if there is no mean of this name."""
    if mean not in ("current", "previous"):
        raise ValueError(f'Invalid mean: {mean!r}; it must be "current" or "previous"')


def check_rounding(
    state_dtype: torch.dtype | None, rounding_seed: int, stochastic_rounding: bool, options: dict[str, Any]
) -> None:
    """Raise if the options of stochastic rounding are invalid, or not possible with these of a parameter group."""
    if state_dtype not in (None, torch.float32, torch.bfloat16):
        raise ValueError(f"Invalid state_dtype: {state_dtype}; it must be torch.bfloat16, torch.float32 or None")
    if isinstance(rounding_seed, bool) or not isinstance(rounding_seed, int):
        raise ValueError(f"Invalid rounding_seed value: {rounding_seed}; it must be a whole number")
    narrow = state_dtype == torch.bfloat16
    if options["differentiable"] and (narrow or stochastic_rounding):
        name = "state_dtype=torch.bfloat16" if narrow else "stochastic_rounding=True"
        raise RuntimeError(
            f"`{name}` does not support `differentiable`, because rounding has no derivative; leave one of them out"
        )


def check_process_group(process_group: Any) -> None:
    """Raise unless this is None or a process group that contains this process."""
    if process_group is None:
        return
    if dist.is_available() and process_group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            "Invalid process_group: this process is not a member of it; give a group that it is in, or None"
        )
    if not dist.is_available() or not isinstance(process_group, dist.ProcessGroup):
        raise TypeError(
            f"process_group must be a torch.distributed.ProcessGroup, but got {type(process_group).__name__}; "
            "for all processes give torch.distributed.group.WORLD"
        )


def check_fused(group: dict[str, Any]) -> None:
    """Raise if a group asks for the fused engine and a device of its parameters has none."""
    for device in {param.device for param in group["params"]} if group["fused"] else ():
        reason = missing(device)
        if reason is not None:
            raise RuntimeError(f"fused=True is not possible: {reason}; leave fused at None to use another engine")


def check_capturable(param_groups: Sequence[dict[str, Any]]) -> None:
    """Raise if a ``capturable`` group has a parameter on the CPU."""
    if torch.compiler.is_compiling():  # torch.compile sets capturable itself, on the CPU too
        return
    for group in param_groups:
        for param in group["params"] if group["capturable"] else ():
            if param.device.type == "cpu":
                raise RuntimeError(
                    "capturable=True needs parameters on an accelerator, but one is on cpu; leave capturable at False"
                )


def check_beta0(param_groups: Sequence[dict[str, Any]], beta0s: tuple[float, ...], name: str) -> tuple[float, ...]:
    """Raise if a scheduler cycles beta0, after restoring it, so that another scheduler can be used.

    Args:
        param_groups: the groups as they are now.
        beta0s: beta0 of each group at the step before.
        name: name of the optimizer's class, for the message.

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
            f"the scheduler cycles betas[0] of {name}, but this is beta0, not a momentum; create the scheduler again "
            "with cycle_momentum=False (betas have been restored)"
        )
    return tuple(group["betas"][0] for group in param_groups)


def tensor_lr_is_refused(options: dict[str, Any]) -> bool:
    """Whether the foreach engine would have to wait for a learning rate on a device, which torch.optim refuses too."""
    return bool(options["foreach"]) and isinstance(options["lr"], Tensor) and not options["capturable"]


def check_coupled(options: dict[str, Any]) -> None:
    """Raise if a parameter group cannot share its mean of v̂ with other optimizers."""
    for name, value in (("max_grad_norm", None), ("dampening", 1), ("capturable", False), ("differentiable", False)):
        if options[name] != value:
            raise ValueError(f"coupling is not possible with {name}={options[name]}; leave {name} at {value}")


def _check_engine(options: dict[str, Any]) -> None:
    """Raise if the options that choose an engine contradict each other."""
    if options["foreach"] and options["differentiable"]:
        raise RuntimeError("`foreach` does not support `differentiable`; leave foreach at None")
    if options["fused"]:
        for name in ("foreach", "differentiable"):
            if options[name]:
                raise RuntimeError(f"`fused` and `{name}` cannot be `True` together; leave one of them out")
