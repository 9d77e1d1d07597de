"""The figures of a comparison, each with the description that stands for it where it cannot be seen."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from adai.report.comparison import Array, Comparison, Entrant, Run, median, ms_per_step, over_runs
from adai.report.style import GRID, INK, style
from adai.report.summary import Measure

# Figure 1 of the paper shows the final 40 epochs.
LAST_EPOCHS = 40

# One column of a paper wide: on a phone the letters are still large enough.
WIDTH, HEIGHT = 4.8, 3.2

RC: dict[Any, Any] = {
    "font.size": 11, "axes.labelsize": 11, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 10,
    "svg.fonttype": "none", "svg.hashsalt": "adai", "pdf.fonttype": 42,
}  # fmt: skip


class Picture(NamedTuple):
    """A figure, and what to say of it.

    Args:
        key: its name in files.
        title: what it shows.
        description: what is to be seen, with the numbers.
        figure: the drawing.
    """

    key: str
    title: str
    description: str
    figure: Figure


class Missing(NamedTuple):
    """A figure whose numbers were not recorded."""

    key: str
    title: str
    why: str


def pictures(comparison: Comparison, measure: Measure) -> list[Picture | Missing]:
    """All figures, in the order in which they are read."""
    adaptive = [e for e in comparison.entrants if np.isfinite(over_runs(e.runs, "inertia_50")).any()]
    batch = comparison.config.get("batch")
    with rc_context(RC):
        return [
            _curves(comparison, measure.column, measure.name, measure.unit, "test"),
            _curves(comparison, "train_loss", "training loss", "nats", "loss"),
            _scatter(comparison, measure),
            _cost(comparison, "time", "time per training step", "ms", lambda run: ms_per_step(run, batch)),
            _cost(comparison, "memory", "memory of the optimizer’s state", "MB", _megabytes("optimizer_state_bytes")),
            *([_cost(comparison, "peak", "peak memory", "MB", _megabytes("peak_memory_bytes"))]
              if comparison.recorded("peak_memory_bytes") else []),
            *(_inertia(entrant) for entrant in adaptive),
            *([] if adaptive or not any(e.name in ("adai", "adaiw") for e in comparison.entrants)
              else [Missing("inertia", "Inertia", "quantiles of the inertia μ")]),
        ]  # fmt: skip


def _curves(comparison: Comparison, column: str, name: str, unit: str, key: str) -> Picture | Missing:
    """Mean over finished runs, band from lowest to highest; a run that did not finish is a thin line of its own."""
    title = f"{name[0].upper()}{name[1:]} by epoch"
    if not comparison.recorded(column):
        return Missing(key, title, f"the {name}")
    figure, ax = _figure()
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
            said.append(f"{entrant.label} from {_short(mean[0])} to {_short(mean[-1])} {unit}")
        said += [_stopped(ax, entrant, run, column) for run in entrant.stopped]
    ax.set(xlabel="epoch", ylabel=f"{name} ({unit})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    everything = np.concatenate([run.column(column) for e in comparison.entrants for run in e.runs])
    _log_where_it_helps(ax, "y", everything)
    _legend(figure, comparison)
    return Picture(key, title, f"{'; '.join(said)}. Mean over seeds; band from lowest to highest.", figure)


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


def _log_where_it_helps(ax: Axes, which: str, values: Array) -> None:
    """Take a logarithmic axis where the values differ by factors, with plain numbers on it."""
    values = values[np.isfinite(values)]
    low, high = values.min(), values.max()
    if low > 0 and high > 3 * low:
        ax.set(**{f"{which}scale": "log", f"{which}lim": (low / 1.15, high * 1.15)})
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _scatter(comparison: Comparison, measure: Measure) -> Picture | Missing:
    """Figure 1's right side: a point for each of the last epochs of each run."""
    last: int = comparison.config["epochs"]
    epochs = min(LAST_EPOCHS, last)
    title = f"{measure.name[0].upper()}{measure.name[1:]} against training loss, last {epochs} epochs"
    figure, ax = _figure()
    said, drawn = [], []
    for entrant in comparison.entrants:
        look = style(entrant.name)
        runs = [run for run in entrant.runs if run.status != "diverged"]
        loss, error = (over_runs(runs, column)[:, last - epochs : last] for column in ("train_loss", measure.column))
        if not np.isfinite(loss * error).any():
            continue
        ax.scatter(loss, error, s=16, marker=look.marker, color=look.light, alpha=0.6, linewidths=0)
        drawn.append((loss.ravel(), error.ravel()))
        said.append(f"{entrant.label} around {_short(median(loss))} nats and {_short(median(error))} {measure.unit}")
    if not said:
        return Missing("scatter", title, f"the {measure.name} beside the training loss of a run that did not diverge")
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=True):
        _log_where_it_helps(ax, axis, np.concatenate(values, axis=None))
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="training loss (nats)", ylabel=f"{measure.name} ({measure.unit})")
    _legend(figure, comparison, lines=False)
    return Picture("scatter", title, f"Medians: {'; '.join(said)}. A point an epoch and seed.", figure)


