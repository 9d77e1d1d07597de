"""Learning-rate sensitivity drawn: a table, a figure, and a row a run as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from adai.lab.results.learning_rates import Grid, Tried
from adai.lab.results.stats import spread
from adai.lab.results.summary import Measure
from adai.lab.results.words import joined, short
from adai.report.axes import log_where_it_helps
from adai.report.panels import ENDS, legend_keys
from adai.report.picture import HEIGHT, Picture, one_axes, with_unit
from adai.report.rows import write_csv
from adai.report.style import INK, style
from adai.report.tables import NONE, Cells, plus_minus


class Point(NamedTuple):
    """A run as a row of a table: its last epoch."""

    optimizer: str
    factor: float
    lr: float | None
    seed: int
    status: str
    epochs: int
    train_loss: float | None
    test_loss: float | None
    test_error: float | None
    test_metric: float | None


def write_points(path: Path, grid: Grid) -> None:
    """Write a row for every run at every rate as CSV, every number in full; missing values are empty."""
    points = []
    for name in grid.optimizers:
        for factor, entrant in grid.entrants(name).items():
            for run in entrant.runs:
                last = run.rows[-1] if run.rows else {}
                numbers = (last.get(column) for column in Point._fields[-4:])
                points.append(
                    Point(name, factor, entrant.options.get("lr"), run.seed, run.status, len(run.rows), *numbers)
                )
    write_csv(path, points)


def cells(grid: Grid) -> Cells:
    """The table for readers: one row per optimizer, one column per rate, and the best rate."""
    measure = grid.measure
    unit = " in percent" if measure.unit == "%" else ""
    rows = []
    for name in grid.optimizers:
        tried, best = grid.tried(name), grid.best(name)
        lr = f"{best.lr:g} " if best.lr is not None else ""
        edge = f", the {best.edge}" if best.edge else ""
        rate = f"{lr}(× {best.factor:g}{edge})" if any(t.values for t in tried.values()) else NONE
        said = [_cell(tried.get(factor), measure) for factor in grid.at]
        rows.append([grid.entrants(name)[1.0].label, rate, *said])
    title = f"{measure.name}{unit} by factor on each optimizer’s own learning rate"
    return Cells(title, ["optimizer", "best rate", *(f"× {factor:g}" for factor in grid.at)], rows)


def _cell(tried: Tried | None, measure: Measure) -> str:
    if tried is None:
        return NONE
    values = plus_minus(tried.values, measure.digits) if tried.values else ""
    return ", ".join(filter(None, (values, tried.died))) or NONE


def picture(grid: Grid) -> Picture:
    """The measure against the factor, with one line per optimizer."""
    figure, ax = one_axes()
    draw(ax, {name: grid.tried(name) for name in grid.optimizers}, list(grid.at))
    ax.set(xlabel="factor on the optimizer’s own learning rate", ylabel=with_unit(grid.measure.name, grid.measure.unit))
    said = []
    for name in grid.optimizers:
        tried = grid.tried(name)
        label = grid.entrants(name)[1.0].label
        means = [f"{short(spread(t.values).mean)} at {f:g}" for f, t in tried.items() if t.values]
        deaths = [f"{t.died} at {f:g}" for f, t in tried.items() if t.ends]
        said.append(
            f"{label} {joined(means) or 'without a finished run'}" + (f" ({', '.join(deaths)})" if deaths else "")
        )
    keys = [*legend_keys(grid.at[1.0]), *end_keys({end for name in grid.optimizers for end in _ends(grid, name)})]
    keys = list({key.get_label(): key for key in keys}.values())
    figure.set_figheight(HEIGHT + 0.22 * -(-len(keys) // 3))
    figure.legend(handles=keys, loc="outside lower center", ncols=3, handlelength=2.8, columnspacing=1.2)
    text = (
        f"{'; '.join(said)}. Means over the runs that finished, bars from lowest to highest; above the axes "
        "how many runs died, at their rate."
    )
    title = f"{grid.measure.name[0].upper()}{grid.measure.name[1:]} against the learning rate"
    return Picture("learning-rates", title, text, figure)


def _ends(grid: Grid, optimizer: str) -> list[str]:
    return [end for tried in grid.tried(optimizer).values() for end in tried.ends]


def end_keys(ends: set[str]) -> list[Line2D]:
    """A legend entry for each way in which runs died."""
    return [
        Line2D([], [], color=INK, lw=0, marker=marker, ms=7, mew=1.6, label=end)
        for end, marker in ENDS.items()
        if end in ends
    ]


def draw(ax: Axes, lines: Mapping[str, Mapping[float, Tried]], factors: Sequence[float]) -> None:
    """Draw the results of each optimizer at every factor, and above the axes how many runs died there, and how.

    Args:
        ax: the axes; their title must leave room above.
        lines: the results by optimizer and by factor.
        factors: of the axis, from the lowest to the highest.
    """
    shown: list[Sequence[float]] = []
    ax.set_xscale("log")
    for number, (name, tried) in enumerate(lines.items()):
        look = style(name, list(lines))
        aside = 1.05 ** (number - (len(lines) - 1) / 2)  # bars side by side
        points = [(f * aside, fmean(t.values), min(t.values), max(t.values)) for f, t in tried.items() if t.values]
        if points:
            x, mean, low, high = zip(*sorted(points), strict=True)
            ax.plot(x, mean, color=look.light, dashes=look.dashes, marker=look.marker, ms=5, lw=1.6)
            ax.vlines(x, low, high, color=look.light, lw=1.0, alpha=0.7)
            shown += [low, high]
        for factor, own in tried.items():
            for place, end in enumerate(sorted(set(own.ends))):
                x, y = factor * aside * 1.25**place, 1.04 + 0.06 * number  # a line for each optimizer
                above: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False, "color": look.light}
                ax.plot(x, y, ENDS[end], ms=6, mew=1.6, **above)
                ax.text(x * 1.05, y, str(own.ends.count(end)), fontsize=8, va="center", **above)
    log_where_it_helps(ax, "y", [np.array(values) for values in shown])
    ax.set_xticks(factors, [f"{factor:g}" for factor in factors])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(factors[0] / 1.35, factors[-1] * 1.35)
