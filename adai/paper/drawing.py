"""Helpers of all tables and figures of training runs: they find the runs on disk and describe the result."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import RenderableType

from adai.errors import UserError
from adai.lab.results.comparison import Comparison, Entrant, read
from adai.paper.experiments import Experiment, Scale


class Drawn(NamedTuple):
    """The files written, and a table for the terminal if there is one."""

    files: list[Path]
    table: RenderableType | None = None


def found(folder: Path, experiment: Experiment, scale: Scale) -> Comparison:
    """The runs of the experiment's optimizers in the folder. An optimizer that has not been run has an empty list.

    Raises:
        UserError: the folder's runs have other settings, or are damaged.
    """
    path = folder / experiment.name
    if not (path / "config.json").exists():
        epochs = experiment.runs(scale)[experiment.optimizers[0]].epochs
        return Comparison(path, {"epochs": epochs}, [Entrant(name, {}, []) for name in experiment.optimizers])
    comparison = read(path)
    if departures := experiment.departures(comparison.config, scale):
        raise UserError(
            f"{path} holds other runs than those of --scale {scale.name} ({departures[0]}); give another folder with "
            "--out"
        )
    there = {entrant.name: _planned(entrant, scale) for entrant in comparison.entrants}
    return replace(comparison, entrants=[there.get(name, Entrant(name, {}, [])) for name in experiment.optimizers])


def _planned(entrant: Entrant, scale: Scale) -> Entrant:
    """The entrant without seeds beyond the scale's that it has not run: only other optimizers were given these."""
    return replace(entrant, runs=[run for run in entrant.runs if run.rows or run.seed < scale.seeds])


def titled(text: str, scale: Scale) -> str:
    """The title of a figure, with a note if it is not the paper's experiment."""
    return f"{text}\n{scale.note}" if scale.note else text