def _cost(comparison: Comparison, key: str, name: str, unit: str, value: Callable[[Run], float]) -> Picture | Missing:
    """A line an optimizer: each run, and the median of them in figures."""
    title = f"{name[0].upper()}{name[1:]}"
    costs = [(entrant, np.array([value(run) for run in entrant.runs])) for entrant in comparison.entrants]
    known = [(entrant, cost[np.isfinite(cost)]) for entrant, cost in costs if np.isfinite(cost).any()]
    if not known:
        return Missing(key, title, f"the {name}")
    figure = Figure(figsize=(WIDTH, 0.9 + 0.34 * len(known)), layout="constrained")
    ax = figure.subplots()
    for number, (entrant, cost) in enumerate(known):
        look = style(entrant.name)
        ax.plot([0, median(cost)], [number, number], color=look.light, lw=2.5, alpha=0.35, solid_capstyle="butt")
        ax.plot(cost, np.full(cost.size, number), look.marker, color=look.light, ms=6, alpha=0.8, ls="")
        ax.annotate(_short(median(cost)), (cost.max(), number), xytext=(8, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(known)), [entrant.label for entrant, _ in known])
    ax.set(xlabel=f"{name} ({unit})", ylim=(len(known) - 0.4, -0.6))
    ax.set_xlim(0, 1.2 * max(cost.max() for _, cost in known) or 1)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    said = "; ".join(f"{entrant.label} {_short(median(cost))} {unit}" for entrant, cost in known)
    return Picture(key, title, f"Medians: {said}. A mark a run.", figure)


def _megabytes(column: str) -> Callable[[Run], float]:
    return lambda run: median(run.column(column)) / 1e6


def _inertia(entrant: Entrant) -> Picture:
    """Median of μ over the parameters, with the ranges from 10 to 90 % and from 1 to 99 %; means over the runs."""
    figure, ax = _figure()
    runs = [run for run in entrant.runs if run.status != "diverged"] or entrant.runs
    colour = style(entrant.name).light
    low, ten, half, ninety, high = (_mean(over_runs(runs, f"inertia_{q}")) for q in ("01", "10", "50", "90", "99"))
    epochs = np.arange(1, half.size + 1)
    ax.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0, label="1 to 99 %")
    ax.fill_between(epochs, ten, ninety, color=colour, alpha=0.28, linewidth=0, label="10 to 90 %")
    ax.plot(epochs, half, color=colour, marker=style(entrant.name).marker, markevery=max(1, half.size // 8), ms=5,
            label="median")  # fmt: skip
    ax.set(xlabel="epoch", ylabel="inertia μ", ylim=(min(-0.02, np.nanmin(low)), 1.02))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=3)
    text = (
        f"Median over the parameters from {_short(half[0])} to {_short(half[-1])}; in the last epoch the middle 80 % "
        f"between {_short(ten[-1])} and {_short(ninety[-1])}. Means over seeds."
    )
    return Picture(f"inertia-{entrant.name}", f"Inertia of {entrant.label} by epoch", text, figure)


def _mean(values: Array) -> Array:
    """Mean over runs of what they recorded, epoch by epoch."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    return figure, figure.subplots()


def _legend(figure: Figure, comparison: Comparison, *, lines: bool = True) -> None:
    handles = []
    for entrant in comparison.entrants:
        look = style(entrant.name)
        line = Line2D([], [], color=look.light, marker=look.marker, ms=5, lw=1.6 if lines else 0, label=entrant.label)
        line.set_dashes(look.dashes)
        handles.append(line)
    stopped: Sequence[str] = [run.status for e in comparison.entrants for run in e.stopped] if lines else []
    for status, marker in (("diverged", "x"), ("unfinished", "|")):
        if status in stopped:
            handles.append(Line2D([], [], color=INK, ls=":", lw=0.9, marker=marker, ms=7, mew=1.6, label=status))
    figure.set_figheight(HEIGHT + 0.22 * math.ceil(len(handles) / 3))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=2.8, columnspacing=1.2)


def _short(value: float) -> str:
    """Three digits, without an exponent in front of the point."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
