"""How each measure is shown: in a section of the page, and in the terminal.

A measure without a view of its own gets the general one: a table of its last values, and a figure a column.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import RenderableType

from adai.lab.results.comparison import Comparison
from adai.report import any_measure, flatness, stability
from adai.report.section import Section


class View(NamedTuple):
    """How a measure is shown.

    Args:
        section: writes its files into the comparison's folder, and returns its section of the page; None for none.
        said: what the terminal shows of it. Both take the comparison, and the optimizer that the others are compared
            with.
    """

    section: Callable[[Comparison, str], Section | None]
    said: Callable[[Comparison, str], Sequence[RenderableType]]


VIEWS = {
    "flatness": View(flatness.section, flatness.said),
    "stability": View(stability.section, stability.said),
}


def views(comparison: Comparison) -> list[View]:
    """Those of the measures that have one of their own, and of all others that any run of the comparison keeps."""
    others = [name for name in comparison.measures if name not in VIEWS]
    return [*VIEWS.values(), *(View(*any_measure.view(name)) for name in others)]
