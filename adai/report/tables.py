"""The table of a comparison, for the terminal and as CSV, Markdown and LaTeX."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import NamedTuple

from rich.console import Group
from rich.table import Table

from adai.files import write_whole
from adai.lab.results.outcome import DIED
from adai.lab.results.stats import spread
from adai.lab.results.summary import Row, Summary, bounded, tells, verdict
from adai.report import text
from adai.report.fitting import Fitting

NONE = "–"
DIFFERENCE = "difference to"
SHORT = ("optimizer", "seeds", "last epoch")  # the columns of the plain table, and the difference


class Cells(NamedTuple):
    """A table as text: a title, headings, and rows whose first cell names the row."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def cells(summary: Summary) -> Cells:
    """The table for readers; columns that would be empty are left out."""
    measure, rows = summary.measure, summary.rows
    columns: dict[str, Callable[[Row], str]] = {
        "optimizer": lambda row: row.label,
        "seeds": lambda row: row.runs,
        "last epoch": lambda row: plus_minus(list(row.last.values()), measure.digits),
        "best epoch": lambda row: plus_minus(list(row.best.values()), measure.digits),
    }
    if any(row.difference for row in rows):
        label = next(row.label for row in rows if row.optimizer == summary.reference)
        columns[f"{DIFFERENCE} {label}"] = lambda row: _difference(row, summary)
    columns["train loss"] = lambda row: _number(spread(row.train_losses).mean, 4)
    costs = {
        "ms / step": _cost(lambda row: row.ms_per_step, 2),
        "state MB": _cost(lambda row: row.state_bytes / 1e6, 2),
        "peak MB": _cost(lambda row: row.peak_bytes / 1e6, 0),
    }
    columns |= {heading: cell for heading, cell in costs.items() if any(cell(row) != NONE for row in rows)}
    if any(row.gradients > 1 for row in rows):
        columns["gradients / step"] = lambda row: f"{row.gradients:.3g}" if math.isfinite(row.gradients) else NONE
    unit = " in percent" if measure.unit == "%" else ""
    title = f"{measure.name}{unit}, mean ± standard deviation over seeds"
    return Cells(title, list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def plain(summary: Summary) -> str:
    """The table as plain text: of each optimizer its runs, its last epoch and its difference to the reference."""
    table = cells(summary)
    kept = [n for n, name in enumerate(table.headings) if name.startswith((*SHORT, DIFFERENCE))]
    lines = [[line[n] for n in kept] for line in (table.headings, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([table.title, *rows])


def plus_minus(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation; for a single value, that value."""
    mean, sd = spread(values)
    return _number(mean, digits) + (f" ± {sd:.{digits}f}" if math.isfinite(sd) else "")


def significant(values: Sequence[float]) -> str:
    """Mean to three digits and standard deviation to two, whatever their size; for a single value, that value."""
    mean, sd = spread(values)
    return NONE if math.isnan(mean) else _digits(mean, 3) + (f" ± {_digits(sd, 2)}" if math.isfinite(sd) else "")


def _digits(value: float, digits: int) -> str:
    """The value with this number of digits, and without an exponent below a million."""
    large = 10**digits <= abs(value) < 1e6
    return f"{value:.0f}" if large else f"{value:.{digits}g}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def _cost(value: Callable[[Row], float], digits: int) -> Callable[[Row], str]:
    return lambda row: _number(value(row), digits)


def _difference(row: Row, summary: Summary) -> str:
    if row.optimizer == summary.reference:
        return "reference"
    if row.difference is None:
        return NONE
    numbers = row.difference.mean, *bounded(row.difference, summary.measure)
    mean, low, high = (f"{x:+.{summary.measure.digits}f}".replace("-", "−") for x in numbers)
    if math.isinf(row.difference.low) or not tells(row.difference, summary.measure):
        return f"{mean} (no interval)"
    return f"{mean} ({low} to {high})"


def as_table(summary: Summary) -> Fitting:
    """The table for the terminal, in 80 columns: without memory, and without the differences that the verdict names."""
    table = cells(summary)
    left_out = (DIFFERENCE, "state MB", "peak MB")
    kept = [n for n, heading in enumerate(table.headings) if not heading.startswith(left_out)]
    headings, *rows = ([line[n] for n in kept] for line in (table.headings, *table.rows))
    headings = ["train\nloss" if heading == "train loss" else heading for heading in headings]
    return for_terminal(Cells(table.title, headings, rows))


def for_terminal(table: Cells) -> Fitting:
    """Any table for the terminal. If it is too wide, cells use several lines; no number is cut off."""
    view = Table(title=table.title, title_justify="left")
    for n, heading in enumerate(table.headings):
        words = [word for cell in (heading, *(row[n] for row in table.rows)) for word in cell.split()]
        longest = max(map(len, words), default=0)
        view.add_column(heading, justify="right" if n else "left", min_width=longest or None)
    for row in table.rows:
        view.add_row(*row)
    return Fitting(view)


def side_by_side(title: str, names: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]], each: int) -> Group:
    """A table for the terminal with a column for each name, in blocks below each other.

    Args:
        title: the title above the first block.
        names: of the columns.
        lines: for each line its heading, and a cell for each name.
        each: the number of columns in a block.
    """
    blocks = []
    for start in range(0, len(names), each):
        part = slice(start, start + each)
        view = Table(title=None if start else title, title_justify="left")
        view.add_column("", no_wrap=True)
        for name in names[part]:
            view.add_column("\n".join(wrap(name, 16)), justify="right")
        for heading, cells in lines:
            view.add_row(heading, *cells[part])
        blocks.append(Fitting(view))
    return Group(*blocks)


def markdown(summary: Summary) -> str:
    """The table for a README, with the verdict."""
    return f"{with_title(cells(summary))}\n{text.markdown(verdict(summary))}\n"


def with_title(table: Cells) -> str:
    """Any table for a README, with its title below."""
    return f"{as_markdown(table.headings, table.rows)}\n{table.title[0].upper()}{table.title[1:]}.\n"


def as_markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Rows of text as a Markdown table; the first ``left`` columns are left-aligned, the others right-aligned."""
    rule = ["---"] * left + ["---:"] * (len(headings) - left)
    lines = [headings, rule, *rows]
    return "".join("| " + " | ".join(map(text.markdown, line)) + " |\n" for line in lines)


def latex(summary: Summary) -> str:
    """The table for a paper, with the verdict below; its rules need the package booktabs."""
    table = cells(summary)
    top, *body = (" & ".join(map(text.latex, line)) + r" \\" for line in (table.headings, *table.rows))
    lines = [
        f"% {text.latex(table.title)}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.headings) - 1)}}}",
        r"\toprule",
        top,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        rf"{{\small {text.latex(verdict(summary))}\par}}",
    ]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, summary: Summary) -> None:
    """Write the table as CSV, every number in full; missing values are empty."""
    header = ["optimizer", "seeds", "planned", "best_{0}_mean", "best_{0}_sd", "last_{0}_mean", "last_{0}_sd",
              "train_loss_mean", "train_loss_sd", "ms_per_step_median", "state_bytes", "peak_bytes",
              "did_not_learn", "diverged", "chosen", "reference",
              "difference_mean", "difference_low", "difference_high", "difference_seeds",
              "gradients_per_step"]  # fmt: skip
    measure = summary.measure.column.removeprefix("test_")

    def known(number: float) -> float | str:
        return "" if math.isnan(number) else number

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow([name.format(measure) for name in header])
            for row in summary.rows:
                spreads = [spread(list(x)) for x in (row.best.values(), row.last.values(), row.train_losses)]
                cost = (row.ms_per_step, row.state_bytes, row.peak_bytes)
                numbers = [*(x for s in spreads for x in s), *cost]
                died = [row.others.get(status, 0) for status in DIED]
                counts = [row.optimizer, row.finished, row.planned]
                gap = [summary.reference, *map(known, row.difference)] if row.difference else [""] * 5
                writer.writerow([*counts, *map(known, numbers), *died, summary.chosen, *gap, known(row.gradients)])

    write_whole(path, write)
