"""Several comparisons in one figure, with a panel for each."""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adai.files import write_whole
from adai.lab.results.comparison import Comparison
from adai.lab.results.summary import ERROR
from adai.report.panels import draw_curves, draw_scatter, legend_keys
from adai.report.picture import RC
from adai.report.text import drawn

NOT_RUN = "not run"

# The contents of a panel.
TEST_ERROR = partial(draw_curves, column=ERROR.column, name=ERROR.name, unit=ERROR.unit)
TOP5_ERROR = partial(draw_curves, column="test_error_top5", name="top-5 test error", unit="%")
TRAINING_LOSS = partial(draw_curves, column="train_loss", name="training loss", unit="nats")
SCATTER = partial(draw_scatter, measure=ERROR)


class Panel(NamedTuple):
    """A part of a figure.

    Args:
        title: the title above it.
        comparison: the comparison to draw; its optimizers without a run are listed as not run.
        draw: draws it on axes and returns a description; empty if there is nothing to draw.
    """

    title: str
    comparison: Comparison
    draw: Callable[[Axes, Comparison], list[str]]


def write_grid(folder: Path, name: str, title: str, rows: Sequence[Sequence[Panel]]) -> list[Path]:
    """Draw rows of panels as PNG and PDF, with one legend for all optimizers; returns the files."""
    panels = [panel for row in rows for panel in row]
    with rc_context(RC):
        keys = {key.get_label(): key for panel in panels for key in legend_keys(panel.comparison)}
        lines = math.ceil(len(keys) / 5)
        size = 4.0 * len(rows[0]), 3.3 * len(rows) + 0.4 + 0.25 * lines
        figure = Figure(figsize=size, layout="constrained")
        for ax, panel in zip(figure.subplots(len(rows), len(rows[0]), squeeze=False).flat, panels, strict=True):
            draw_panel(ax, panel)
        figure.suptitle(title)
        figure.legend(handles=list(keys.values()), loc="outside lower center", ncols=5, handlelength=2.8)
        files = [folder / f"{name}.{kind}" for kind in ("png", "pdf")]
        write_whole(files[0], lambda part: figure.savefig(part, dpi=150))
        write_whole(files[1], lambda part: figure.savefig(part, metadata={"CreationDate": None}))
    return files


def draw_panel(ax: Axes, panel: Panel) -> None:
    """Draw a panel; it or its title says which optimizers have not been run."""
    seen = panel.draw(ax, panel.comparison)
    run = [entrant for entrant in panel.comparison.entrants if any(run.rows for run in entrant.runs)]
    missing = [entrant.label for entrant in panel.comparison.entrants if entrant not in run]
    lines = [panel.title]
    if not seen:
        ax.text(0.5, 0.5, "not recorded" if run else NOT_RUN, transform=ax.transAxes, ha="center", va="center")
        ax.set(xticks=[], yticks=[])
    elif missing:
        lines.append(textwrap.fill(drawn(f"{NOT_RUN}: {', '.join(missing)}"), 36))
    ax.set_title("\n".join(lines), fontsize=10)
