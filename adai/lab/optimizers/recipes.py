"""The recipes of the optimizers of a comparison: what makes them, with which options.

Baselines are from `torch.optim`, or else from pytorch-optimizer; if that library differs from the optimizer's paper,
the optimizer is written here. Tests compare each of them with its paper. For other optimizers `recipe` makes a recipe
from a name, or you write a `Recipe`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host.boundary import theirs
from adai.lab.optimizers.named import Maker, maker, options_of, takes_model
from adai.lab.optimizers.no_decay import no_decay
from adai.lab.optimizers.padam import Padam
from adai.lab.optimizers.yogi import Yogi
from adai.optim import Adai, AdaiW

# Options of optimizers that wrap another, such as pytorch_optimizer:SAM. Their values are names of optimizers.
WRAPPED = ("optimizer", "base_optimizer")


class Range(NamedTuple):
    """The values of an option that tuning searches: from ``low`` to ``high``, on a logarithmic scale with ``log``."""

    low: float
    high: float
    log: bool = False


class Recipe(NamedTuple):
    """An optimizer with its options, for a comparison.

    **When to use it.** If an optimizer needs other options than its defaults, or ranges for tuning. Otherwise give its
    name, class or function to the comparison directly.

    Attributes:
        label: its name in tables and figures.
        make: a class of optimizers, which is called with the parameters; a function, which is called with the model and
            returns an optimizer, for example with parameter groups; or the name of either, such as ``torch:NAdam``.
        options: keyword arguments for ``make``. The others have the defaults of ``make``.
        ranges: the ranges that tuning searches, by option, besides learning rate and weight decay.
        name: the name of the folder of its runs; the comparison sets it.
        spec: the name by which a run finds ``make``; the comparison sets it.

    Example:
        >>> import torch
        >>> from adai.lab.optimizers.recipes import Range, Recipe
        >>> nesterov = Recipe("Nesterov", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True})
        >>> nesterov = nesterov._replace(ranges={"momentum": Range(0.5, 0.99)})
        >>> type(nesterov.build(torch.nn.Linear(2, 1))).__name__
        'SGD'
    """

    label: str
    make: Maker | str
    options: Mapping[str, Any] = {}
    ranges: Mapping[str, Range] = {}
    name: str = ""
    spec: str = ""

    @property
    def maker(self) -> Maker:
        """The class or function itself."""
        return maker(self.make) if isinstance(self.make, str) else self.make

    def build(
        self, of: nn.Module | Iterable[Parameter], decays: Callable[[Parameter], bool] | None = None
    ) -> Optimizer:
        """Make the optimizer.

        Args:
            of: the model; or its parameters, if ``make`` is a class.
            decays: whether weight decay applies to a parameter; default to all. Used only if ``make`` is a class.

        Raises:
            Failed: ``make`` raises an error.
            UserError: ``make`` does not return an optimizer.
        """
        make, options = self.maker, {name: _argument(name, value) for name, value in self.options.items()}
        parameters = of.parameters() if isinstance(of, nn.Module) else of
        said = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        with theirs(f"making the optimizer {self.label}" + (f" with {said}" if said else "")):
            optimizer: Any = make(of if takes_model(make) else no_decay(parameters, decays), **options)
        if not isinstance(optimizer, Optimizer):
            raise UserError(
                f"{self.label} returns {type(optimizer).__name__}; it has to return a torch.optim.Optimizer"
            )
        return optimizer


def _argument(name: str, value: Any) -> Any:
    """Convert the value of an option from its form in JSON to that of the constructor."""
    if name in WRAPPED and isinstance(value, str) and ":" in value:
        return maker(value)
    return tuple(value) if isinstance(value, list) else value


# Learning rates and weight decay are those of the paper's Appendix D.1 for CIFAR. All other options have the library's
# defaults, as in the paper. L2 is 5e-4 everywhere; AdamW and AdaiW decay weights by lr * weight_decay instead.
# "adai-paper" is the rule as printed. "adai" and "adaiw" also have a lower bound of inertia, as in `Adai.from_sgd`:
# without it small nets die at these rates that SGD trains. Three more recipes are not in the paper. RMSprop has Adam's
# values. Plain SGD has the learning rate that SGD with momentum 0.9 is equivalent to. "ema" is Adai with inertia 0.9
# everywhere, the control for any claim about adaptive inertia.
# AdaBound's step adds the L2 term to p.grad, so the gradient has to be read before the step. Its bounds are multiplied
# by the current learning rate divided by the one given here, which a checkpoint does not hold.
RECIPES = {
    "adai": Recipe("Adai", Adai, {"lr": 1.0, "weight_decay": 5e-4, "min_inertia": 0.9}),
    "adaiw": Recipe("AdaiW", AdaiW, {"lr": 0.1, "weight_decay": 5e-3, "min_inertia": 0.9}),
    "sgd": Recipe("SGD momentum", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}),
    "adam": Recipe("Adam", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 5e-4}),
    "adamw": Recipe("AdamW", torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.5}),
    "amsgrad": Recipe("AMSGrad", torch.optim.Adam, {"lr": 1e-3, "weight_decay": 5e-4, "amsgrad": True}),
    "adabound": Recipe(
        "AdaBound", "pytorch_optimizer:AdaBound", {"lr": 1e-3, "weight_decay": 5e-4, "weight_decouple": False}
    ),
    "padam": Recipe("Padam", Padam, {"lr": 0.01, "weight_decay": 5e-4}),
    "yogi": Recipe("Yogi", Yogi, {"lr": 1e-3, "weight_decay": 5e-4}),
    "radam": Recipe("RAdam", torch.optim.RAdam, {"lr": 1e-3, "weight_decay": 5e-4}),
    "sgd-plain": Recipe("SGD", torch.optim.SGD, {"lr": 1.0, "weight_decay": 5e-4}),
    "rmsprop": Recipe("RMSprop", torch.optim.RMSprop, {"lr": 1e-3, "weight_decay": 5e-4}),
    "ema": Recipe("EMA momentum", Adai, {"lr": 1.0, "weight_decay": 5e-4, "eps": 0.1, "min_inertia": 0.9}),
    "adai-paper": Recipe("Adai, paper", Adai, {"lr": 1.0, "weight_decay": 5e-4}),
}

NOT_THE_PAPERS = ("sgd-plain", "rmsprop", "ema")

# The optimizers of a comparison by default.
DEFAULT_OPTIMIZERS = ("adai", "adaiw", "sgd", "adam", "adamw")


def recipe(spec: str) -> Recipe:
    """The recipe of an optimizer by name.

    An optimizer that is not in `RECIPES`, such as ``torch:NAdam`` or ``package.module:thing``, has the learning rate
    and the weight decay that are its constructor's defaults.

    Raises:
        UserError: the optimizer does not exist.
        ModuleNotFoundError: it is from pytorch_optimizer, which is not installed.
    """
    if spec in RECIPES:
        return RECIPES[spec]._replace(name=spec, spec=spec)
    if ":" not in spec:
        raise UserError(
            f"unknown optimizer {spec!r}; choose from {', '.join(RECIPES)}, or give one as torch:NAdam, "
            "pytorch_optimizer:Lion or package.module:thing"
        )
    name = own_name(spec)
    return Recipe(name, make := maker(spec), defaults(make), name=name, spec=spec)


def own_name(spec: str) -> str:
    """The name of an optimizer without a label: ``adai`` for ``adai``, ``NAdam`` for ``torch:NAdam``."""
    return spec.rpartition(":")[2].rpartition(".")[2]


def defaults(make: Maker) -> dict[str, float]:
    """The default learning rate and weight decay of an optimizer, if its signature has them."""
    known = {name: options_of(make).default(name) for name in ("lr", "weight_decay")}
    return {name: float(value) for name, value in known.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
