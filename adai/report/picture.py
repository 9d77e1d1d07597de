"""A figure of the page with the description that stands for it where it cannot be seen, and its looks."""

from io import BytesIO
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adai.report.style import GRID, INK

# One column of a paper wide: on a phone the letters are still large enough.
WIDTH, HEIGHT = 4.8, 3.2

RC: dict[Any, Any] = {
    "font.size": 11, "axes.labelsize": 11, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 10,
    "svg.fonttype": "none", "svg.hashsalt": "adai", "pdf.fonttype": 42,
}  # fmt: skip


class Picture(NamedTuple):
    """A figure, and what to say of it.

    Args:
        key: its name in files.
        title: what it shows.
        description: what is to be seen, with the numbers.
        figure: the drawing.
    """

    key: str
    title: str
    description: str
    figure: Figure


class Missing(NamedTuple):
    """A figure whose numbers were not recorded."""

    key: str
    title: str
    why: str


class Drawing(Figure):
    """A figure that a notebook shows, also one that has not imported pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()


def one_axes() -> tuple[Figure, Axes]:
    """An empty figure of the usual size."""
    figure = Drawing(figsize=(WIDTH, HEIGHT), layout="constrained")
    return figure, figure.subplots()


def with_unit(text: str, unit: str) -> str:
    """The name of an axis with its unit behind it, where there is one."""
    return f"{text} ({unit})" if unit else text
