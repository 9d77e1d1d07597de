"""Compares optimizers on models and data.

The exports are imported on first use, so importing `adai.lab` alone is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adai.lab.measure.range_test.find import find_lr
    from adai.lab.measure.stability.margin import stability
    from adai.lab.optimizers.recipes import Range, Recipe
    from adai.lab.python import compare
    from adai.lab.results.comparison import Comparison
    from adai.lab.results.learning_rates import load
    from adai.lab.settings import Settings
    from adai.lab.tasks.task import Task
    from adai.lab.training.train import train

__all__ = ["Comparison", "Range", "Recipe", "Settings", "Task", "compare", "find_lr", "load", "stability", "train"]

# The modules of the exports. They are imported on first use, so that importing one does not import the others.
_HOMES = {
    "Comparison": "adai.lab.results.comparison",
    "Range": "adai.lab.optimizers.recipes",
    "Recipe": "adai.lab.optimizers.recipes",
    "Settings": "adai.lab.settings",
    "Task": "adai.lab.tasks.task",
    "compare": "adai.lab.python",
    "find_lr": "adai.lab.measure.range_test.find",
    "load": "adai.lab.results.learning_rates",
    "stability": "adai.lab.measure.stability.margin",
    "train": "adai.lab.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
