"""Converts the parameter groups of a tuned `torch.optim.SGD` into groups for Adai."""

from typing import Any

import torch

from adai.optim.options import DEFAULT_EPS

# Enough for small nets without batch norm, which full-size first steps make diverge.
WARMUP_STEPS = 100

# Keys that torch's schedulers add to groups. They hold learning rates and momenta of SGD.
_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}


def groups_from_sgd(sgd: torch.optim.SGD, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return groups with the same parameters, weight decay and direction, and with steps of the same total length.

    SGD with momentum β and learning rate η is stable for curvatures below 2 (1 + β) / η. Adai with the learning rate
    η / (1 - β) and ``min_inertia`` β is stable for the same curvatures. So each group's ``min_inertia`` is the momentum
    of its SGD, but at most 1 - eps; unless ``options`` contains another one.

    Keys that belong neither to SGD nor to a scheduler are the caller's own, and are kept.

    Args:
        sgd: the optimizer to convert.
        options: the options of the new optimizer.
    """
    if not isinstance(sgd, torch.optim.SGD):
        raise TypeError(f"from_sgd needs a torch.optim.SGD, but got {type(sgd).__name__}")
    groups = [_group(group, _OF_SCHEDULERS | sgd.defaults.keys()) for group in sgd.param_groups]
    if "min_inertia" not in options:
        for group, old in zip(groups, sgd.param_groups, strict=True):
            group["min_inertia"] = min(old["momentum"], 1 - options.get("eps", DEFAULT_EPS))
    return groups


def _group(group: dict[str, Any], not_kept: set[str]) -> dict[str, Any]:
    momentum, params = group["momentum"], group["params"]
    if not momentum < 1:
        raise ValueError(f"Invalid momentum value: {momentum}; lr / (1 - momentum) needs momentum < 1")
    gain = (1 - group["dampening"]) / (1 - momentum) if momentum else 1.0
    if "param_names" in group:
        params = list(zip(group["param_names"], params, strict=True))
    own = {key: value for key, value in group.items() if key not in {*not_kept, "param_names"}}
    return {
        **own,
        "params": params,
        "lr": group["lr"] * gain,
        "weight_decay": group["weight_decay"],
        "maximize": group["maximize"],
    }
