"""What a suite comes to: the comparisons of its tasks, and the numbers that several tasks have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adai.errors import UserError
from adai.lab.results.comparison import WHERE, Comparison, Entrant, Record, read
from adai.lab.results.profiles import Scores, first_at, typical
from adai.lab.results.run import read_json, write_json
from adai.lab.results.summary import Measure, Summary, measure_of, summarise
from adai.lab.tasks.suite import SuiteTask

FILE = "suite.json"


class ToTarget(NamedTuple):
    """How far runs had to train until their metric reached the task's target.

    Attributes:
        reached: how many of the runs did.
        runs: how many have ended.
        steps: median over the runs; inf if half of them or more never got there.
        seconds: of training, likewise.
    """

    reached: int
    runs: int
    steps: float
    seconds: float


class Trial(NamedTuple):
    """A trial of the tuning: learning rate, and the metric; None if it died."""

    lr: float
    value: float | None


@dataclass(frozen=True)
class Suite:
    """The comparisons of a folder by the names of the tasks, those without a run left out.

    Attributes:
        path: the folder.
        tasks: what each task is.
        comparisons: by the same names.
    """

    path: Path
    tasks: Mapping[str, SuiteTask]
    comparisons: Mapping[str, Comparison]

    @property
    def optimizers(self) -> dict[str, str]:
        """Their labels by name, in the order they were asked for."""
        return {e.name: e.label for comparison in self.comparisons.values() for e in comparison.entrants}

    def measure(self, task: str) -> Measure:
        """What decides on a task."""
        return measure_of(self.comparisons[task])

    def summaries(self, reference: str | None = None) -> dict[str, Summary]:
        """The table of every task, with differences to the same reference on all of them.

        Args:
            reference: default Adai, else the first optimizer. If none takes part in all tasks, each task has its own.

        Raises:
            UserError: the reference does not take part in all tasks.
        """
        everywhere = [n for n in self.optimizers if all(n in c.names for c in self.comparisons.values())]
        if reference is None:
            reference = "adai" if "adai" in everywhere else next(iter(everywhere), None)
        elif reference not in everywhere:
            choice = f"choose from {', '.join(everywhere)}" if everywhere else "no optimizer does, leave it out"
            raise UserError(f"the reference {reference!r} does not take part in all tasks; {choice}")
        return {task: summarise(comparison, reference) for task, comparison in self.comparisons.items()}

    @property
    def complete(self) -> dict[str, Comparison]:
        """The tasks on which a run of every optimizer has ended. Profiles and ranks are taken over these alone.

        An optimizer that has not run a task yet would count as one that failed on it.
        """
        names = self.optimizers.keys()
        return {
            task: comparison
            for task, comparison in self.comparisons.items()
            if names == {entrant.name for entrant in comparison.entrants if _ended(entrant)}
        }

    def final(self) -> Scores:
        """After the last epoch, less is better: the metric, its inverse if more is better; inf of runs that died."""
        return {
            task: {e.name: [_final(run, self.measure(task)) for run in _ended(e)] for e in comparison.entrants}
            for task, comparison in self.complete.items()
        }

    def steps(self) -> Scores:
        """Steps to the target of every run that has ended; inf if it never got there."""
        return {
            task: {e.name: [self._at_target(task, run)[0] for run in _ended(e)] for e in comparison.entrants}
            for task, comparison in self.complete.items()
        }

    def to_target(self, task: str, entrant: Entrant) -> ToTarget:
        """How far an optimizer's runs had to train on a task."""
        found = [self._at_target(task, run) for run in _ended(entrant)]
        steps, seconds = ([each[i] for each in found] for i in (0, 1))
        return ToTarget(sum(map(math.isfinite, steps)), len(found), typical(steps), typical(seconds))

    def trials(self, task: str) -> dict[str, list[Trial]]:
        """The trials of a task's tuning by optimizer, first the recipe's own values; empty without tuning."""
        file = self.path / task / "tuning" / "tuning.json"
        if not file.is_file():
            return {}
        sign = 1 if self.measure(task).lower_is_better else -1
        return {
            name: [
                Trial(float(one["lr"]), None if one["value"] is None else sign * one["value"])
                for one in tried
                if "lr" in one
            ]
            for name, tried in read_json(file).get("trials", {}).items()
        }

    def _at_target(self, task: str, run: Record) -> tuple[float, float]:
        """Steps and seconds of training until a run reached the target; inf if it never did."""
        measure = self.measure(task)
        values = run.column(measure.column).tolist()
        epoch = first_at(values, self.tasks[task].target, lower_is_better=measure.lower_is_better)
        if epoch is None:
            return math.inf, math.inf
        steps, seconds = (run.column(name)[:epoch] for name in ("steps", "seconds"))
        return float(np.nansum(steps)), float(np.nansum(seconds)) if np.isfinite(seconds).any() else math.inf


