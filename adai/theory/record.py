"""The record of a numbered result: its formulas, as text and as functions, and examples of inputs."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from adai.theory.bounds import Array
from adai.theory.escape import Escape
from adai.theory.saddle import Displacement

KINDS = {
    "OK": "verified as printed",
    "T": "typographic slip; the intended formula is clear",
    "A": "approximation, valid only in a regime",
    "R": "real error",
    "N": "not in the paper; derived here",
}

Value = Array | float | Displacement | Escape


class Formula(NamedTuple):
    """A formula as text and as a function of the record's inputs (None if there is nothing to compute)."""

    text: str
    function: Callable[..., Value] | None = None

    def value(self, inputs: Mapping[str, Any]) -> Value | None:
        """The function's value; it gets only those inputs that are its parameters."""
        if self.function is None:
            return None
        names = inspect.signature(self.function).parameters
        return self.function(**{name: inputs[name] for name in names if name in inputs})


class Sweep(NamedTuple):
    """The input to vary in the figure, from ``low`` to ``high`` by equal ratios, to show how the formulas differ."""

    symbol: str
    low: float
    high: float


class Result(NamedTuple):
    """A numbered result of the paper, or one of ours, which has ``ours`` instead of a printed formula.

    ``inputs`` are examples: the defaults of the command and of the figures. If one is a tuple, the command accepts
    several numbers. ``limits`` names the input for which every value is an upper limit. ``picture`` describes a figure
    that is not a sweep; `adai.report.theory` draws it.
    """

    key: str
    name: str
    reference: str
    kind: str
    printed: Formula | None = None
    corrected: Formula | None = None
    exact: tuple[Formula, ...] = ()
    ours: tuple[Formula, ...] = ()
    valid: str = ""
    note: str = ""
    quantity: str = ""
    inputs: Mapping[str, Any] = {}
    sweep: Sweep | None = None
    limits: str = ""
    picture: str = ""

    @property
    def formulas(self) -> list[tuple[str, Formula]]:
        """All formulas, each with its kind."""
        single = [("printed", self.printed), ("corrected", self.corrected)]
        return [
            *((what, formula) for what, formula in single if formula is not None),
            *(("exact", formula) for formula in self.exact),
            *(("ours", formula) for formula in self.ours),
        ]

    @property
    def has_figure(self) -> bool:
        """Whether the result has a figure."""
        return self.sweep is not None or bool(self.picture)


def number(value: Value) -> Array:
    """The value as an array; for a displacement its sum, for an escape its τ."""
    return np.asarray(value.value if isinstance(value, Displacement | Escape) else value, dtype=np.float64)
