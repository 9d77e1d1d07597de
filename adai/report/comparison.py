"""A comparison as its folder holds it, with every run that was meant to be there and what became of it.

Columns that the rows lack are nan throughout, so folders of any version can be read.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adai.errors import UserError
from adai.lab.measure.curvature.kept import Kept, kept_in, most
from adai.lab.measure.stability.kept import KeptMargin, margins_in
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.outcome import DIED, outcome, start_of
from adai.lab.results.outcome import Status as Outcome
from adai.lab.results.run import read_json

Array = NDArray[np.float64]
Status = Outcome | Literal["not started"]

# What config.json tells of where a run was done, not of what it is.
WHERE = ("adai", "torch", "python", "machine", "device", "threads")


@dataclass(frozen=True)
class Run:
    """One optimizer from one seed.

    Attributes:
        seed: of the run.
        status: what became of it.
        rows: an epoch a row.
        flatness: every measurement that it keeps, of whatever epoch and settings.
        stability: likewise.
        where: versions and machine, as its own ``config.json`` has them.
    """

    seed: int
    status: Status
    rows: Sequence[dict[str, Any]]
    flatness: Sequence[Kept] = ()
    stability: Sequence[KeptMargin] = ()
    where: Mapping[str, Any] = field(default_factory=dict)

    @property
    def died(self) -> bool:
        """Whether it ended with nothing to show: it diverged, or did not learn."""
        return self.status in DIED

    def column(self, name: str) -> Array:
        """One number an epoch; nan where it was not recorded, or not finite."""
        values = (row.get(name) for row in self.rows)
        return np.array([float(v) if isinstance(v, int | float) else np.nan for v in values], dtype=np.float64)


@dataclass(frozen=True)
class Entrant:
    """An optimizer of the comparison with its runs, by seed.

    Attributes:
        name: its label in the comparison, or the name of a recipe.
        options: what it runs with.
        runs: by seed.
        spec: what it is: the name of a recipe, ``torch:NAdam``, ``package.module:thing``.
        given: which of its options are not its own defaults; None where that is not recorded.
    """

    name: str
    options: dict[str, Any]
    runs: Sequence[Run]
    spec: str = ""
    given: Sequence[str] | None = None

    @property
    def label(self) -> str:
        """The name people know it by."""
        return RECIPES[self.name].label if self.name in RECIPES else self.name

    @property
    def finished(self) -> list[Run]:
        """The runs that reached their last epoch and learned: the ones that means are taken over."""
        return [run for run in self.runs if run.status == "finished"]

    @property
    def stopped(self) -> list[Run]:
        """The runs that did not, but have epochs to show."""
        return [run for run in self.runs if run.status != "finished" and run.rows]


Numbers = dict[str, float | None]


class Flatness(NamedTuple):
    """How flat the loss is where finished runs have come to, all measured alike.

    Args:
        about: what it was computed with, batch norm's mode among it.
        runs: by optimizer and seed the numbers of `adai.lab.measure.curvature.measure.Row`; None for what was not
            finite.
        at_loss: where all of them have this loss; None after the last epoch.
        unit: of the loss; may be empty.
    """

    about: dict[str, Any]
    runs: dict[str, dict[int, Numbers]]
    at_loss: float | None = None
    unit: str = "nats"

    def values(self, optimizer: str, measure: str) -> dict[int, float]:
        """One number a run, by seed, of those that have it."""
        runs = self.runs.get(optimizer, {})
        return {seed: float(value) for seed, own in runs.items() if (value := own.get(measure)) is not None}


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Attributes:
        path: its folder.
        config: what its ``config.json`` says.
        entrants: the optimizers, in the order they were asked for.
    """

    path: Path
    config: dict[str, Any]
    entrants: Sequence[Entrant]

    @property
    def title(self) -> str:
        """Model and task."""
        return " on ".join(str(self.config[key]) for key in ("model", "task") if self.config.get(key))

    @property
    def names(self) -> list[str]:
        """The labels of the optimizers."""
        return [entrant.name for entrant in self.entrants]

    @property
    def where(self) -> dict[str, Any]:
        """Versions and machine of the runs, as they themselves say, else as the comparison does."""
        told: dict[str, Any] = {}
        for key in WHERE:
            values = dict.fromkeys(str(run.where[key]) for e in self.entrants for run in e.runs if key in run.where)
            if values or key in self.config:
                told[key] = ", ".join(values) or self.config[key]
        return told

    @property
    def loss_unit(self) -> str:
        """Nats where classes are told apart, which `adai` does by cross-entropy; nothing for a loss of another kind."""
        return "nats" if self.recorded("test_error") else ""

    def recorded(self, column: str) -> bool:
        """Whether any epoch of any run has a number there."""
        return any(np.isfinite(run.column(column)).any() for e in self.entrants for run in e.runs)

    @property
    def flatness(self) -> Flatness:
        """That after the last epoch of the finished runs; where they were measured in several ways, as most were."""
        last = [[kept for kept in run.flatness if kept.epoch == len(run.rows)] for _, run in self.finished]
        settings = most(last)
        about: dict[str, Any] = {}
        runs: dict[str, dict[int, Numbers]] = {}
        for (name, run), measured in zip(self.finished, last, strict=True):
            for kept in measured:
                if kept.settings == settings:
                    about = about or kept.about
                    runs.setdefault(name, {})[run.seed] = kept.numbers
        return Flatness(about, runs, unit=self.loss_unit)

    @property
    def finished(self) -> list[tuple[str, Run]]:
        """Every finished run, with its optimizer."""
        return [(entrant.name, run) for entrant in self.entrants for run in entrant.finished]


