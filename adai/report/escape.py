"""The table, files and figure of a study of escape times."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from adai.files import write_whole
from adai.report.axes import plain
from adai.report.fitting import Fitting
from adai.report.style import Style, simulated
from adai.simulate.settings import SETTINGS
from adai.simulate.study import Store, Study
from adai.theory.estimate import (
    Fits,
    Interval,
    bootstrap_fits,
    bootstrap_mean,
    bootstrap_ratio,
    coefficient_of_variation,
)

LABELS = {
    "adai": "Adai", "momentum": "Momentum", "ema": "EMA momentum", "adam": "Adam", "sgd": "SGD", "adaiw": "AdaiW",
}  # fmt: skip


class Row(NamedTuple):
    """One optimizer at one sharpness; times in iterations.

    Args:
        setting: name of the setting.
        optimizer: name of the optimizer.
        k: sharpness.
        replicas: the number of replicas.
        censored: the number of replicas that had not escaped at the cap. The mean is S / n, the total time observed
            over the number of escapes.
        mean: mean escape time.
        ci_low: lower end of its 95 % bootstrap interval.
        ci_high: upper end.
        cv: coefficient of variation, 1 for exponential times; None if replicas are censored.
        theory: mean escape time by the theory; None if no theory applies.
    """

    setting: str
    optimizer: str
    k: float
    replicas: int
    censored: int
    mean: float
    ci_low: float
    ci_high: float
    cv: float | None
    theory: float | None


def rows(study: Study, store: Store) -> list[Row]:
    """The table, optimizer by optimizer."""
    return [_row(study.setting, name, k, store) for name in study.rules for k in sorted(study.ks)]


def _row(setting: str, name: str, k: float, store: Store) -> Row:
    times = store[name, k]
    mean = bootstrap_mean(times.exits, ~times.escaped)
    censored = int(np.sum(~times.escaped))
    cv = coefficient_of_variation(times.exits) if not censored and times.exits.size > 1 else None
    theory = SETTINGS[setting].theory.get(name)
    expected = float(theory(k).iterations) if theory else None
    return Row(setting, name, k, times.exits.size, censored, *mean, cv, expected)


def fits(study: Study, store: Store) -> dict[str, Fits]:
    """R² of log τ against 1/k and 1/sqrt(k) of each optimizer; empty if there are too few sharpnesses."""
    ks = np.array(sorted(study.ks))
    result = {}
    for name in study.rules:
        times = [store[name, float(k)] for k in ks]
        if ks.size >= 3 and all(t.escaped.any() for t in times):
            result[name] = bootstrap_fits([t.exits for t in times], 1 / ks, ks**-0.5, [~t.escaped for t in times])
    return result


def ratios(study: Study, store: Store, over: str, under: str) -> dict[float, Interval]:
    """Mean escape time of one optimizer over another's, at each sharpness at which both have escapes."""
    result = {}
    for k in sorted(study.ks):
        if (over, k) in store and (under, k) in store:
            a, b = store[over, k], store[under, k]
            if a.escaped.any() and b.escaped.any():
                result[k] = bootstrap_ratio(a.exits, b.exits, ~a.escaped, ~b.escaped)
    return result


def slopes(study: Study, store: Store) -> dict[str, tuple[float, float]]:
    """For each optimizer with a theory: slope of log(τ / prefactor) over the theory's, and mean of τ over the theory's.

    The slope is against the theory's exponent, so it is 1 if the exponent is right.
    """
    result = {}
    for name, theory in SETTINGS[study.setting].theory.items():
        if name not in study.rules or len(study.ks) < 3:
            continue
        measured = np.array([_row(study.setting, name, k, store).mean for k in study.ks])
        expected = [theory(k) for k in study.ks]
        exponents = np.array([e.exponent for e in expected])
        logs = np.log(measured) - (np.array([e.log_iterations for e in expected]) - exponents)
        slope = float(np.polyfit(exponents, logs, 1)[0])
        result[name] = slope, float(np.mean(measured / [e.iterations for e in expected]))
    return result


