"""What the parameter groups of a tuned `torch.optim.SGD` are for Adai."""

from typing import Any

import torch

# Enough for small nets without batch norm, which die of full-size first steps.
WARMUP_STEPS = 100

# What torch's schedulers keep in groups; in SGD's rates, and of SGD's momentum.
_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum"}


def groups_from_sgd(sgd: torch.optim.SGD, *, most_inertia: float) -> list[dict[str, Any]]:
    """Parameter groups with the same parameters, weight decay and direction, and steps as long as SGD's add up to.

    Each group's floor of inertia is the momentum β of its SGD, but at most ``most_inertia``. So Adai is stable where
    that SGD is: heavy ball at the rate η stands curvatures below 2 (1 + β) / η, and so does Adai at η / (1 - β).

    Keys that are not SGD's options or a scheduler's are the caller's own, and come along.
    """
    if not isinstance(sgd, torch.optim.SGD):
        raise TypeError(f"from_sgd needs a torch.optim.SGD, but got {type(sgd).__name__}")
    return [_group(group, _OF_SCHEDULERS | sgd.defaults.keys(), most_inertia) for group in sgd.param_groups]


def _group(group: dict[str, Any], not_kept: set[str], most_inertia: float) -> dict[str, Any]:
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
        "min_inertia": min(momentum, most_inertia),
    }
