"""A figure of the page, with a text description for readers who cannot see it, and its style."""

from io import BytesIO
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adai.report.style import GRID, INK

# As wide as one column of a paper, so that the letters are large enough on a phone.
WIDTH, HEIGHT = 4.8, 3.2

RC: dict[Any, Any] = {
    "font.size": 11, "axes.labelsize": 11, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 10,
    "svg.fonttype": "none", "svg.hashsalt": "adai", "pdf.fonttype": 42,
}  # fmt: skip


class Picture(NamedTuple):
    """A figure with its description.

    Args:
        key: its name in files.
        title: what it shows.
        description: a text that describes it, with the numbers.
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
    """The name of an axis, followed by its unit if there is one."""
    return f"{text} ({unit})" if unit else text
