"""`adai report`: table, verdict, figures and page of a comparison that is on disk."""

import argparse
from pathlib import Path

from rich.console import Console

from adai.errors import UserError
from adai.lab.host.terminal import terminal
from adai.lab.results.comparison import read
from adai.lab.results.learning_rates import read_grid
from adai.lab.results.summary import summarise, verdict
from adai.report import learning_rates
from adai.report.measures import views
from adai.report.page import write
from adai.report.tables import as_table, for_terminal


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    show(terminal(), options.runs, options.reference)
    return 0


def show(console: Console, path: Path, reference: str | None = None) -> None:
    """Print the table and the verdict of a comparison, and write its report.

    Raises:
        UserError: there is no comparison, or its folder cannot be written.
    """
    comparison = read(path)
    grid = read_grid(comparison)
    if grid:
        console.print(for_terminal(learning_rates.cells(grid)))
        comparison = grid.at_best()
    summary = summarise(comparison, reference)
    console.print(as_table(summary))
    console.print(verdict(summary))
    for view in views(comparison):
        for said in view.said(comparison, summary.reference):
            console.print(said)
    with console.status("drawing the report"):
        try:
            page = write(comparison, summary, grid)
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}; make it writable") from error
    console.print(
        f"Report: {page}, with {path}/figures and {path}/summary.csv, .md, .tex{', lr-grid.csv' if grid else ''}",
        soft_wrap=True,
    )
