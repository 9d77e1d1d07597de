"""How flat the minima of a comparison are, drawn: a table by optimizer, its files, and figures."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import RenderableType

from adai.files import write_whole
from adai.lab.results import equal_loss as equal
from adai.lab.results.comparison import Comparison, median
from adai.lab.results.flatness import MEASURES, Flatness, after_last, label_of, left_out, not_compared, of_loss
from adai.lab.results.run import write_json
from adai.lab.results.stats import spread
from adai.lab.results.words import short
from adai.report import equal_loss
from adai.report.axes import log_where_it_helps
from adai.report.dots import dots
from adai.report.fitting import Fitting
from adai.report.panels import add_legend
from adai.report.picture import Missing, Picture, one_axes, with_unit
from adai.report.rows import csv_lines
from adai.report.section import Section
from adai.report.style import style
from adai.report.tables import Cells, for_terminal, significant, with_title

NOTE = (
    "Top eigenvalue, trace and SAM’s sharpness change when layers are rescaled without changing what the net computes; "
    "the filter-normalised sharpness does not. Compare at equal loss: curvature shrinks as the loss does."
)


def section(comparison: Comparison, reference: str) -> Section:
    """Write the files of flatness, and return its section of the page."""
    measured = after_last(comparison)
    if not measured.runs:
        command = f"adai curvature {shlex.quote(str(comparison.path))}"
        return Section("flatness", "Flatness", command=command)
    found = equal.courses(comparison)
    at_one = equal.at_equal_loss(found, comparison.loss_unit)
    missing = left_out(comparison, measured)
    return Section(
        "flatness",
        "Flatness",
        [text for text in [not_compared(measured)] if text and not at_one],
        cells(measured),
        [*measured.runs],
        f"{NOTE} {missing}." if missing else NOTE,
        write(comparison.path, measured),
        pictures(comparison, measured),
        [_along(comparison, found, at_one, reference)] if found else [],
    )


def _along(comparison: Comparison, found: equal.Courses, at_one: Flatness | None, reference: str) -> Section:
    """The part about runs along training, and at equal loss where they have come through one."""
    points = comparison.path / "flatness-epochs.csv"
    equal_loss.write_courses(points, found)
    return Section(
        "equal-loss",
        "At equal loss",
        equal.verdicts(comparison, at_one, reference),
        cells(at_one) if at_one else None,
        [*at_one.runs] if at_one else [],
        files=[*(write(comparison.path, at_one) if at_one else []), points],
        pictures=[equal_loss.picture(comparison, found, at_one)],
    )


def said(comparison: Comparison, reference: str) -> Sequence[RenderableType]:
    """The table for the terminal, what it comes to at equal loss, and whether runs are missing in it."""
    measured = after_last(comparison)
    if not measured.runs:
        return []
    missing = left_out(comparison, measured)
    found = equal.courses(comparison)
    at_one = equal.at_equal_loss(found, comparison.loss_unit)
    texts = [
        *(equal.verdicts(comparison, at_one, reference) if found else [not_compared(measured)]),
        f"Flatness: {missing}." if missing else "",
    ]
    return [as_table(at_one or measured), *filter(None, texts)]


def write(folder: Path, measured: Flatness) -> list[Path]:
    """Write ``flatness.csv``, ``.md``, ``.json``, or ``equal-loss.…``, into a comparison's folder; returns them."""
    table, readable, numbers = files = [folder / f"{_stem(measured)}.{kind}" for kind in ("csv", "md", "json")]
    _write_csv(table, measured)
    text = with_title(cells(measured))
    write_whole(readable, lambda part: part.write_text(text, encoding="utf-8"))
    rows = [
        {"optimizer": name, "seed": seed, **own} for name, of_it in measured.runs.items() for seed, own in of_it.items()
    ]
    write_json(numbers, {"about": measured.about, "at_loss": measured.at_loss, "runs": rows})
    return files


def _stem(measured: Flatness) -> str:
    return "flatness" if measured.at_loss is None else "equal-loss"


