"""Runs compared where their losses are equal: curvature shrinks with the loss, and the last epoch leaves them apart."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adai.lab.measure.curvature.kept import Kept, most
from adai.lab.results.stats import MIN_SEEDS
from adai.report import flatness
from adai.report.axes import log_where_it_helps
from adai.report.comparison import Comparison, Flatness, Numbers, median
from adai.report.panels import add_legend
from adai.report.picture import Picture, one_axes, short, with_unit
from adai.report.rows import write_csv
from adai.report.style import INK, style

Course = list[Kept]
Courses = dict[str, dict[int, Course]]  # by optimizer and seed


def courses(comparison: Comparison) -> Courses:
    """What finished runs were measured to be along training, by epoch; runs that have that, measured as most were."""
    finished = comparison.finished
    settings = most([kept for kept in run.flatness if kept.epoch < len(run.rows)] for _, run in finished)
    found: Courses = {}
    for name, run in finished:
        course = sorted((kept for kept in run.flatness if kept.settings == settings), key=lambda kept: kept.epoch)
        if len(course) > 1:
            found.setdefault(name, {})[run.seed] = course
    return found


def at_equal_loss(found: Courses, unit: str = "nats") -> Flatness | None:
    """All runs at one loss: the highest of their lowest, which every run that was measured early enough came through.

    Between two measurements the numbers follow a straight line of logarithms. None where fewer than two optimizers
    came through. ``unit`` is the loss's.
    """
    lowest = [min(losses) for of_seeds in found.values() for course in of_seeds.values() if (losses := _losses(course))]
    if not lowest:
        return None
    loss = max(lowest)
    through = {
        name: {seed: numbers for seed, course in of_seeds.items() if (numbers := _at(course, loss))}
        for name, of_seeds in found.items()
    }
    runs = {name: of_seeds for name, of_seeds in through.items() if of_seeds}
    about = next(course[0].about for of_seeds in found.values() for course in of_seeds.values())
    return Flatness(about, runs, loss, unit) if len(runs) > 1 else None


def _losses(course: Course) -> list[float]:
    """Those that have a logarithm."""
    return [loss for kept in course if (loss := kept.numbers["loss"]) is not None and loss > 0]


def _at(course: Course, loss: float) -> Numbers:
    """The numbers where the run last comes down to that loss; nothing where it was below all along."""
    known = [kept.numbers for kept in course if _losses([kept])]
    losses = _losses(course)
    for before in reversed(range(len(known) - 1)):
        high, low = losses[before], losses[before + 1]
        if high >= loss >= low:
            share = math.log(high / loss) / math.log(high / low) if high > low else 1.0
            a, b = known[before], known[before + 1]
            return {**{key: _between(a[key], b[key], share) for key in a}, "loss": loss}
    return {}


def _between(a: float | None, b: float | None, share: float) -> float | None:
    """Along a straight line of logarithms; of the numbers themselves where one of them is not above 0."""
    if a is None or b is None:
        return None
    if a > 0 and b > 0:
        return math.exp((1 - share) * math.log(a) + share * math.log(b))
    return (1 - share) * a + share * b


def verdicts(comparison: Comparison, equal: Flatness | None, reference: str) -> list[str]:
    """What the top eigenvalue and the filter-normalised sharpness say at equal loss, a sentence each."""
    if equal is None or equal.at_loss is None:
        return ["No verdict at equal loss: no two optimizers came through one loss between two measurements."]
    said = flatness.verdicts(comparison, equal, reference)
    few = (
        f"No verdict at equal loss, {_of(equal)}: fewer than {MIN_SEEDS} seeds of an optimizer and the "
        "reference came through it between two measurements."
    )
    missing = flatness.left_out(comparison, equal)
    return [
        *(said or [few]),
        *([f"At equal loss: {missing}."] if missing else []),
    ]


def _of(equal: Flatness) -> str:
    """The loss at which runs are compared, with its unit."""
    return f"{short(equal.at_loss or 0)} {equal.unit}".rstrip()


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
        Point(name, seed, kept.epoch, *(kept.numbers[key] for key in flatness.MEASURES))
        for name, of_seeds in found.items()
        for seed, course in of_seeds.items()
        for kept in course
    ]
    write_csv(path, points)


def picture(comparison: Comparison, found: Courses, equal: Flatness | None) -> Picture:
    """The top eigenvalue against the loss along training: at equal loss the lower line is the flatter one."""
    figure, ax = one_axes()
    drawn: list[Sequence[np.ndarray]] = []
    for name, of_seeds in found.items():
        look = style(name, comparison.names)
        for course in of_seeds.values():
            x, y = (np.array([kept.numbers[key] or math.nan for kept in course]) for key in ("loss", "largest"))
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
        said += f" Medians at the dotted line, {_of(equal)}: {at}."
    ax.set(xlabel=with_unit("loss on the samples", comparison.loss_unit), ylabel="top eigenvalue")
    add_legend(figure, comparison, lines=False)
    return Picture("flatness-along", "Top eigenvalue against the loss along training", said, figure)
