"""The figures of a comparison, each with the description that stands for it where it cannot be seen."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from adai.report.axes import log_where_it_helps
from adai.report.comparison import Comparison, Entrant, Run, mean_over_runs, median, ms_per_step, over_runs
from adai.report.dots import dots
from adai.report.drift import drift_pictures
from adai.report.picture import HEIGHT, RC, Missing, Picture, one_axes, short
from adai.report.style import INK, style
from adai.report.summary import Measure

# Figure 1 of the paper shows the final 40 epochs.
LAST_EPOCHS = 40


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
            *drift_pictures(comparison),
            *([] if adaptive or not any(e.name in ("adai", "adaiw") for e in comparison.entrants)
              else [Missing("inertia", "Inertia", "quantiles of the inertia μ")]),
        ]  # fmt: skip


def _curves(comparison: Comparison, column: str, name: str, unit: str, key: str) -> Picture | Missing:
    """Mean over finished runs, band from lowest to highest; a run that did not finish is a thin line of its own."""
    title = f"{name[0].upper()}{name[1:]} by epoch"
    if not comparison.recorded(column):
        return Missing(key, title, f"the {name}")
    figure, ax = one_axes()
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
    everything = np.concatenate([run.column(column) for e in comparison.entrants for run in e.runs])
    log_where_it_helps(ax, "y", everything)
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


def _scatter(comparison: Comparison, measure: Measure) -> Picture | Missing:
    """Figure 1's right side: a point for each of the last epochs of each run."""
    last: int = comparison.config["epochs"]
    epochs = min(LAST_EPOCHS, last)
    title = f"{measure.name[0].upper()}{measure.name[1:]} against training loss, last {epochs} epochs"
    figure, ax = one_axes()
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
    if not said:
        return Missing("scatter", title, f"the {measure.name} beside the training loss of a run that did not diverge")
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=True):
        log_where_it_helps(ax, axis, np.concatenate(values, axis=None))
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set(xlabel="training loss (nats)", ylabel=f"{measure.name} ({measure.unit})")
    _legend(figure, comparison, lines=False)
    return Picture("scatter", title, f"Medians: {'; '.join(said)}. A point an epoch and seed.", figure)


def _cost(comparison: Comparison, key: str, name: str, unit: str, value: Callable[[Run], float]) -> Picture | Missing:
    return dots(key, name, unit, [(entrant, [value(run) for run in entrant.runs]) for entrant in comparison.entrants])


def _megabytes(column: str) -> Callable[[Run], float]:
    return lambda run: median(run.column(column)) / 1e6


def _inertia(entrant: Entrant) -> Picture:
    """Median of μ over the parameters, with the ranges from 10 to 90 % and from 1 to 99 %; means over the runs."""
    figure, ax = one_axes()
    runs = [run for run in entrant.runs if run.status != "diverged"] or entrant.runs
    colour = style(entrant.name).light
    low, ten, half, ninety, high = (
        mean_over_runs(over_runs(runs, f"inertia_{q}")) for q in ("01", "10", "50", "90", "99")
    )
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
