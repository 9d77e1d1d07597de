"""Table 1: lowest test error over the epochs, nine optimizers on five networks; ours beside the paper's."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from rich.box import HORIZONTALS
from rich.table import Table

from adai.files import write_whole
from adai.lab.optimizers import recipe
from adai.lab.stats import Spread, spread
from adai.paper.drawing import Drawn, found
from adai.paper.experiments import DENSENET121, GOOGLENET, NAMES, RESNET18, RESNET34, VGG16, Scale, remarked
from adai.paper.published import TABLE1
from adai.report.fitting import Fitting
from adai.report.grid import NOT_RUN
from adai.report.rows import write_csv
from adai.report.summary import Row, summarise
from adai.report.tables import NONE, as_markdown

EXPERIMENTS = (RESNET18, VGG16, RESNET34, DENSENET121, GOOGLENET)

HEADINGS = ("network", "optimizer", "ours", "runs", "paper", "difference")
CAPTION = (
    "Test error in percent at the best epoch, mean ± standard deviation over runs; the paper's are of three runs. The "
    "best epoch is picked on the test images, so it is optimistic, ours as theirs."
)


class Cell(NamedTuple):
    """A cell of the table; None where there is no number.

    ``mean``, ``sd`` and ``difference`` are of the finished runs, ``runs`` says in words what there is.
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


def cells(folder: Path, scale: Scale) -> list[Cell]:
    """All 45, from the runs within the folder.

    Raises:
        UserError: a folder holds other runs, or is damaged.
    """
    table = []
    for experiment in EXPERIMENTS:
        runs = {row.optimizer: row for row in summarise(found(folder, experiment, scale)).rows}
        key = experiment.dataset, experiment.model
        table += [_cell(*key, runs[name], paper, scale) for name, paper in TABLE1[key].items()]
    return table


def _cell(dataset: str, model: str, row: Row, paper: Spread, scale: Scale) -> Cell:
    ours = spread(list(row.best.values()))
    numbers = (*ours, ours.mean - paper.mean)
    mean, sd, difference = (x if isfinite(x) else None for x in numbers)
    begun = row.planned > row.others.get("not started", 0)
    runs = row.runs if begun else NOT_RUN
    return Cell(dataset, model, row.optimizer, runs, mean, sd, *paper, difference, scale.note or scale.name)


def lines(table: Sequence[Cell]) -> list[list[str]]:
    """The table as people read it."""
    return [
        [
            f"{NAMES[cell.model]}, {NAMES[cell.dataset]}",
            recipe(cell.optimizer).label,
            NOT_RUN if cell.runs == NOT_RUN else _plus_minus(cell.mean, cell.sd),
            NONE if cell.runs == NOT_RUN else cell.runs,
            _plus_minus(cell.paper_mean, cell.paper_sd),
            NONE if cell.difference is None else f"{cell.difference:+.2f}".replace("-", "−"),
        ]
        for cell in table
    ]


def _plus_minus(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return NONE
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def as_table(table: Sequence[Cell], scale: Scale) -> Fitting:
    """The table for the terminal, a block a network."""
    view = Table(
        box=HORIZONTALS,
        show_edge=False,
        pad_edge=False,
        title=f"{remarked('Table 1', scale.note)}. {CAPTION}",
        title_justify="left",
    )
    for heading in HEADINGS:
        name = "ours −\npaper" if heading == "difference" else heading  # in 80 columns
        view.add_column(name, justify="left" if heading in HEADINGS[:2] else "right", no_wrap=heading != "runs")
    texts = lines(table)
    for line, following in zip(texts, [*texts[1:], [""]], strict=True):
        view.add_row(line[0].partition(",")[0], *line[1:], end_section=line[0] != following[0])
    return Fitting(view)


def markdown(table: Sequence[Cell], scale: Scale) -> str:
    """The table for a README."""
    return f"{as_markdown(HEADINGS, lines(table), left=2)}\n{remarked(CAPTION, scale.note)}\n"


def draw(folder: Path, scale: Scale) -> Drawn:
    """Write table1.csv and table1.md into the folder, from the runs within it."""
    table = cells(folder, scale)
    files = [folder / "table1.csv", folder / "table1.md"]
    write_csv(files[0], table)
    write_whole(files[1], lambda part: part.write_text(markdown(table, scale), encoding="utf-8"))
    return Drawn(files, as_table(table, scale))