def _write_csv(path: Path, measured: Flatness) -> None:
    """Every number in full; the deviation of a single seed stays empty."""
    about = measured.about
    means = [f"{key}_{what}" for key in MEASURES for what in ("mean", "sd", "seeds")]
    lines: list[list[Any]] = [["optimizer", "seeds", *means, "batch_norm", "samples"]]
    for name, runs in measured.runs.items():
        columns = [[*measured.values(name, key).values()] for key in MEASURES]
        numbers = [x for column in columns for x in (*spread(column), len(column))]
        shown = ["" if math.isnan(x) else x for x in numbers]
        lines.append([name, len(runs), *shown, *map(about.get, ("batch_norm", "samples"))])
    write_whole(path, lambda part: csv_lines(part, lines))


def cells(measured: Flatness) -> Cells:
    """The table as people read it, a row an optimizer in the order they were asked for."""
    about = measured.about
    where = (
        "after the last epoch" if measured.at_loss is None else f"at a loss of {of_loss(measured.at_loss, measured)}"
    )
    title = (
        f"flatness {where}, mean ± standard deviation over seeds; less is flatter. "
        f"Batch norm: {about.get('batch_norm', 'not recorded')}; "
        f"{about.get('samples', 'an unknown number of')} training samples"
    )
    rows = [
        [
            label_of(name),
            str(len(runs)),
            *(_cell([*measured.values(name, key).values()], len(runs)) for key in MEASURES),
        ]
        for name, runs in measured.runs.items()
    ]
    return Cells(title, ["optimizer", "seeds", *MEASURES.values()], rows)


def _cell(values: list[float], seeds: int) -> str:
    """Mean and deviation, and of how many seeds where some have no finite number."""
    return significant(values) + (f" ({len(values)} of {seeds})" if len(values) < seeds else "")


def as_table(measured: Flatness) -> Fitting:
    """The table for the terminal: a column an optimizer."""
    table = cells(measured)
    narrow = [heading.replace("-", "-\n") for heading in table.headings]
    headings, *rows = map(list, zip(narrow, *table.rows, strict=True))
    names = ["", *headings[1:]]
    return for_terminal(Cells(table.title, names, rows))


def pictures(comparison: Comparison, measured: Flatness) -> list[Picture | Missing]:
    """The top eigenvalue against the loss, and the other measures as a mark a run on a line for each optimizer."""
    others = [
        dots(
            f"flatness-{key.replace('_', '-')}",
            name,
            measured.unit if key in ("sam", "filter_worst") else "",
            [(entrant, [*measured.values(entrant.name, key).values()]) for entrant in comparison.entrants],
            factors=True,
        )
        for key, name in MEASURES.items()
        if key not in ("loss", "largest")
    ]
    return [_against_loss(comparison, measured), *others]


def _against_loss(comparison: Comparison, measured: Flatness) -> Picture:
    """Marks on one rising line say that the loss alone makes the difference."""
    figure, ax = one_axes()
    said, drawn, names = [], [], []
    for entrant in comparison.entrants:
        look = style(entrant.name, comparison.names)
        loss, largest = (measured.values(entrant.name, key) for key in ("loss", "largest"))
        x, y = (np.array([column[seed] for seed in loss.keys() & largest.keys()]) for column in (loss, largest))
        if x.size:
            ax.scatter(x, y, s=36, marker=look.marker, color=look.light, alpha=0.8, linewidths=0, clip_on=False)
            drawn.append((x, y))
            names.append(entrant.name)
            said.append(f"{entrant.label} {short(median(y))} at {short(median(x))} {measured.unit}".rstrip())
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=False):
        log_where_it_helps(ax, axis, values)
    ax.set(xlabel=with_unit("loss on the samples", measured.unit), ylabel=MEASURES["largest"])
    add_legend(figure, comparison, lines=False, of=names)
    description = (
        f"Medians: {'; '.join(said)}. A mark a run; along one rising line the loss alone makes the difference."
    )
    return Picture("flatness-largest", "Top eigenvalue against the loss", description, figure)
