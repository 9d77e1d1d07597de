"""The optimizers of a comparison, each with its recipe. Baselines come from `torch.optim`, never rewritten."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from adai.errors import UserError
from adai.optim import Adai, AdaiW


class Recipe(NamedTuple):
    """An optimizer, the name people know it by, and the options it runs with."""

    label: str
    make: Callable[..., Optimizer]
    options: dict[str, Any]

    def build(self, parameters: Iterable[Parameter]) -> Optimizer:
        """A fresh optimizer for these parameters."""
        return self.make(parameters, **self.options)


# Learning rates and weight decay are those of the paper's Appendix D.1 for CIFAR.
RECIPES = {
    "adai": Recipe("Adai", Adai, {"lr": 1.0, "weight_decay": 5e-4}),
    "adaiw": Recipe("AdaiW", AdaiW, {"lr": 0.1, "weight_decay": 5e-3}),
    "sgd": Recipe("SGD momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}),
    "adam": Recipe("Adam", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 5e-4}),
    "adamw": Recipe("AdamW", torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.5}),
}


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UserError: there is none.
    """
    if name not in RECIPES:
        raise UserError(f"unknown optimizer {name!r}; choose from {', '.join(RECIPES)}")
    return RECIPES[name]
