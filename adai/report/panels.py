"""What a comparison's figures are made of: curves, scatter and legend, drawn on axes that others lay out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from adai.report.comparison import Array, Comparison, Entrant, Run, median, over_runs
from adai.report.style import GRID, INK, style
from adai.report.summary import Measure

# Figure 1 of the paper shows the final 40 epochs.
LAST_EPOCHS = 40

RC: dict[Any, Any] = {
    "font.size": 11, "axes.labelsize": 11, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 10,
    "svg.fonttype": "none", "svg.hashsalt": "adai", "pdf.fonttype": 42,
}  # fmt: skip


def draw_curves(ax: Axes, comparison: Comparison, column: str, name: str, unit: str) -> list[str]:
    """Draw a column by epoch: mean over finished runs, band from lowest to highest; a thin line for each other run.

    Returns:
        What is to be seen, an optimizer at a time; empty where nothing was recorded.
    """
    said = []
    for entrant in comparison.entrants:
        look = style(entrant.name)
        values = over_runs(entrant.finished, column)
        if np.isfinite(values).any():
            epochs, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
            ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=look.light, alpha=0.16, linewidth=0)
            every = max(1, mean.size // 8)
            ax.plot(
                epochs, mean, color=look.light, dashes=look.dashes, marker=look.marker, markevery=every, ms=5, lw=1.6
            )
            said.append(f"{entrant.label} from {short(mean[0])} to {short(mean[-1])} {unit}")
        said += [_stopped(ax, entrant, run, column) for run in entrant.stopped]
    ax.set(xlabel="epoch", ylabel=f"{name} ({unit})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _log_where_it_helps(ax, "y", [run.column(column) for e in comparison.entrants for run in e.runs])
    return said


def _stopped(ax: Axes, entrant: Entrant, run: Run, column: str) -> str:
    values = run.column(column)
    known = np.flatnonzero(np.isfinite(values))
    colour = style(entrant.name).light
    ax.plot(np.arange(1, values.size + 1), values, color=colour, lw=0.9, ls=":")
    if known.size:
        end = known[-1]
        ax.plot(end + 1, values[end], marker="x" if run.status == "diverged" else "|", color=colour, ms=8, mew=1.8)
    return (
        f"{entrant.label} seed {run.seed} {run.status} after {values.size} {'epoch' if values.size == 1 else 'epochs'}"
    )


def draw_scatter(ax: Axes, comparison: Comparison, measure: Measure) -> list[str]:
    """Draw a point for each of the last epochs of each run that did not diverge: the measure against training loss.

    Returns:
        What is to be seen, an optimizer at a time; empty where nothing was recorded.
    """
    last: int = comparison.config["epochs"]
    epochs = min(LAST_EPOCHS, last)
    said, drawn = [], []
    for entrant in comparison.entrants:
        look = style(entrant.name)
        runs = [run for run in entrant.runs if run.status != "diverged"]
        loss, error = (over_runs(runs, column)[:, last - epochs : last] for column in ("train_loss", measure.column))
        if not np.isfinite(loss * error).any():
            continue
        ax.scatter(loss, error, s=16, marker=look.marker, color=look.light, alpha=0.6, linewidths=0)
        drawn.append((loss.ravel(), error.ravel()))
        said.append(f"{entrant.label} around {short(median(loss))} nats and {short(median(error))} {measure.unit}")
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=False):
        _log_where_it_helps(ax, axis, values)
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set(xlabel="training loss (nats)", ylabel=f"{measure.name} ({measure.unit})")
    return said


def _log_where_it_helps(ax: Axes, which: str, columns: Sequence[Array]) -> None:
    """Take a logarithmic axis where the values differ by factors, with plain numbers on it."""
    values = np.concatenate([np.zeros(0), *columns])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if low > 0 and high > 3 * low:
        ax.set(**{f"{which}scale": "log", f"{which}lim": (low / 1.15, high * 1.15)})
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def legend_keys(comparison: Comparison, *, lines: bool = True) -> list[Line2D]:
    """A key for each optimizer, and with lines one for each way in which runs have ended early."""
    keys = []
    for entrant in comparison.entrants:
        look = style(entrant.name)
        line = Line2D([], [], color=look.light, marker=look.marker, ms=5, lw=1.6 if lines else 0, label=entrant.label)
        line.set_dashes(look.dashes)
        keys.append(line)
    stopped: Sequence[str] = [run.status for e in comparison.entrants for run in e.stopped] if lines else []
    for status, marker in (("diverged", "x"), ("unfinished", "|")):
        if status in stopped:
            keys.append(Line2D([], [], color=INK, ls=":", lw=0.9, marker=marker, ms=7, mew=1.6, label=status))
    return keys


def short(value: float) -> str:
    """Three digits, without an exponent in front of the point."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
