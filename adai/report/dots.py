"""A figure with one number per run, on a line for each optimizer."""

from collections.abc import Sequence

import numpy as np

from adai.lab.results.comparison import Entrant, median
from adai.lab.results.words import short
from adai.report.axes import log_where_it_helps
from adai.report.picture import WIDTH, Drawing, Missing, Picture
from adai.report.style import style
from adai.report.text import drawn


def dots(
    key: str,
    name: str,
    unit: str,
    values: Sequence[tuple[Entrant, Sequence[float]]],
    *,
    factors: bool = False,
    title: str = "",
) -> Picture | Missing:
    """One line per optimizer, with a mark for each run, and their median as a number.

    Args:
        key: the figure's name in files.
        name: the name of the number.
        unit: its unit; may be empty.
        values: the numbers of each optimizer; those that are not finite are left out.
        factors: whether optimizers may differ by factors; then the axis may be logarithmic, without bars from 0.
        title: default the name.
    """
    title = title or f"{name[0].upper()}{name[1:]}"
    finite = [(entrant, np.array([v for v in of_runs if np.isfinite(v)])) for entrant, of_runs in values]
    known = [(entrant, of_runs) for entrant, of_runs in finite if of_runs.size]
    if not known:
        return Missing(key, title, f"the {name}")
    figure = Drawing(figsize=(WIDTH, 0.9 + 0.34 * len(known)), layout="constrained")
    ax = figure.subplots()
    everything = np.concatenate([of_runs for _, of_runs in known])
    ax.set_xlim(1.2 * min(0, everything.min()), 1.2 * max(0, everything.max()) or 1)
    if factors:
        log_where_it_helps(ax, "x", [everything])
    for number, (entrant, of_runs) in enumerate(known):
        look = style(entrant.name, [each.name for each, _ in values])
        if ax.get_xscale() == "linear":
            ax.plot([0, median(of_runs)], [number, number], color=look.light, lw=2.5, alpha=0.35, solid_capstyle="butt")
        ax.plot(of_runs, np.full(of_runs.size, number), look.marker, color=look.light, ms=6, alpha=0.8, ls="")
        right = of_runs.max() if ax.get_xscale() == "log" else max(of_runs.max(), 0)
        ax.annotate(short(median(of_runs)), (right, number), xytext=(8, 0), textcoords="offset points", va="center")
    ax.set_yticks(range(len(known)), [drawn(entrant.label) for entrant, _ in known])
    ax.set(xlabel=f"{name} ({unit})" if unit else name, ylim=(len(known) - 0.4, -0.6))
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    said = "; ".join(f"{entrant.label} {short(median(of_runs))} {unit}".rstrip() for entrant, of_runs in known)
    return Picture(key, title, f"Medians: {said}. One mark per run.", figure)
