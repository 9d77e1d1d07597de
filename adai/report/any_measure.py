"""A measure that has no view of its own: a table of its values after the last epoch, and a figure a column."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from rich.console import RenderableType

from adai.files import write_whole
from adai.lab.results.comparison import Comparison, Entrant
from adai.lab.results.measured import Measured, most
from adai.lab.results.stats import spread
from adai.lab.results.words import short
from adai.report.axes import log_where_it_helps
from adai.report.panels import add_legend
from adai.report.picture import Picture, one_axes
from adai.report.rows import csv_lines
from adai.report.section import Section
from adai.report.style import style
from adai.report.tables import Cells, for_terminal, significant

Courses = list[tuple[Entrant, dict[int, list[Measured]]]]  # of each optimizer, by seed, in the order of the epochs


def view(
    name: str,
) -> tuple[Callable[[Comparison, str], Section | None], Callable[[Comparison, str], Sequence[RenderableType]]]:
    """The section of a measure of that name, and what the terminal shows of it."""

    def section(comparison: Comparison, reference: str) -> Section:
        found, columns = courses(comparison, name), comparison.columns_of(name)
        file = comparison.path / f"{name}-epochs.csv"
        write_courses(file, found, columns)
        return Section(
            f"measure-{name}",
            f"{name[0].upper()}{name[1:]}",
            table=cells(found, name, columns),
            optimizers=[entrant.name for entrant, of_seeds in found if of_seeds],
            files=[file],
            pictures=[picture(comparison, found, name, key, heading) for key, heading in columns.items()],
        )

    def said(comparison: Comparison, reference: str) -> list[RenderableType]:
        return [for_terminal(cells(courses(comparison, name), name, comparison.columns_of(name)))]

    return section, said


def courses(comparison: Comparison, name: str) -> Courses:
    """Every measurement of every run that was measured as most were."""
    settings = most([run.measured(name) for entrant in comparison.entrants for run in entrant.runs])
    found: Courses = []
    for entrant in comparison.entrants:
        of_seeds = {
            run.seed: sorted((one for one in run.measured(name) if one.settings == settings), key=lambda one: one.epoch)
            for run in entrant.runs
        }
        found.append((entrant, {seed: course for seed, course in of_seeds.items() if course}))
    return found


def cells(found: Courses, name: str, columns: dict[str, str]) -> Cells:
    """The last values of each run: mean ± standard deviation over seeds."""

    def cell(of_seeds: dict[int, list[Measured]], key: str) -> str:
        values = [value for course in of_seeds.values() if (value := course[-1].number(key)) is not None]
        return significant(values)

    rows = [
        [entrant.label, str(len(of_seeds)), *(cell(of_seeds, key) for key in columns)]
        for entrant, of_seeds in found
        if of_seeds
    ]
    title = f"{name} where it was measured last, mean ± standard deviation over seeds"
    return Cells(title, ["optimizer", "seeds", *columns.values()], rows)


def write_courses(path: Path, found: Courses, columns: dict[str, str]) -> None:
    """Write a row for each measurement as CSV, every number in full; what is not finite stays empty."""
    lines: list[list[Any]] = [["optimizer", "seed", "epoch", *columns]]
    lines += [
        [entrant.name, seed, one.epoch, *map(one.number, columns)]
        for entrant, of_seeds in found
        for seed, course in of_seeds.items()
        for one in course
    ]
    write_whole(path, lambda part: csv_lines(part, lines))


def picture(comparison: Comparison, found: Courses, name: str, key: str, heading: str) -> Picture:
    """A column by epoch, a line a run, with a mark at its last."""
    figure, ax = one_axes()
    said, drawn = [], []
    for entrant, of_seeds in found:
        look = style(entrant.name, comparison.names)
        lasts = []
        for course in of_seeds.values():
            epochs = [one.epoch for one in course]
            values = np.array([np.nan if (value := one.number(key)) is None else value for one in course])
            ax.plot(epochs, values, color=look.light, dashes=look.dashes, lw=1.0, alpha=0.7)
            ax.plot(epochs[-1:], values[-1:], look.marker, color=look.light, ms=6, alpha=0.9)
            drawn.append(values)
            lasts += [float(values[-1])] if np.isfinite(values[-1]) else []
        if lasts:
            said.append(f"{entrant.label} {short(spread(lasts).mean)}")
    log_where_it_helps(ax, "y", drawn)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel=heading)
    add_legend(figure, comparison, lines=False, of=[entrant.name for entrant, of_seeds in found if of_seeds])
    text = f"Means of the last values: {'; '.join(said)}. A line a run."
    return Picture(f"{name}-{key}", f"{heading[0].upper()}{heading[1:]} by epoch", text, figure)
