"""Checks that symbols are within their bounds."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adai.theory.symbols import SYMBOLS

Array = NDArray[np.float64]


def checked(**values: ArrayLike) -> tuple[Array, ...]:
    """The values as float64 arrays, in the order given, after a check that each is within the bound of its symbol.

    Raises:
        ValueError: a value is out of bounds; the message names the symbol, the first such value and the bound.
    """
    return tuple(_checked(name, np.asarray(value, dtype=np.float64)) for name, value in values.items())


def _checked(name: str, value: Array) -> Array:
    wrong = value[~np.asarray(SYMBOLS[name].holds(value))]
    if wrong.size:
        raise ValueError(f"{name} = {float(wrong.flat[0]):g}, but has to be {SYMBOLS[name].bound}")
    return value
