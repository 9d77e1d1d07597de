"""Table 1: lowest test error over the epochs, nine optimizers on five networks; ours and the paper's.

At small scale the table compares a small network with the paper's numbers for a larger one on the same images. The
values are not comparable, so the table has the rank of each optimizer in both instead of a difference.
"""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from rich.box import HORIZONTALS
from rich.table import Table

from adai.files import write_whole
from adai.lab.optimizers.recipes import recipe
from adai.lab.results.stats import Spread, rank_correlation, spread
from adai.lab.results.summary import Row, summarise
from adai.paper.drawing import Drawn, found
from adai.paper.experiments import (
    DENSENET121,
    GOOGLENET,
    NAMES,
    RESNET18,
    RESNET34,
    SMALL,
    VGG16,
    Experiment,
    Scale,
    at,
    remarked,
)
from adai.paper.published import TABLE1
from adai.report.fitting import Fitting
from adai.report.grid import NOT_RUN
from adai.report.rows import write_csv
from adai.report.tables import NONE, as_markdown

EXPERIMENTS = (RESNET18, VGG16, RESNET34, DENSENET121, GOOGLENET)

HEADINGS = ("network", "optimizer", "ours", "runs", "paper", "difference")
SMALL_HEADINGS = ("network", "optimizer", "ours", "runs", "place", "paper", "paper's network", "place there")
CAPTION = (
    "Test error in percent at the best epoch, mean ± standard deviation over runs; the paper's are of three runs. The "
    "best epoch is picked on the test images, so it is optimistic, ours as theirs."
)


class Cell(NamedTuple):
    """A cell of the table; None means that there is no number.

    ``mean``, ``sd`` and ``difference`` are of the finished runs; ``runs`` describes which runs exist. ``paper_model``
    is the network of the paper's numbers; if it differs from ours, there is no difference. ``place`` is the optimizer's
    rank among those of the network that have a mean, from 1 for the lowest; ``paper_place`` is its rank in the paper.
    ``machine`` names the processors or GPUs that the network's runs were trained on; empty if there are none.
    """

    dataset: str
    model: str
    optimizer: str
    runs: str
    mean: float | None
    sd: float | None
    paper_mean: float
    paper_sd: float
    difference: float | None
    scale: str
    paper_model: str
    place: int | None
    paper_place: int
    machine: str


def cells(folder: Path, scale: Scale) -> list[Cell]:
    """All 45 cells, or 18 at small scale, from the runs in the folder.

    Raises:
        UserError: a folder has other runs, or is damaged.
    """
    return [
        cell
        for paper in EXPERIMENTS
        for ours in at([paper], scale)  # may be empty at small scale
        for cell in _placed(_of_network(folder, ours, paper, scale))
    ]


def _of_network(folder: Path, ours: Experiment, paper: Experiment, scale: Scale) -> list[Cell]:
    comparison = found(folder, ours, scale)
    machine = str(comparison.where.get("machine", ""))
    runs = {row.optimizer: row for row in summarise(comparison).rows}
    printed = TABLE1[paper.dataset, paper.model]
    return [_cell(ours, paper, runs[name], spread, scale, machine) for name, spread in printed.items()]


def _cell(ours: Experiment, paper: Experiment, row: Row, printed: Spread, scale: Scale, machine: str) -> Cell:
    found_here = spread(list(row.best.values()))
    mean, sd = (x if isfinite(x) else None for x in found_here)
    difference = None if mean is None or ours.model != paper.model else mean - printed.mean
    begun = row.planned > row.others.get("not started", 0)
    runs = row.runs if begun else NOT_RUN
    return Cell(
        ours.dataset, ours.model, row.optimizer, runs, mean, sd, *printed, difference, scale.note or scale.name,
        paper.model, None, 0, machine,
    )  # fmt: skip


def _placed(network: list[Cell]) -> list[Cell]:
    """The cells of a network with their ranks by mean; equal means share the better rank."""
    means = [cell.mean for cell in network if cell.mean is not None]
    printed = [cell.paper_mean for cell in network]
    return [
        cell._replace(
            place=None if cell.mean is None else 1 + sum(mean < cell.mean for mean in means),
            paper_place=1 + sum(mean < cell.paper_mean for mean in printed),
        )
        for cell in network
    ]


def lines(table: Sequence[Cell], scale: Scale) -> list[list[str]]:
    """The table as text, with one row per cell under `headings`."""
    return [_line(cell, small=scale is SMALL) for cell in table]


