"""The same runs along training, and where their losses are equal, drawn."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adai.lab.results.comparison import Comparison, median
from adai.lab.results.equal_loss import Courses, where
from adai.lab.results.flatness import MEASURES, Flatness
from adai.lab.results.words import short
from adai.report.axes import log_where_it_helps
from adai.report.panels import add_legend
from adai.report.picture import Picture, one_axes, with_unit
from adai.report.rows import write_csv
from adai.report.style import INK, style


class Point(NamedTuple):
    """A measurement as a row of a table."""

    optimizer: str
    seed: int
    epoch: int
    loss: float | None
    largest: float | None
    trace: float | None
    sam: float | None
    filter_worst: float | None


def write_courses(path: Path, found: Courses) -> None:
    """Write a row for each measurement as CSV, every number in full."""
    points = [
        Point(name, seed, one.epoch, *(one.number(key) for key in MEASURES))
        for name, of_seeds in found.items()
        for seed, course in of_seeds.items()
        for one in course
    ]
    write_csv(path, points)


def picture(comparison: Comparison, found: Courses, equal: Flatness | None) -> Picture:
    """The top eigenvalue against the loss along training: at equal loss the lower line is the flatter one."""
    figure, ax = one_axes()
    drawn: list[Sequence[np.ndarray]] = []
    for name, of_seeds in found.items():
        look = style(name, comparison.names)
        for course in of_seeds.values():
            x, y = (np.array([one.number(key) or math.nan for one in course]) for key in ("loss", "largest"))
            ax.plot(x, y, color=look.light, dashes=look.dashes, lw=1.0, alpha=0.7)
            ax.plot(x[-1:], y[-1:], look.marker, color=look.light, ms=6, alpha=0.9)
            drawn.append((x, y))
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=True):
        log_where_it_helps(ax, axis, values)
    said = "Training goes from right to left; the mark is the last epoch, a line a run."
    if equal and equal.at_loss:
        ax.axvline(equal.at_loss, color=INK, lw=0.9, ls=":")
        labels = {entrant.name: entrant.label for entrant in comparison.entrants}
        at = "; ".join(
            f"{labels[name]} {short(median(np.array([*equal.values(name, 'largest').values()])))}"
            for name in equal.runs
        )
        said += f" Medians at the dotted line, {where(equal)}: {at}."
    ax.set(xlabel=with_unit("loss on the samples", comparison.loss_unit), ylabel="top eigenvalue")
    add_legend(figure, comparison, lines=False, of=[name for name, of_seeds in found.items() if of_seeds])
    return Picture("flatness-along", "Top eigenvalue against the loss along training", said, figure)
