"""`adai report`: table, verdict, figures and page of a comparison that is on disk."""

import argparse
from pathlib import Path

from rich.console import Console

from adai.commands.flags import in_flags
from adai.lab.host.terminal import terminal
from adai.lab.results.summary import verdict
from adai.report import learning_rates
from adai.report.measures import views
from adai.report.page import report_of
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
    report = report_of(path, reference)
    if report.grid:
        console.print(for_terminal(learning_rates.cells(report.grid)))
    console.print(as_table(report.summary))
    console.print(in_flags(verdict(report.summary)))
    for view in views(report.comparison):
        for said in view.said(report.comparison, report.summary.reference):
            console.print(said)
    with console.status("drawing the report"):
        page = report.draw()
    rates = ", lr-grid.csv" if report.grid else ""
    console.print(
        f"Report: {page}, with {path}/figures and {path}/summary.csv, .md, .tex{rates}",
        soft_wrap=True,
    )
