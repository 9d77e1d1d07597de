"""Measurements of one net, and simulations, as Markdown from their CSV files."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from adai.paper import figure6
from adai.paper.experiments import FULL, NAMES
from adai.report.escape import LABELS
from adai.report.grid import NOT_RUN
from adai.report.tables import as_markdown

Row = dict[str, str]


def _rows(file: Path) -> list[Row]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def escape(file: Path) -> str:
    """Mean escape time by sharpness and optimizer, from an escape.csv."""
    rows = _rows(file)

    def cell(row: Row) -> str:
        mean, low, high = (f"{float(row[column]):,.0f}" for column in ("mean", "ci_low", "ci_high"))
        return f"{mean} ({low} to {high})"

    table = _by_optimizer(rows, "k", cell)
    replicas = min(int(row["replicas"]) for row in rows)
    return f"{table}\nMean escape time in iterations with its 95 % bootstrap interval, {replicas:,} replicas each.\n"


def saddle(file: Path) -> str:
    """Displacement over the exact one, by eigenvalue and optimizer, from a saddle.csv."""
    table = _by_optimizer(_rows(file), "H", lambda row: f"{float(row['msd']) / float(row['msd_exact']):.3f}")
    return f"{table}\nSimulated mean squared displacement over the exact one.\n"


def _by_optimizer(rows: Sequence[Row], line: str, cell: Callable[[Row], str]) -> str:
    """A table with a line for each number in the column ``line``, and a column for each optimizer."""
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        lines.setdefault(f"{float(row[line]):g}", {})[row["optimizer"]] = cell(row)
    body = [[number, *(cells.get(name, NOT_RUN) for name in names)] for number, cells in lines.items()]
    return as_markdown([line, *(LABELS[name] for name in names)], body)


def noise(file: Path) -> str:
    """Tail indices, and how often a test for Gaussians rejects, from a noise.csv with its noise.json."""
    rows, about = _rows(file), json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["about"]
    columns = {
        "stable α, one minibatch across parameters": "across_parameters_stable_alpha",
        "one parameter across minibatches, median": "across_minibatches_stable_alpha",
        "Anderson-Darling rejects, share": "anderson_darling_rejected",
        "of Gaussians": "anderson_darling_gaussian",
    }
    table = as_markdown(
        ["parameters", *columns],
        [[row["parameters"], *(f"{float(row[column]):.2f}" for column in columns.values())] for row in rows],
    )
    paper = figure6.settings_at(FULL)._asdict()
    net, wanted = (" on ".join(NAMES.get(x[key], x[key]) for key in ("model", "dataset")) for x in (about, paper))
    missing = "" if net == wanted else f" The paper's {wanted}: {NOT_RUN} (`adai paper figure6`)."
    return f"{table}\n{net}, {rows[0]['minibatches']} minibatches of {rows[0]['B']} images.{missing}\n"


def eq5(file: Path) -> str:
    """How well C = H/B holds, from an eq5.csv."""
    columns = {"slope of log C against log H": "slope", "correlation": "correlation", "B C / H": "factor"}
    rows = [
        [row["parameters"], row["B"], row["directions"], *(_interval(row, column) for column in columns.values())]
        for row in _rows(file)
    ]
    table = as_markdown(["parameters", "B", "directions", *columns], rows)
    return f"{table}\nEach with its 95 % interval; C = H/B has 1 throughout.\n"


def summary(file: Path) -> str:
    """Test errors of a comparison, from the summary.md beside its summary.csv."""
    return file.with_suffix(".md").read_text(encoding="utf-8")


def compared(file: Path) -> str:
    """`summary`, and the command and the machine of the comparison."""
    config = json.loads(file.with_name("config.json").read_text(encoding="utf-8"))
    return f"{summary(file)}\nMade by `{config['command']}` on {config['machine']}.\n"


def equal_loss(file: Path) -> str:
    """Test errors of a comparison, and its flatness at equal loss, from the files beside its equal-loss.csv."""
    return f"{summary(file.with_name('summary.csv'))}\n{file.with_suffix('.md').read_text(encoding='utf-8')}"


def _interval(row: Row, column: str) -> str:
    value, low, high = (float(row[name]) for name in (column, f"{column}_low", f"{column}_high"))
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
