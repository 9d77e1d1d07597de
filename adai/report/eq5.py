"""Eq. 5 as a table, files and Figure 7: gradient noise covariance against the Hessian, in the Hessian's eigenbasis."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adai.files import write_whole
from adai.lab.measure.noise.covariance import HIGH, LOW, Directions, batch_factor, eq5
from adai.report.axes import plain
from adai.report.fitting import Fitting
from adai.report.rows import write_csv, write_json
from adai.report.tables import Cells, for_terminal
from adai.report.text import drawn
from adai.theory.estimate import Interval

BATCHES = (1, 10, 100)
EDGES = (LOW, 1e-3, 1e-2, 1e-1, HIGH, math.inf)  # the paper's range by decades, and everything above it


class Row(NamedTuple):
    """Eq. 5 at one set of parameters and batch size, over directions with H in the paper's range.

    ``slope``, ``correlation`` and ``factor`` are `adai.lab.measure.noise.covariance.Eq5`'s, with their 95 % intervals;
    nan with fewer than 3 directions. ``off_diagonal`` and ``cosine`` are of all directions, whatever their H.
    """

    parameters: str
    B: int
    directions: int
    slope: float
    slope_low: float
    slope_high: float
    correlation: float
    correlation_low: float
    correlation_high: float
    factor: float
    factor_low: float
    factor_high: float
    off_diagonal: float
    cosine: float


class Point(NamedTuple):
    """One direction: its kind, its H and its C₁."""

    parameters: str
    kind: str
    H: float
    C1: float


class Decade(NamedTuple):
    """C/H at B = 1, geometric mean over the directions with ``low`` ≤ H < ``high``; None if there are none."""

    parameters: str
    low: float
    high: float
    directions: int
    factor: float | None


def decades(results: Mapping[str, Directions]) -> list[Decade]:
    """C/H by decade of H, which shows where eq. 5 holds; a single slope does not show this."""
    table = []
    for name, directions in results.items():
        H, C = directions.H, directions.C
        for low, high in pairwise(EDGES):
            here = (low <= H) & (high > H) & (C > 0)
            factor = float(np.exp(np.mean(np.log(C[here] / H[here])))) if here.any() else None
            table.append(Decade(name, low, high, int(here.sum()), factor))
    return table


def rows(results: Mapping[str, Directions], batches: Sequence[int] = BATCHES) -> list[Row]:
    """The table; batch sizes that are not below the number of samples are left out."""
    table = []
    for name, directions in results.items():
        for B in filter(directions.samples.__gt__, batches):
            fit = eq5(directions, B)
            nothing = Interval(math.nan, math.nan, math.nan)
            slope, correlation, factor = (fit.slope, fit.correlation, fit.factor) if fit else (nothing,) * 3
            count = fit.directions if fit else 0
            off = directions.off_diagonal, directions.correlation
            table.append(Row(name, B, count, *slope, *correlation, *factor, *off))
    return table


def as_table(table: Sequence[Row]) -> Fitting:
    """The table for the terminal."""
    lines = []
    for row in table:
        cells = [
            _interval(*numbers)
            for numbers in (
                (row.slope, row.slope_low, row.slope_high),
                (row.correlation, row.correlation_low, row.correlation_high),
                (row.factor, row.factor_low, row.factor_high),
            )
        ]
        name = "\n".join(wrap(row.parameters, 13))
        lines.append([name, str(row.B), str(row.directions), *cells, f"{row.off_diagonal:.2f}"])
    headings = ["parameters", "B", "directions", "slope", "corr.", "B C / H", "off the diagonal"]
    return for_terminal(Cells(f"C against H/B where {LOW:g} ≤ H ≤ {HIGH:g}, 95 % intervals", headings, lines))


def _interval(value: float, low: float, high: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g} ({low:.3g} to {high:.3g})"


def write(
    folder: Path, results: Mapping[str, Directions], about: Mapping[str, Any], batches: Sequence[int] = BATCHES
) -> list[Row]:
    """Write eq5.csv, eq5.json, decades.csv, directions.csv and figure7.png into the folder; returns the table."""
    table = rows(results, batches)
    points = [
        Point(name, *point)
        for name, directions in results.items()
        for point in zip(directions.kind, directions.H.tolist(), directions.C.tolist(), strict=True)
    ]
    write_csv(folder / "directions.csv", points)
    write_csv(folder / "decades.csv", decades(results))
    write_csv(folder / "eq5.csv", table)
    write_json(folder / "eq5.json", table, {"about": about})
    draw(folder / "figure7.png", results, batches)
    return table


def draw(path: Path, results: Mapping[str, Directions], batches: Sequence[int] = BATCHES) -> None:
    """Draw Figure 7, with a row for each set of parameters and a column for each batch size; the line is C = H/B."""
    most = max(directions.samples for directions in results.values())
    batches = [B for B in batches if most > B]
    figure = Figure(figsize=(3.6 * len(batches) + 0.6, 3.3 * len(results) + 0.4), layout="constrained")
    grid = figure.subplots(len(results), len(batches), sharex=True, sharey="row", squeeze=False)
    for line, (name, directions) in zip(grid, results.items(), strict=True):
        for ax, B in zip(line, batches, strict=True):
            _panel(ax, directions, B)
        line[0].set_ylabel(drawn(name).replace(" (", "\n(") + "\n" + r"$C_{ii}$")
    for ax, B in zip(grid[0], batches, strict=True):
        ax.set_title(f"B = {B}")
    for ax in grid[-1]:
        ax.set_xlabel(r"$H_{ii}$")
    grid[0][0].legend(frameon=False, loc="lower right", fontsize=8)
    figure.suptitle("Gradient noise covariance against Hessian, along the Hessian's eigenvectors", fontsize=11)
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def _panel(ax: Axes, directions: Directions, B: int) -> None:
    ax.set(xscale="log", yscale="log", xlim=(LOW, HIGH))
    plain(ax)
    if directions.samples <= B:
        ax.text(0.5, 0.5, f"{directions.samples} samples", transform=ax.transAxes, ha="center", fontsize=8)
        return
    C = directions.C * batch_factor(B, directions.samples)
    shown = directions.within(LOW, HIGH) & (C > 0)
    kinds = np.array(directions.kind)
    for kind, color in (("eigenvector", "C0"), ("random", "C1")):
        these = shown & (kinds == kind)
        if these.any():
            ax.plot(directions.H[these], C[these], ".", markersize=3, alpha=0.5, color=color, label=kind)
    ends = np.array([LOW, HIGH])
    ax.plot(ends, ends / B, "k--", linewidth=1, label="C = H/B")
    fit = eq5(directions, B, resamples=1)
    if fit:
        text = f"slope {fit.slope.value:.2f}\ncorrelation {fit.correlation.value:.2f}"
        ax.text(0.04, 0.96, text, transform=ax.transAxes, va="top", fontsize=8)
