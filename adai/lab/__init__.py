"""Optimizers compared on models and data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adai.lab.measure.range_test.find import find_lr
    from adai.lab.measure.stability.margin import stability

__all__ = ["find_lr", "stability"]

# The modules of the exports. They are imported on first use, so that importing one does not import the others.
_HOMES = {"find_lr": "adai.lab.measure.range_test.find", "stability": "adai.lab.measure.stability.margin"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
