"""The stability margin of a comparison's runs along training: a figure, and a table as CSV."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.markers import CARETDOWN
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from rich.console import RenderableType

from adai.lab.results.comparison import Comparison
from adai.lab.results.measured import Measured
from adai.lab.results.stability import Courses, about_of, courses, sentence
from adai.report.panels import add_legend
from adai.report.picture import Picture, one_axes
from adai.report.rows import write_csv
from adai.report.section import Section
from adai.report.style import INK, style

# The axis begins here if margins are smaller: if the schedule ends at or near 0, so does the margin.
LEAST = 1e-3

NOTE = (
    "The margin is the learning rate over the largest that is stable on a quadratic of the same curvature, with the "
    "optimizer’s state as it was. A margin above 1 for some steps is usual; a run that stays there blows up or moves "
    "to where the loss is flatter."
)


def section(comparison: Comparison, reference: str) -> Section | None:
    """Write the file of the stability margin, and return its section of the page; None where it was not measured."""
    found = courses(comparison)
    if not found:
        return None
    points = comparison.path / "stability-epochs.csv"
    write_courses(points, found)
    return Section(
        "stability-margin",
        "Stability",
        [sentence(comparison, found)],
        note=NOTE,
        files=[points],
        pictures=[picture(comparison, found)],
    )


def said(comparison: Comparison, reference: str) -> Sequence[RenderableType]:
    """The sentence, where it was measured."""
    found = courses(comparison)
    return [sentence(comparison, found)] if found else []


class Point(NamedTuple):
    """A measurement as a row of a table."""

    optimizer: str
    seed: int
    epoch: int
    loss: float | None
    lr: float | None
    margin: float | None
    largest_lr: float | None


def write_courses(path: Path, found: Courses) -> None:
    """Write a row for each measurement as CSV, every number in full, with batch norm's mode and the samples."""
    points = [
        Point(name, seed, one.epoch, *(one.number(key) for key in Point._fields[3:]))
        for name, of_seeds in found.items()
        for seed, course in of_seeds.items()
        for one in course
    ]
    about = about_of(found)
    write_csv(path, points, batch_norm=str(about.get("batch_norm", "")), samples=str(about.get("samples", "")))


def picture(comparison: Comparison, found: Courses) -> Picture:
    """One line per run with a mark at its largest margin, and the edge."""
    figure, ax = one_axes()
    bottom, cut = _bottom(found), False
    for name, of_seeds in found.items():
        look = style(name, comparison.names)
        for course in of_seeds.values():
            epochs = np.array([one.epoch for one in course])
            margins = _margins(course)
            drawn, below = np.maximum(margins, bottom), margins < bottom
            ax.plot(epochs, drawn, color=look.light, dashes=look.dashes, lw=1.0, alpha=0.7)
            if below.any():
                cut = True
                ax.plot(
                    epochs[below],
                    drawn[below],
                    ls="",
                    marker=CARETDOWN,
                    color=look.light,
                    alpha=0.7,
                    ms=7,
                    clip_on=False,
                )
            if np.isfinite(margins).any():
                top = int(np.nanargmax(margins))
                ax.plot(epochs[top], drawn[top], look.marker, color=look.light, ms=6, alpha=0.9)
    ax.axhline(1, color=INK, lw=0.9, ls=":")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set_ylim(bottom=bottom)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel="stability margin")
    add_legend(figure, comparison, lines=False)
    said = f"{sentence(comparison, found)} One line per run, with a mark at its largest; the dotted line is the edge."
    if cut:
        said += " An arrowhead at the bottom stands for a smaller margin."
    return Picture("stability", "Stability margin by epoch", said, figure)


def _bottom(found: Courses) -> float:
    """Where the axis begins: below all margins that are not 0, but not below `LEAST`."""
    every = [_margins(course) for of_seeds in found.values() for course in of_seeds.values()]
    margins = np.concatenate([[1.0], *every])
    return max(float(np.nanmin(margins[margins > 0])) / 1.15, LEAST)


def _margins(course: Sequence[Measured]) -> NDArray[np.float64]:
    return np.array([one.number("margin") for one in course], dtype=float)  # None becomes nan
