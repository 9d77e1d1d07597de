"""`adai report`: table, verdict, figures and page of a comparison that is on disk."""

import argparse
from pathlib import Path

from rich.console import Console

from adai.commands.terminal import terminal
from adai.errors import UserError
from adai.report import equal_loss, flatness, learning_rates, stability
from adai.report.comparison import Comparison, read
from adai.report.page import write
from adai.report.summary import summarise, verdict
from adai.report.tables import as_table, for_terminal


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    show(terminal(), options.runs, options.reference)
    return 0


def show(console: Console, path: Path, reference: str | None = None) -> None:
    """Print the table and the verdict of a comparison, and write its report.

    Raises:
        UserError: there is no comparison, or its folder cannot be written.
    """
    comparison = read(path)
    grid = learning_rates.read_grid(comparison)
    if grid:
        console.print(for_terminal(learning_rates.cells(grid)))
        comparison = grid.at_best()
    summary = summarise(comparison, reference)
    console.print(as_table(summary))
    console.print(verdict(summary))
    if comparison.flatness.runs:
        say_flatness(console, comparison, summary.reference)
    if margins := stability.courses(comparison):
        console.print(stability.sentence(comparison, margins), highlight=False)
    with console.status("drawing the report"):
        try:
            page = write(comparison, summary, grid)
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}; make it writable") from error
    console.print(
        f"Report: {page}, with {path}/figures and {path}/summary.csv, .md, .tex{', lr-grid.csv' if grid else ''}",
        soft_wrap=True,
    )


def say_flatness(console: Console, comparison: Comparison, reference: str) -> None:
    """Print the flatness of a comparison, the verdicts at equal loss, and whether runs are missing."""
    measured = comparison.flatness
    missing = flatness.left_out(comparison, measured)
    found = equal_loss.courses(comparison)
    equal = equal_loss.at_equal_loss(found, comparison.loss_unit)
    console.print(flatness.as_table(equal or measured))
    for text in (
        *(equal_loss.verdicts(comparison, equal, reference) if found else [flatness.not_compared(measured)]),
        missing and f"Flatness: {missing}.",
    ):
        if text:
            console.print(text)
