"""Displacement at a saddle, simulated, printed and exact, as a table, files and a figure."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from adai.files import write_whole
from adai.report.axes import plain
from adai.report.escape import LABELS
from adai.report.fitting import Fitting
from adai.report.style import Style, simulated
from adai.simulate.rules import Rule
from adai.simulate.saddle import Squares
from adai.theory import exact, saddle
from adai.theory.bounds import Array


class Theory(NamedTuple):
    """The expected values of one optimizer, one per eigenvalue: displacement after T, and the total drift."""

    printed: Array
    exact: Array
    drift_printed: Array
    drift_exact: Array


class Row(NamedTuple):
    """One optimizer at one eigenvalue.

    ``msd`` is the mean squared displacement after T iterations from settled averages, ``cold`` that of a new optimizer,
    and ``drift`` that caused by the settled momentum alone. Each has its standard error; the first and the last also
    have the printed and the exact value.
    """

    optimizer: str
    H: float
    msd: float
    msd_se: float
    msd_printed: float
    msd_exact: float
    cold: float
    cold_se: float
    drift: float
    drift_se: float
    drift_printed: float
    drift_exact: float


def theory(name: str, rule: Rule, H: Array, B: float, T: int) -> Theory:
    """Theorems 2.1 and 3.1, Propositions 1 and 3, and the exact recursions.

    For Adam and Adai "exact" uses the expectation of v̂ (Assumption 4); the real v̂ fluctuates. For Adai the printed
    displacement is Theorem 3.1 with the inertia of each eigenvalue.
    """
    return _THEORIES[name](rule, H, np.abs(H) / B, B, T)


def _sgd(rule: Rule, H: Array, C: Array, B: float, T: int) -> Theory:
    zero = np.zeros_like(H)
    return Theory(saddle.sgd_printed(rule.lr, B, H, T).value, exact.sgd(rule.lr, H, C, T), zero, zero)


def _ema(lr: float, beta1: float | Array, H: Array, C: Array, B: float, T: int) -> Theory:
    beta3 = 1 - np.asarray(beta1)
    return Theory(
        saddle.momentum_printed(lr, beta1, beta3, B, H, T).value,
        exact.momentum(lr, beta1, beta3, H, C, T),
        saddle.total_drift(lr, beta1, B, H),
        exact.total_drift(lr, beta1, C),
    )


def _adam(rule: Rule, H: Array, C: Array, B: float, T: int) -> Theory:
    one = np.ones_like(H)
    return Theory(
        saddle.adam_printed(rule.lr, rule.beta1, B, H, T).value,
        exact.adam(rule.lr, rule.beta1, B, H, T),
        saddle.total_drift(rule.lr, rule.beta1, 1, one),
        exact.total_drift(rule.lr, rule.beta1, one),
    )


def _adai(rule: Rule, H: Array, C: Array, B: float, T: int) -> Theory:
    by_inertia = _ema(rule.lr, exact.adai_inertia(rule.beta1, C, rule.eps), H, C, B, T)
    printed = np.full_like(H, saddle.adai_drift_printed(rule.lr, rule.beta1, B, H))
    return by_inertia._replace(drift_printed=printed)


_THEORIES: dict[str, Callable[[Rule, Array, Array, float, int], Theory]] = {
    "sgd": _sgd,
    "momentum": lambda rule, H, C, B, T: _ema(rule.lr / (1 - rule.beta1), rule.beta1, H, C, B, T),
    "ema": lambda rule, H, C, B, T: _ema(rule.lr, rule.beta1, H, C, B, T),
    "adam": _adam,
    "adai": _adai,
}


def rows(name: str, rule: Rule, H: Array, squares: Squares, *, B: float, T: int) -> list[Row]:
    """The table's rows of one optimizer."""
    expected = theory(name, rule, H, B, T)
    columns: list[Array] = [H]
    root = np.sqrt(len(squares.cold))
    for values, extra in (
        (squares.settled, [expected.printed, expected.exact]),
        (squares.cold, []),
        (squares.drift, [expected.drift_printed, expected.drift_exact]),
    ):
        columns += [values.mean(axis=0), values.std(axis=0, ddof=1) / root, *extra]
    return [Row(name, *(float(x) for x in numbers)) for numbers in zip(*columns, strict=True)]


def as_tables(table: Sequence[Row], T: int) -> list[Fitting]:
    """The tables for the terminal: displacements, and drifts of the optimizers that have one."""
    moved = [(r, r.msd, r.msd_se, r.msd_printed, r.msd_exact) for r in table]
    drifted = [(r, r.drift, r.drift_se, r.drift_printed, r.drift_exact) for r in table if r.drift_exact]
    return [
        _table(f"mean squared displacement after {T} iterations, averages settled before", moved),
        _table("drift: mean squared displacement by the settled momentum alone", drifted),
    ]


def _table(title: str, lines: Sequence[tuple[Row, float, float, float, float]]) -> Fitting:
    view = Table(title=title, title_justify="left")
    view.add_column("optimizer", no_wrap=True)
    for column in ("H", "simulated", "printed", "exact", "simulated / exact"):
        view.add_column(column, justify="right", no_wrap=True)
    for row, value, error, printed, true in lines:
        ratio = f"{value / true:.2f} ± {error / true:.2f}"
        view.add_row(LABELS[row.optimizer], f"{row.H:g}", f"{value:.3g}", f"{printed:.3g}", f"{true:.3g}", ratio)
    return Fitting(view)


def draw(path: Path, table: Sequence[Row], T: int) -> None:
    """Draw displacement along escaping directions (H < 0), and drift, against |H|: dots simulated, lines theory."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(row.optimizer for row in table):
        mine = sorted((row for row in table if row.optimizer == name and row.H < 0), key=lambda row: -row.H)
        look = simulated(name)
        _draw(left, mine, ("msd", "msd_se", "msd_printed", "msd_exact"), look)
        if name != "sgd":  # it has no drift
            _draw(right, mine, ("drift", "drift_se", "drift_printed", "drift_exact"), look)
    left.set(title=f"displacement after {T} iterations, H < 0", ylabel=r"$\langle\Delta\theta^2\rangle$")
    right.set(title="drift of the settled momentum alone")
    for ax in (left, right):
        ax.set(xlabel="|H|", xscale="log", yscale="log")
        plain(ax)
    left.plot([], [], "k-", label="exact")
    left.plot([], [], "k--", label="printed")
    left.legend(frameon=False, fontsize=9)
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def _draw(ax: Axes, table: Sequence[Row], fields: tuple[str, str, str, str], look: Style) -> None:
    color = look.light
    x = [-row.H for row in table]
    measured, error, printed, true = ([getattr(row, field) for row in table] for field in fields)
    ax.errorbar(x, measured, yerr=error, fmt=look.marker, markersize=5, color=color, label=LABELS[table[0].optimizer])
    ax.plot(x, true, "-", color=color, linewidth=1)
    ax.plot(x, printed, "--", color=color, linewidth=1)