def _ended(entrant: Entrant) -> Sequence[Record]:
    return [run for run in entrant.runs if run.status == "finished" or run.died]


def _final(run: Record, measure: Measure) -> float:
    value = float(run.column(measure.column)[-1])
    if run.died or not math.isfinite(value):
        return math.inf
    return value if measure.lower_is_better else 1 / value if value else math.inf


# What depends on the machine that ran it.
_OF_THE_MACHINE = ("seconds", "images_per_second", "peak_memory_bytes")
# What two comparisons may differ in, and their runs still compare.
_MAY_DIFFER = ("seeds", "optimizers", "contenders", "command", "workers", "processes", *WHERE)


def beside(ours: Suite, others: Suite) -> Suite:
    """The suite with the optimizers of another one that it lacks, on the tasks that both have run alike.

    Runs of the other suite lose the columns that depend on the machine: times compare within one machine alone.

    Raises:
        UserError: no task has been run alike in both.
    """
    comparisons = dict(ours.comparisons)
    joined = 0
    for task, comparison in ours.comparisons.items():
        other = others.comparisons.get(task)
        if other is None or _shared(comparison) != _shared(other):
            continue
        joined += 1
        known = {entrant.name for entrant in comparison.entrants}
        added = [replace(e, runs=[_timeless(run) for run in e.runs]) for e in other.entrants if e.name not in known]
        comparisons[task] = replace(comparison, entrants=[*comparison.entrants, *added])
    if not joined:
        raise UserError(
            f"no task of {ours.path} was run with the settings and trials of {others.path}; run both with the same"
        )
    return replace(ours, comparisons=comparisons)


def _shared(comparison: Comparison) -> dict[str, Any]:
    return {key: value for key, value in comparison.config.items() if key not in _MAY_DIFFER}


def _timeless(run: Record) -> Record:
    return replace(run, rows=[{k: v for k, v in row.items() if k not in _OF_THE_MACHINE} for row in run.rows])


def keep(folder: Path, tasks: Mapping[str, SuiteTask]) -> None:
    """Write what the tasks of a folder are, beside those that it has.

    Raises:
        UserError: the folder holds a task of the same name that is another.
    """
    there = _kept(folder) if (folder / FILE).is_file() else {}
    for name, one in tasks.items():
        if name in there and (there[name].task, there[name].target) != (one.task, one.target):
            raise UserError(f"{folder} holds another task {name!r} ({there[name].task}); give another `folder`")
    both = {**there, **tasks}
    write_json(folder / FILE, {name: {**one._asdict(), "settings": dict(one.settings)} for name, one in both.items()})


def _kept(folder: Path) -> dict[str, SuiteTask]:
    file = folder / FILE
    try:
        return {name: SuiteTask(**one) for name, one in read_json(file).items()}
    except (TypeError, AttributeError) as error:
        raise UserError(f"{file} is not that of a suite ({error}); give a folder that adai suite wrote") from error


def read_suite(folder: Path) -> Suite:
    """Read the folder of a suite.

    Raises:
        UserError: it holds none, or a file in it is damaged.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no suite; give a folder that adai suite wrote")
    tasks = _kept(folder)
    comparisons = {name: read(folder / name) for name in tasks if (folder / name / "config.json").exists()}
    begun = {n: c for n, c in comparisons.items() if any(run.rows for e in c.entrants for run in e.runs)}
    return Suite(folder, tasks, begun)