def read(path: Path) -> Comparison:
    """Read the folder of a comparison: the runs that were asked for, and whatever others lie there.

    Raises:
        UserError: it holds none, or a file in it is damaged.
    """
    config = _config(path)
    asked, seeds = config["optimizers"], config.get("seeds", 0)
    options = {str(name): asked[name] if isinstance(asked, dict) else {} for name in asked}
    contenders = config.get("contenders", {})
    planned = dict.fromkeys(options, set(range(seeds)) if isinstance(seeds, int) else set())
    for file in sorted(path.glob("*/seed*/metrics.jsonl")):
        name, seed = file.parent.parent.name, file.parent.name.removeprefix("seed")
        if seed.isdecimal():
            planned[name] = planned.get(name, set()) | {int(seed)}
    entrants = [
        Entrant(
            name,
            options.get(name, {}),
            [_run(path, name, seed, config) for seed in sorted(wanted)],
            **contenders.get(name, {"spec": name}),
        )
        for name, wanted in planned.items()
    ]
    return Comparison(path, config, entrants)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    advice = "give a folder that adai compare wrote"
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} holds no comparison ({file}: {error.strerror}); {advice}") from error
    except ValueError as error:
        raise UserError(f"{file} is not JSON ({error}); {advice}") from error
    known = isinstance(config, dict) and isinstance(config.get("epochs"), int)
    if not known or not isinstance(config.get("optimizers"), dict | list):
        raise UserError(f"{file} is not that of a comparison: it lacks optimizers and epochs; {advice}")
    return config


def _run(path: Path, name: str, seed: int, config: Mapping[str, Any]) -> Run:
    folder = path / name / f"seed{seed}"
    rows = _rows(folder / "metrics.jsonl")
    if not rows:
        return Run(seed, "not started", rows)
    status = outcome(rows, config["epochs"], start_of(folder, config))
    flatness = () if status in DIED else kept_in(folder)
    return Run(seed, status, rows, flatness, margins_in(folder), _where(folder))


def _where(folder: Path) -> dict[str, Any]:
    """Versions and machine of a run; nothing where it does not say, as those of an early version."""
    file = folder / "config.json"
    content = read_json(file) if file.is_file() else {}
    return {key: content[key] for key in WHERE if key in content}


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may have been cut off
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}; move the run away, and adai compare does it again") from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"cannot read {file}: not one object a line; move the run away, and adai compare does it again")
    return rows


def over_runs(runs: Sequence[Run], column: str) -> Array:
    """A column of several runs as (runs, epochs), filled up with nan where a run has fewer epochs."""
    columns = [run.column(column) for run in runs]
    table = np.full((len(columns), max((c.size for c in columns), default=0)), np.nan)
    for row, values in zip(table, columns, strict=True):
        row[: values.size] = values
    return table


def mean_over_runs(values: Array) -> Array:
    """Mean over runs of what they recorded, epoch by epoch."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))


def ms_per_step(run: Run, batch: int | None) -> float:
    """Median over the epochs of the mean time of a training step, in ms; nan where it was not recorded."""
    candidates = [run.column("ms_per_step"), 1e3 * run.column("seconds") / run.column("steps")]
    if batch:
        candidates.append(1e3 * batch / run.column("images_per_second"))
    times = next((times for times in candidates if np.isfinite(times).any()), candidates[0])
    return median(times)


def median(values: Array) -> float:
    """Median of the finite values; nan where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
