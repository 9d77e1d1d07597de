"""The figures of a comparison, each with the description that stands for it where it cannot be seen."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adai.report.comparison import Array, Comparison, Entrant, Run, median, ms_per_step, over_runs
from adai.report.panels import LAST_EPOCHS, RC, draw_curves, draw_scatter, legend_keys, short
from adai.report.style import style
from adai.report.summary import Measure

# One column of a paper wide: on a phone the letters are still large enough.
WIDTH, HEIGHT = 4.8, 3.2


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
    title = f"{name[0].upper()}{name[1:]} by epoch"
    if not comparison.recorded(column):
        return Missing(key, title, f"the {name}")
    figure, ax = _figure()
    said = draw_curves(ax, comparison, column, name, unit)
    _legend(figure, comparison)
    return Picture(key, title, f"{'; '.join(said)}. Mean over seeds; band from lowest to highest.", figure)


def _scatter(comparison: Comparison, measure: Measure) -> Picture | Missing:
    """Figure 1's right side."""
    epochs = min(LAST_EPOCHS, comparison.config["epochs"])
    title = f"{measure.name[0].upper()}{measure.name[1:]} against training loss, last {epochs} epochs"
    figure, ax = _figure()
    said = draw_scatter(ax, comparison, measure)
    if not said:
        return Missing("scatter", title, f"the {measure.name} beside the training loss of a run that did not diverge")
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
        ax.annotate(short(median(cost)), (cost.max(), number), xytext=(8, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(known)), [entrant.label for entrant, _ in known])
    ax.set(xlabel=f"{name} ({unit})", ylim=(len(known) - 0.4, -0.6))
    ax.set_xlim(0, 1.2 * max(cost.max() for _, cost in known) or 1)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    said = "; ".join(f"{entrant.label} {short(median(cost))} {unit}" for entrant, cost in known)
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
        f"Median over the parameters from {short(half[0])} to {short(half[-1])}; in the last epoch the middle 80 % "
        f"between {short(ten[-1])} and {short(ninety[-1])}. Means over seeds."
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
    keys = legend_keys(comparison, lines=lines)
    figure.set_figheight(HEIGHT + 0.22 * math.ceil(len(keys) / 3))
    figure.legend(handles=keys, loc="outside lower center", ncols=3, handlelength=2.8, columnspacing=1.2)