def headings(scale: Scale) -> tuple[str, ...]:
    """The headings of the columns at that scale."""
    return SMALL_HEADINGS if scale is SMALL else HEADINGS


def _line(cell: Cell, *, small: bool) -> list[str]:
    run = cell.runs != NOT_RUN
    ours = [
        f"{NAMES[cell.model]}, {NAMES[cell.dataset]}",
        recipe(cell.optimizer).label,
        _plus_minus(cell.mean, cell.sd) if run else NOT_RUN,
        cell.runs if run else NONE,
    ]
    paper = _plus_minus(cell.paper_mean, cell.paper_sd)
    if small:
        return [
            *ours,
            NONE if cell.place is None else str(cell.place),
            paper,
            NAMES[cell.paper_model],
            str(cell.paper_place),
        ]
    return [*ours, paper, NONE if cell.difference is None else f"{cell.difference:+.2f}".replace("-", "−")]


def _plus_minus(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return NONE
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def as_table(table: Sequence[Cell], scale: Scale) -> Fitting:
    """The table for the terminal, with one block per network."""
    view = Table(
        box=HORIZONTALS,
        show_edge=False,
        pad_edge=False,
        title=f"{remarked('Table 1', scale.note)}. {CAPTION}",
        title_justify="left",
    )
    for heading in headings(scale):
        name = "ours −\npaper" if heading == "difference" else heading  # to fit in 80 columns
        view.add_column(name, justify="left" if heading in HEADINGS[:2] else "right", no_wrap=heading != "runs")
    texts = lines(table, scale)
    for line, following in zip(texts, [*texts[1:], [""]], strict=True):
        view.add_row(line[0].partition(",")[0], *line[1:], end_section=line[0] != following[0])
    return Fitting(view)


def markdown(table: Sequence[Cell], scale: Scale) -> str:
    """The table for a README, of the networks that have a run; under it what it means, and the networks that have none.

    At small scale it has the rank correlations. It names the machines of the runs.
    """
    begun = {(cell.model, cell.dataset) for cell in table if cell.runs != NOT_RUN}
    run = [cell for cell in table if (cell.model, cell.dataset) in begun]
    without = dict.fromkeys(
        f"{NAMES[c.model]} on {NAMES[c.dataset]}" for c in table if (c.model, c.dataset) not in begun
    )
    under = [remarked(CAPTION, scale.note), *(orders(run) if scale is SMALL else []), *machines(run)] if run else []
    if without:
        under.append(f"{NOT_RUN.capitalize()}: {', '.join(without)}.")
    drawn = [as_markdown(headings(scale), lines(run, scale), left=2)] if run else []
    return "\n".join([*drawn, *(f"{text}\n" for text in under)])


def orders(table: Sequence[Cell]) -> list[str]:
    """For each network, the rank correlation of our means with the paper's, over the optimizers that have been run."""
    said = []
    for model, dataset, paper_model in dict.fromkeys((c.model, c.dataset, c.paper_model) for c in table):
        run = [(c.mean, c.paper_mean) for c in table if (c.model, c.dataset) == (model, dataset) and c.mean is not None]
        what = f"{NAMES[model]} on {NAMES[dataset]} and the paper's {NAMES[paper_model]} order the optimizers"
        if len(run) < 3:  # a rank correlation of two means nothing
            continue
        rank = rank_correlation(*zip(*run, strict=True))
        interval = f"95 % interval {rank.low:.2f} to {rank.high:.2f}" if isfinite(rank.low) else "no interval"
        text = f"{what} with rank correlation {rank.value:.2f} ({interval}, {rank.number} optimizers)."
        said.append(text.replace("-0.", "−0.").replace("-1.", "−1."))
    return said


def machines(table: Sequence[Cell]) -> list[str]:
    """A sentence that says where each network was trained; none if no network was."""
    networks = dict.fromkeys((f"{NAMES[c.model]} on {NAMES[c.dataset]}", c.machine) for c in table if c.machine)
    return [f"Trained on: {'; '.join(f'{network}, {machine}' for network, machine in networks)}."] if networks else []


def draw(folder: Path, scale: Scale) -> Drawn:
    """Write table1.csv and table1.md into the folder, from its runs."""
    table = cells(folder, scale)
    files = [folder / "table1.csv", folder / "table1.md"]
    write_csv(files[0], table)
    write_whole(files[1], lambda part: part.write_text(markdown(table, scale), encoding="utf-8"))
    return Drawn(files, as_table(table, scale))
