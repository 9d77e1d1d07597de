"""Stability margins of several runs or checkpoints, as a table and as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from adai.lab.results.measured import Measured
from adai.lab.results.words import short
from adai.report.fitting import Fitting
from adai.report.rows import write_csv, write_json
from adai.report.tables import NONE, Cells, for_terminal

COLUMNS = ("loss", "lr", "margin", "largest_lr")


class Row(NamedTuple):
    """One run after one of its epochs; None for numbers that are not finite."""

    run: str
    epoch: int
    loss: float | None
    lr: float | None
    margin: float | None
    largest_lr: float | None
    batch_norm: str
    samples: int


def write(folder: Path, found: Mapping[str, Measured]) -> None:
    """Write ``stability.csv`` and ``stability.json``."""
    rows = [
        Row(
            run=name,
            epoch=kept.epoch,
            **{key: kept.number(key) for key in COLUMNS},
            batch_norm=kept.about["batch_norm"],
            samples=kept.about["samples"],
        )
        for name, kept in found.items()
    ]
    write_csv(folder / "stability.csv", rows)
    write_json(folder / "stability.json", rows, {"settings": next(iter(found.values())).settings})


def as_table(found: Mapping[str, Measured]) -> Fitting:
    """The table for the terminal."""
    rows = [
        [
            name,
            str(kept.epoch),
            *(NONE if x is None else short(x) if x > 1e-3 or not x else f"{x:.2g}" for x in map(kept.number, COLUMNS)),
        ]
        for name, kept in found.items()
    ]
    title = "stability margin: the learning rate over the largest stable one"
    return for_terminal(Cells(title, ["run", "epoch", "loss", "lr", "margin", "largest stable lr"], rows))


def about(found: Mapping[str, Measured]) -> str:
    """Batch norm's mode and the number of samples, once where they are the same for all."""
    texts = {name: f"Batch norm: {k.about['batch_norm']}; {k.about['samples']} samples." for name, k in found.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"{name}: {text}" for name, text in texts.items())
