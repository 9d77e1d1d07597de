"""The parts of a comparison's figures: curves, scatter and legend, drawn on axes that the caller creates."""

import math
from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from adai.lab.results.comparison import Comparison, Entrant, Record, median, over_runs
from adai.lab.results.summary import Measure
from adai.lab.results.words import short
from adai.report.axes import log_where_it_helps
from adai.report.picture import HEIGHT, with_unit
from adai.report.style import INK, style
from adai.report.text import legend

# Figure 1 of the paper shows the final 40 epochs.
LAST_EPOCHS = 40

# The marker at the end of a run that is left out of the means.
ENDS = {"diverged": "x", "did not learn": "+", "unfinished": "|"}


def draw_curves(ax: Axes, comparison: Comparison, column: str, name: str, unit: str) -> list[str]:
    """Draw a column by epoch: mean over finished runs, band from lowest to highest; a thin line for each other run.

    Returns:
        Descriptions, one per optimizer and per other run; empty if nothing was recorded.
    """
    said = []
    for entrant in comparison.entrants:
        look = style(entrant.name, comparison.names)
        values = over_runs(entrant.finished, column)
        if np.isfinite(values).any():
            epochs, mean = np.arange(1, values.shape[1] + 1), values.mean(axis=0)
            ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=look.light, alpha=0.16, linewidth=0)
            every = max(1, mean.size // 8)
            ax.plot(
                epochs, mean, color=look.light, dashes=look.dashes, marker=look.marker, markevery=every, ms=5, lw=1.6
            )
            said.append(f"{entrant.label} from {short(mean[0])} to {short(mean[-1])} {unit}".rstrip())
        said += [_stopped(ax, entrant, run, column, look.light) for run in entrant.stopped]
    ax.set(xlabel="epoch", ylabel=with_unit(name, unit))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    log_where_it_helps(ax, "y", [run.column(column) for e in comparison.entrants for run in e.runs])
    return said


def _stopped(ax: Axes, entrant: Entrant, run: Record, column: str, colour: str) -> str:
    values = run.column(column)
    known = np.flatnonzero(np.isfinite(values))
    ax.plot(np.arange(1, values.size + 1), values, color=colour, lw=0.9, ls=":")
    if known.size:
        end = known[-1]
        ax.plot(end + 1, values[end], marker=ENDS[run.status], color=colour, ms=8, mew=1.8)
    when = "in" if run.status == "did not learn" else "after"
    epochs = f"{values.size} {'epoch' if values.size == 1 else 'epochs'}"
    return f"{entrant.label} seed {run.seed} {run.status} {when} {epochs}"


def draw_scatter(ax: Axes, comparison: Comparison, measure: Measure) -> list[str]:
    """Draw a point for each of the last epochs of each run that did not die: the measure against training loss.

    Returns:
        Descriptions, one per optimizer; empty if nothing was recorded.
    """
    last: int = comparison.config["epochs"]
    epochs, unit = min(LAST_EPOCHS, last), comparison.loss_unit
    said, drawn = [], []
    for entrant in comparison.entrants:
        look = style(entrant.name, comparison.names)
        runs = [run for run in entrant.runs if not run.died]
        loss, error = (over_runs(runs, column)[:, last - epochs : last] for column in ("train_loss", measure.column))
        if not np.isfinite(loss * error).any():
            continue
        ax.scatter(loss, error, s=16, marker=look.marker, color=look.light, alpha=0.6, linewidths=0)
        drawn.append((loss.ravel(), error.ravel()))
        x, y = f"{short(median(loss))} {unit}".rstrip(), f"{short(median(error))} {measure.unit}".rstrip()
        said.append(f"{entrant.label} around {x} and {y}")
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=False):
        log_where_it_helps(ax, axis, values)
    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set(xlabel=with_unit("training loss", unit), ylabel=with_unit(measure.name, measure.unit))
    return said


def legend_keys(comparison: Comparison, *, lines: bool = True, of: Collection[str] | None = None) -> list[Line2D]:
    """A legend entry for each optimizer, and with ``lines`` one for each way in which runs have ended early.

    Args:
        comparison: the optimizers.
        lines: whether they are drawn as lines.
        of: the optimizers that are drawn, if not all are.
    """
    keys = []
    for entrant in comparison.entrants:
        if of is not None and entrant.name not in of:
            continue
        look = style(entrant.name, comparison.names)
        line = Line2D([], [], color=look.light, marker=look.marker, ms=5, lw=1.6 if lines else 0)
        line.set_label(legend(entrant.label))
        line.set_dashes(look.dashes)
        keys.append(line)
    stopped: Sequence[str] = [run.status for e in comparison.entrants for run in e.stopped] if lines else []
    for status, marker in ENDS.items():
        if status in stopped:
            keys.append(Line2D([], [], color=INK, ls=":", lw=0.9, marker=marker, ms=7, mew=1.6, label=status))
    return keys


def add_legend(
    figure: Figure, comparison: Comparison, *, lines: bool = True, of: Collection[str] | None = None
) -> None:
    """Put a legend, as `legend_keys` has it, below the axes, and make the figure higher by its height."""
    keys = legend_keys(comparison, lines=lines, of=of)
    figure.set_figheight(HEIGHT + 0.22 * math.ceil(len(keys) / 3))
    figure.legend(handles=keys, loc="outside lower center", ncols=3, handlelength=2.8, columnspacing=1.2)
