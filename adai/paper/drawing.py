"""What every table and figure of training runs does: find its runs on disk, and say what it has drawn."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import RenderableType

from adai.errors import UserError
from adai.lab.results.comparison import Comparison, Entrant, read
from adai.paper.experiments import Experiment, Scale


class Drawn(NamedTuple):
    """The files written, and a table for the terminal where there is one."""

    files: list[Path]
    table: RenderableType | None = None


def found(folder: Path, experiment: Experiment, scale: Scale) -> Comparison:
    """The experiment's runs within the folder, of its optimizers alone; an optimizer without any is there with none.

    Raises:
        UserError: what is there was run with other settings, or is damaged.
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
    """The entrant without the further seeds that only others were given: nothing of them is missing."""
    return replace(entrant, runs=[run for run in entrant.runs if run.rows or run.seed < scale.seeds])


def titled(text: str, scale: Scale) -> str:
    """The title of a figure, which says so where it is not the paper's experiment."""
    return f"{text}\n{scale.note}" if scale.note else text
