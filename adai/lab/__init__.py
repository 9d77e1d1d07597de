"""Optimizers compared on models and data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adai.lab.measure.range_test.find import find_lr
    from adai.lab.measure.stability.margin import stability

__all__ = ["find_lr", "stability"]

# Where what is offered here lives: it is imported when it is asked for, so that no module pays for another's imports.
_HOMES = {"find_lr": "adai.lab.measure.range_test.find", "stability": "adai.lab.measure.stability.margin"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
