"""Adaptive Inertia (Adai) for PyTorch. Importing this needs nothing; its optimizers need torch alone."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adai.optim.adai import Adai, AdaiW

__all__ = ["Adai", "AdaiW"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: `adai --version` does without it.
    if name in __all__:
        from adai.optim import adai as optimizers

        return getattr(optimizers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
