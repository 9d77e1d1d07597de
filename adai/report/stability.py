"""The stability margin of a comparison's runs along training: a figure, and a table as CSV."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from rich.console import RenderableType

from adai.lab.results.comparison import Comparison
from adai.lab.results.stability import Courses, about_of, courses, sentence
from adai.report.panels import add_legend
from adai.report.picture import Picture, one_axes
from adai.report.rows import write_csv
from adai.report.section import Section
from adai.report.style import INK, style

LEAST = 1e-3  # the smallest margin that is drawn: if the schedule ends at 0, so does the margin


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
    lowest = 1.0
    for name, of_seeds in found.items():
        look = style(name, comparison.names)
        for course in of_seeds.values():
            epochs = [one.epoch for one in course]
            margins = np.array([one.number("margin") or math.nan for one in course])  # a logarithm has no 0
            ax.plot(epochs, margins, color=look.light, dashes=look.dashes, lw=1.0, alpha=0.7)
            if np.isfinite(margins).any():
                top = int(np.nanargmax(margins))
                ax.plot(epochs[top], margins[top], look.marker, color=look.light, ms=6, alpha=0.9)
                lowest = min(lowest, float(np.nanmin(margins)))
    ax.axhline(1, color=INK, lw=0.9, ls=":")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set_ylim(bottom=max(lowest / 1.15, LEAST))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel="stability margin")
    add_legend(figure, comparison, lines=False)
    said = f"{sentence(comparison, found)} One line per run, with a mark at its largest; the dotted line is the edge."
    return Picture("stability", "Stability margin by epoch", said, figure)
