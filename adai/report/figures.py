"""The figures of a comparison, each with a text description for readers who cannot see it."""

from collections.abc import Callable

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adai.errors import UserError
from adai.lab.results.comparison import Comparison, Entrant, Record, mean_over_runs, median, ms_per_step, over_runs
from adai.lab.results.summary import ERROR, Measure, measure_of
from adai.lab.results.words import short
from adai.report.dots import dots
from adai.report.drift import drift_pictures
from adai.report.panels import LAST_EPOCHS, add_legend, draw_curves, draw_scatter
from adai.report.picture import RC, Missing, Picture, one_axes
from adai.report.style import Style, style


def pictures(comparison: Comparison, measure: Measure) -> list[Picture | Missing]:
    """All figures, in the order of the page."""
    adaptive = [e for e in comparison.entrants if np.isfinite(over_runs(e.runs, "inertia_50")).any()]
    batch = comparison.config.get("batch")
    with rc_context(RC):
        return [
            _curves(comparison, measure.column, measure.name, measure.unit, "test"),
            _curves(comparison, "train_loss", "training loss", comparison.loss_unit, "loss"),
            _scatter(comparison, measure),
            _cost(comparison, "time", "time per training step", "ms", lambda run: ms_per_step(run, batch)),
            _cost(comparison, "memory", "memory of the optimizer’s state", "MB", _megabytes("optimizer_state_bytes")),
            *([_cost(comparison, "peak", "peak memory", "MB", _megabytes("peak_memory_bytes"))]
              if comparison.recorded("peak_memory_bytes") else []),
            *(_inertia(entrant, style(entrant.name, comparison.names)) for entrant in adaptive),
            *drift_pictures(comparison),
            *([] if adaptive or not any(e.name in ("adai", "adaiw") for e in comparison.entrants)
              else [Missing("inertia", "Inertia", "quantiles of the inertia μ")]),
        ]  # fmt: skip


def figure(comparison: Comparison, name: str) -> Figure:
    """One figure: a column of the rows by epoch, or one of `pictures` by its key.

    Raises:
        UserError: there is none of that name, or its numbers were not recorded.
    """
    measure = measure_of(comparison)
    if comparison.recorded(name):
        known = {ERROR.column: (ERROR.name, ERROR.unit), "train_loss": ("training loss", comparison.loss_unit)}
        with rc_context(RC):
            found = _curves(comparison, name, *known.get(name, (name.replace("_", " "), "")), name)
    else:
        keys = {picture.key: picture for picture in pictures(comparison, measure)}
        if name not in keys:
            columns = dict.fromkeys(
                key for e in comparison.entrants for run in e.runs for row in run.rows for key in row
            )
            raise UserError(f"there is no figure {name!r}; choose from {', '.join([*keys, *columns])}")
        found = keys[name]
    if isinstance(found, Missing):
        raise UserError(f"there is no figure {name!r}: {found.why} was not recorded")
    return found.figure


def _curves(comparison: Comparison, column: str, name: str, unit: str, key: str) -> Picture | Missing:
    title = f"{name[0].upper()}{name[1:]} by epoch"
    if not comparison.recorded(column):
        return Missing(key, title, f"the {name}")
    figure, ax = one_axes()
    said = draw_curves(ax, comparison, column, name, unit)
    add_legend(figure, comparison)
    return Picture(key, title, f"{'; '.join(said)}. Mean over seeds; band from lowest to highest.", figure)


def _scatter(comparison: Comparison, measure: Measure) -> Picture | Missing:
    """The scatter plot, as on the right side of the paper's Figure 1."""
    epochs = min(LAST_EPOCHS, comparison.config["epochs"])
    title = f"{measure.name[0].upper()}{measure.name[1:]} against training loss, last {epochs} epochs"
    figure, ax = one_axes()
    said = draw_scatter(ax, comparison, measure)
    if not said:
        return Missing("scatter", title, f"the {measure.name} beside the training loss of a run that did not die")
    add_legend(figure, comparison, lines=False)
    return Picture("scatter", title, f"Medians: {'; '.join(said)}. One point per epoch and seed.", figure)


def _cost(
    comparison: Comparison, key: str, name: str, unit: str, value: Callable[[Record], float]
) -> Picture | Missing:
    return dots(key, name, unit, [(entrant, [value(run) for run in entrant.runs]) for entrant in comparison.entrants])


def _megabytes(column: str) -> Callable[[Record], float]:
    return lambda run: median(run.column(column)) / 1e6


def _inertia(entrant: Entrant, look: Style) -> Picture:
    """Median of μ over the parameters, with the ranges from 10 to 90 % and from 1 to 99 %; means over the runs."""
    figure, ax = one_axes()
    runs = [run for run in entrant.runs if not run.died] or entrant.runs
    colour = look.light
    low, ten, half, ninety, high = (
        mean_over_runs(over_runs(runs, f"inertia_{q}")) for q in ("01", "10", "50", "90", "99")
    )
    epochs = np.arange(1, half.size + 1)
    ax.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0, label="1 to 99 %")
    ax.fill_between(epochs, ten, ninety, color=colour, alpha=0.28, linewidth=0, label="10 to 90 %")
    ax.plot(epochs, half, color=colour, marker=look.marker, markevery=max(1, half.size // 8), ms=5,
            label="median")  # fmt: skip
    ax.set(xlabel="epoch", ylabel="inertia μ", ylim=(min(-0.02, np.nanmin(low)), 1.02))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside lower center", ncols=3)
    text = (
        f"Median over the parameters from {short(half[0])} to {short(half[-1])}; in the last epoch the middle 80 % "
        f"between {short(ten[-1])} and {short(ninety[-1])}. Means over seeds."
    )
    return Picture(f"inertia-{entrant.name.replace(' ', '_')}", f"Inertia of {entrant.label} by epoch", text, figure)