def as_table(table: Sequence[Row]) -> Fitting:
    """The escape times for the terminal; columns that would be empty are left out."""
    view = Table(title="mean escape time in iterations, 95 % bootstrap interval", title_justify="left")
    columns: dict[str, Callable[[Row], str]] = {
        "optimizer": lambda row: LABELS[row.optimizer],
        "k": lambda row: f"{row.k:g}",
        "mean": lambda row: _iterations(row.mean),
        "interval": lambda row: f"{_iterations(row.ci_low)} - {_iterations(row.ci_high)}",
        "CV": lambda row: "" if row.cv is None else f"{row.cv:.2f}",
    }
    if any(row.censored for row in table):
        columns["censored"] = lambda row: str(row.censored)
    if any(row.theory for row in table):
        columns["theory"] = lambda row: _iterations(row.theory) if row.theory else ""
        columns["ratio"] = lambda row: f"{row.mean / row.theory:.3f}" if row.theory else ""
    for column in columns:
        view.add_column(column, justify="left" if column == "optimizer" else "right", no_wrap=True)
    for row in table:
        view.add_row(*(cell(row) for cell in columns.values()))
    return Fitting(view)


def _iterations(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def fits_table(by_optimizer: dict[str, Fits]) -> Fitting:
    """R² of log τ for the terminal."""
    view = Table(title="R² of log τ against 1/k and 1/sqrt(k); difference with 95 % interval", title_justify="left")
    for column in ("optimizer", "1/k", "1/sqrt(k)", "difference", "interval"):
        view.add_column(column, no_wrap=True)
    for name, fit in by_optimizer.items():
        d = fit.difference
        cells = [
            f"{fit.first.value:.5f}",
            f"{fit.second.value:.5f}",
            f"{d.value:+.4f}",
            f"{d.low:+.4f} to {d.high:+.4f}",
        ]
        view.add_row(LABELS[name], *cells)
    return Fitting(view)


def ratios_table(title: str, by_k: dict[float, Interval]) -> Fitting:
    """Ratios of mean escape times for the terminal."""
    view = Table(title=title, title_justify="left")
    for column in ("k", "ratio", "95 % interval"):
        view.add_column(column, justify="right")
    for k, r in by_k.items():
        view.add_row(f"{k:g}", f"{r.value:.3f}", f"{r.low:.3f} to {r.high:.3f}")
    return Fitting(view)


def draw(path: Path, table: Sequence[Row], remark: str = "") -> None:
    """Draw log τ against 1/k and against 1/sqrt(k), in Figure 5's layout, with lines for the theory if there is one.

    A remark is shown below the title.
    """
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, power, label in ((left, -1.0, r"$k^{-1}$"), (right, -0.5, r"$k^{-1/2}$")):
        for name in dict.fromkeys(row.optimizer for row in table):
            _draw_optimizer(ax, [row for row in table if row.optimizer == name], power, simulated(name))
        ax.set(xlabel=f"flatness, {label}", yscale="log")
        plain(ax)
    left.set_ylabel("mean escape time (iterations)")
    left.legend(frameon=False)
    figure.suptitle("\n".join(filter(None, (SETTINGS[table[0].setting].title, remark))), fontsize=11)
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def _draw_optimizer(ax: Axes, table: Sequence[Row], power: float, look: Style) -> None:
    name, color = table[0].optimizer, look.light
    escaped = [row for row in table if np.isfinite(row.mean)]
    x = np.array([row.k**power for row in escaped])
    means = np.array([row.mean for row in escaped])
    bars = np.abs(np.array([[row.mean - row.ci_low, row.ci_high - row.mean] for row in escaped]).T.reshape(2, -1))
    ax.errorbar(x, means, yerr=bars, fmt=look.marker, markersize=5, capsize=3, color=color, label=LABELS[name])
    if escaped and len(escaped) > 1:
        line = np.polyfit(x, np.log(means), 1)
        ax.plot(x, np.exp(np.polyval(line, x)), "-", linewidth=0.8, alpha=0.6, color=color)
    theory = SETTINGS[table[0].setting].theory.get(name)
    if theory and len(table) > 1:
        k = np.linspace(min(row.k for row in table), max(row.k for row in table), 100)
        ax.plot(k**power, [float(theory(x).iterations) for x in k], "--", color=color, label=f"{LABELS[name]}, theory")
