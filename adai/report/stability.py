"""The stability margin of a comparison's runs along training: a figure, a table as CSV, and a sentence."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from adai.lab.measure.stability.kept import KeptMargin
from adai.report.comparison import Comparison
from adai.report.panels import add_legend
from adai.report.picture import Picture, one_axes, short
from adai.report.rows import write_csv
from adai.report.style import INK, style
from adai.report.summary import joined

LEAST = 1e-3  # the smallest margin that is drawn: if the schedule ends at 0, so does the margin

Courses = dict[str, dict[int, list[KeptMargin]]]  # by optimizer and seed, in the order of the epochs


def courses(comparison: Comparison) -> Courses:
    """All measurements with the most frequent settings, by optimizer and seed; including runs that blew up."""
    runs = [(e.name, run) for e in comparison.entrants for run in e.runs]
    settings = [kept.settings for _, run in runs for kept in run.stability]
    found: Courses = {}
    for name, run in runs if settings else []:
        most = max(settings, key=settings.count)
        course = sorted((kept for kept in run.stability if kept.settings == most), key=lambda kept: kept.epoch)
        if course:
            found.setdefault(name, {})[run.seed] = course
    return found


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
        Point(name, seed, kept.epoch, *kept.numbers)
        for name, of_seeds in found.items()
        for seed, course in of_seeds.items()
        for kept in course
    ]
    about = _about(found)
    write_csv(path, points, batch_norm=str(about["batch_norm"]), samples=str(about["samples"]))


def _about(found: Courses) -> dict[str, object]:
    return next(course[0].about for of_seeds in found.values() for course in of_seeds.values())


def sentence(comparison: Comparison, found: Courses) -> str:
    """The largest measured margin of each optimizer's runs, and the number of runs beyond the edge."""
    labels = {entrant.name: entrant.label for entrant in comparison.entrants}
    said = []
    for name, of_seeds in found.items():
        largest = [max(margins) for course in of_seeds.values() if (margins := _margins(course))]
        if largest:
            beyond = sum(margin > 1 for margin in largest)
            runs = f"{len(largest)} run{'' if len(largest) == 1 else 's'}"
            said.append(f"{labels[name]} up to {short(max(largest))} ({beyond} of {runs} above 1)")
    about = _about(found)
    return (
        f"Stability margin after the epochs that were measured, 1 being the edge: {joined(said)}. "
        f"Batch norm: {about['batch_norm']}; {about['samples']} training samples."
    )


def _margins(course: list[KeptMargin]) -> list[float]:
    return [kept.numbers.margin for kept in course if kept.numbers.margin is not None]


def picture(comparison: Comparison, found: Courses) -> Picture:
    """One line per run with a mark at its largest margin, and the edge."""
    figure, ax = one_axes()
    lowest = 1.0
    for name, of_seeds in found.items():
        look = style(name, comparison.names)
        for course in of_seeds.values():
            epochs = [kept.epoch for kept in course]
            margins = np.array([kept.numbers.margin or math.nan for kept in course])  # a logarithm has no 0
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
