"""Figures that show where the printed formulas differ from the exact ones, or ours from each other."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adai.files import write_whole
from adai.report import relaxation
from adai.report.axes import plain
from adai.theory.page import figure
from adai.theory.record import Result, number
from adai.theory.results import RESULTS
from adai.theory.symbols import SYMBOLS

POINTS = 61
WIDE = 30  # if a sweep's range is wider than this factor, its axis is logarithmic
LETTERS = 85  # per line of a legend
STYLES = {"printed": ("C3", "--"), "corrected": ("C0", "-"), "exact": ("k", ":")}
PICTURES = {"damping": relaxation.drawn}  # the results whose figure is not a sweep


def draw_all(folder: Path) -> list[Path]:
    """Draw the figure of each result that has one, as a PNG under the folder of the page; returns the paths."""
    paths = []
    for result in RESULTS:
        if result.has_figure:
            path = folder / figure(result)
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(PICTURES.get(result.key, drawn)(result), path)
            paths.append(path)
    return paths


def _save(picture: Figure, path: Path) -> None:
    # without the version of matplotlib, so that the file changes only if the picture does
    write_whole(path, lambda part: picture.savefig(part, dpi=80, metadata={"Software": None}))


def drawn(result: Result) -> Figure:
    """The figure of one result: every formula against the input that its sweep varies.

    Raises:
        ValueError: the result has no sweep.
    """
    if result.sweep is None:
        raise ValueError(f"result {result.key!r} has no sweep to draw")
    symbol, low, high = result.sweep
    x = np.sign(low) * np.geomspace(abs(low), abs(high), POINTS)
    if symbol in ("T", "n"):
        x = np.unique(np.rint(x))
    # The width at which the page shows it, so that letters keep their size.
    picture = Figure(figsize=(7, 5), layout="constrained")
    axes = picture.subplots()
    everything = []
    for place, (what, formula) in enumerate(result.formulas):
        values = [formula.value({**result.inputs, symbol: point}) for point in x]
        y = np.array([np.atleast_1d(number(value)) for value in values if value is not None])
        if y.size:
            color, line = STYLES.get(what, (f"C{place}", "-"))
            color = f"C{place + 2}" if what == "exact" and place > 2 else color
            lines = axes.plot(np.abs(x), y, color=color, linestyle=line, linewidth=2)
            label = textwrap.fill(
                formula.text if what == "ours" else f"{what}: {formula.text}", LETTERS, subsequent_indent="    "
            )
            lines[0].set_label(label)
            everything.append(y.ravel())
    together = np.concatenate(everything)
    axes.set(
        xlabel=f"{'|' if low < 0 else ''}{SYMBOLS[symbol].flag}{'|' if low < 0 else ''}: {SYMBOLS[symbol].meaning}",
        ylabel=result.quantity,
        xscale="log" if high / low > WIDE else "linear",
        yscale="log" if np.all(together > 0) and together.max() > 5 * together.min() else "linear",
        title=f"{result.name} ({result.reference})",
    )
    picture.legend(loc="outside lower left", frameon=False, fontsize=10)
    plain(axes)
    return picture
