"""The table of a comparison, and the sentence that says who won."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from adai.files import write_whole
from adai.lab.optimizers import RECIPES
from adai.lab.runs import RunFolder
from adai.lab.stats import Spread, paired_difference, spread


class Row(NamedTuple):
    """An optimizer over its finished seeds; errors in percent of the test images, one number a seed."""

    optimizer: str
    label: str
    best_errors: list[float]
    last_errors: list[float]
    train_losses: list[float]
    ms_per_step: float


def rows(folder: RunFolder) -> list[Row]:
    """The optimizers that have finished runs, lowest mean test error after the last epoch first.

    The best over epochs is the paper's measure. It is picked on the test images, so it is optimistic.
    """
    config = folder.config()
    table = []
    for name in config["optimizers"]:
        runs = [folder.metrics(name, seed) for seed in range(config["seeds"]) if folder.finished(name, seed)]
        if runs:
            table.append(
                Row(
                    name,
                    RECIPES[name].label,
                    [min(epoch["test_error"] for epoch in run) for run in runs],
                    [run[-1]["test_error"] for run in runs],
                    [run[-1]["train_loss"] for run in runs],
                    _median([1e3 * epoch["seconds"] / epoch["steps"] for run in runs for epoch in run]),
                )
            )
    return sorted(table, key=lambda row: spread(row.last_errors).mean)


def write_csv(path: Path, table: Sequence[Row]) -> None:
    """Write the table as ``summary.csv``, every number in full."""
    header = ["optimizer", "seeds", "best_error_mean", "best_error_sd", "last_error_mean", "last_error_sd",
              "train_loss_mean", "train_loss_sd", "ms_per_step_median"]  # fmt: skip

    def write(part: Path) -> None:
        with part.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(header)
            for row in table:
                spreads = (spread(row.best_errors), spread(row.last_errors), spread(row.train_losses))
                numbers = [number for s in spreads for number in s]
                writer.writerow([row.optimizer, len(row.last_errors), *numbers, row.ms_per_step])

    write_whole(path, write)


def as_table(table: Sequence[Row]) -> Table:
    """The table for the terminal."""
    view = Table(title="test error in percent, mean ± standard deviation over seeds", title_justify="left")
    view.add_column("optimizer", no_wrap=True)
    for column in ("seeds", "best epoch", "last epoch", "train loss", "ms / step"):
        view.add_column(column, justify="right")
    for row in table:
        view.add_row(
            row.label,
            str(len(row.last_errors)),
            _pm(spread(row.best_errors), 2),
            _pm(spread(row.last_errors), 2),
            f"{spread(row.train_losses).mean:.4f}",
            f"{row.ms_per_step:.2f}",
        )
    return view


def verdict(table: Sequence[Row]) -> str:
    """Who has the lowest test error after the last epoch, and whether these seeds can tell."""
    if len(table) < 2:
        return "One optimizer alone: nothing to compare."
    first, second = table[:2]
    seeds = min(len(first.last_errors), len(second.last_errors))
    lead = f"{first.label} has the lowest test error after the last epoch, {second.label} follows"
    if seeds < 3:
        return f"{lead}; no verdict below 3 seeds."
    gap = paired_difference(second.last_errors[:seeds], first.last_errors[:seeds])
    interval = f"by {gap.mean:.2f} points, 95 % interval {gap.low:.2f} to {gap.high:.2f}, {seeds} seeds"
    return f"{lead} {interval}: {'a clear lead' if gap.low > 0 else 'too close to call'}."


def _pm(s: Spread, digits: int) -> str:
    return f"{s.mean:.{digits}f} ± {s.sd:.{digits}f}"


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
