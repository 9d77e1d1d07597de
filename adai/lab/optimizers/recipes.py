"""The optimizers of a comparison, each with its recipe.

Baselines come from `torch.optim`, else from pytorch-optimizer; one is written here only where that library departs from
the optimizer's own paper. A test holds each of them to its paper.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.optimizers.padam import Padam
from adai.lab.optimizers.yogi import Yogi
from adai.optim import Adai, AdaiW


class Recipe(NamedTuple):
    """An optimizer, the name people know it by, and the options it runs with."""

    label: str
    make: Callable[..., Optimizer]
    options: dict[str, Any]

    def build(self, parameters: Iterable[Parameter]) -> Optimizer:
        """A fresh optimizer for these parameters."""
        return self.make(parameters, **self.options)


def _adabound(parameters: Iterable[Parameter], **options: Any) -> Optimizer:
    # Its step adds the L2 term to p.grad itself: whoever wants the gradient reads it before the step. The bounds follow
    # the learning rate in proportion to the one given here, which a checkpoint does not hold.
    from pytorch_optimizer import AdaBound

    return AdaBound(parameters, **options)


# Learning rates and weight decay are those of the paper's Appendix D.1 for CIFAR; all else is the library's default, as
# there. L2 is 5e-4 throughout; AdamW and AdaiW decay weights by lr * weight_decay instead. Plain SGD and RMSprop are
# not the paper's: RMSprop takes Adam's values, plain SGD the learning rate that SGD with momentum 0.9 amounts to.
# Nor are the two variants of Adai: one whose inertia is 0.9 everywhere, the control of any claim that adaptive inertia
# is worth something, and one whose inertia has a floor.
RECIPES = {
    "adai": Recipe("Adai", Adai, {"lr": 1.0, "weight_decay": 5e-4}),
    "adaiw": Recipe("AdaiW", AdaiW, {"lr": 0.1, "weight_decay": 5e-3}),
    "sgd": Recipe("SGD momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}),
    "adam": Recipe("Adam", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 5e-4}),
    "adamw": Recipe("AdamW", torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.5}),
    "amsgrad": Recipe("AMSGrad", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 5e-4, "amsgrad": True}),
    "adabound": Recipe("AdaBound", _adabound, {"lr": 1e-3, "weight_decay": 5e-4, "weight_decouple": False}),
    "padam": Recipe("Padam", Padam, {"lr": 0.01, "weight_decay": 5e-4}),
    "yogi": Recipe("Yogi", Yogi, {"lr": 1e-3, "weight_decay": 5e-4}),
    "radam": Recipe("RAdam", torch.optim.RAdam, {"lr": 1e-3, "weight_decay": 5e-4}),
    "sgd-plain": Recipe("SGD", torch.optim.SGD, {"lr": 1.0, "weight_decay": 5e-4}),
    "rmsprop": Recipe("RMSprop", torch.optim.RMSprop, {"lr": 1e-3, "weight_decay": 5e-4}),
    "ema": Recipe("EMA momentum", Adai, {"lr": 1.0, "weight_decay": 5e-4, "eps": 0.1, "min_inertia": 0.9}),
    "adai-floor": Recipe("Adai, floor 0.7", Adai, {"lr": 1.0, "weight_decay": 5e-4, "min_inertia": 0.7}),
}

NOT_THE_PAPERS = ("sgd-plain", "rmsprop", "ema", "adai-floor")

# What a comparison runs when nobody says which.
DEFAULT_OPTIMIZERS = ("adai", "adaiw", "sgd", "adam", "adamw")


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        raise UserError(f"unknown optimizer {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]
