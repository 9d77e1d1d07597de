"""The results of a suite: the comparisons of its tasks, and numbers over several tasks."""

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
    """How long runs trained until their metric reached the task's target.

    Attributes:
        reached: the number of runs that reached it.
        runs: the number of runs that have ended.
        steps: the median of the steps over the runs; inf if at least half of them did not reach the target.
        seconds: the median of the seconds of training; inf as for ``steps``.
    """

    reached: int
    runs: int
    steps: float
    seconds: float


class Trial(NamedTuple):
    """A trial of the tuning: the learning rate, and the metric, which is None if the trial died."""

    lr: float
    value: float | None


@dataclass(frozen=True)
class Suite:
    """The comparisons of a suite's folder.

    Attributes:
        path: the folder.
        tasks: the tasks by name.
        comparisons: the comparisons by the name of their task, without those that have no run yet.
    """

    path: Path
    tasks: Mapping[str, SuiteTask]
    comparisons: Mapping[str, Comparison]

    @property
    def optimizers(self) -> dict[str, str]:
        """The labels of the optimizers by name, in the order in which they were given."""
        return {e.name: e.label for comparison in self.comparisons.values() for e in comparison.entrants}

    def measure(self, task: str) -> Measure:
        """The measure by which optimizers are compared on a task."""
        return measure_of(self.comparisons[task])

    def summaries(self, reference: str | None = None) -> dict[str, Summary]:
        """The table of each task, with differences to the same reference on all tasks.

        Args:
            reference: the optimizer that the others are compared with; default Adai, else the first that takes part in
                all tasks. If no optimizer does, each task has its own reference.

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
        """The tasks on which every optimizer has a run that has ended. Profiles and ranks are over these tasks.

        On other tasks, an optimizer that has not run yet would count as one that failed.
        """
        names = self.optimizers.keys()
        return {
            task: comparison
            for task, comparison in self.comparisons.items()
            if names == {entrant.name for entrant in comparison.entrants if _ended(entrant)}
        }

    def final(self) -> Scores:
        """A number for each run after its last epoch, lower is better: the metric, or its inverse if higher is better.

        It is inf for a run that died.
        """
        return {
            task: {
                e.name: {run.seed: _final(run, self.measure(task)) for run in _ended(e)} for e in comparison.entrants
            }
            for task, comparison in self.complete.items()
        }

    def steps(self) -> Scores:
        """The steps to the target for each run that has ended; inf if it did not reach the target."""
        return {
            task: {e.name: {run.seed: self._at_target(task, run)[0] for run in _ended(e)} for e in comparison.entrants}
            for task, comparison in self.complete.items()
        }

    def to_target(self, task: str, entrant: Entrant) -> ToTarget:
        """How long an optimizer's runs trained on a task until they reached its target."""
        found = [self._at_target(task, run) for run in _ended(entrant)]
        steps, seconds = ([each[i] for each in found] for i in (0, 1))
        return ToTarget(sum(map(math.isfinite, steps)), len(found), typical(steps), typical(seconds))

    def trials(self, task: str) -> dict[str, list[Trial]]:
        """The trials of a task's tuning by optimizer; empty without tuning. The first has the recipe's own values."""
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
        """Steps and seconds of training until a run reached the target; inf if it did not."""
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


# Columns that depend on the machine.
_OF_THE_MACHINE = ("seconds", "images_per_second", "peak_memory_bytes")
# Settings that may differ between two comparisons whose runs can be compared.
_MAY_DIFFER = ("seeds", "optimizers", "contenders", "command", "workers", "processes", *WHERE)


def beside(ours: Suite, others: Suite) -> Suite:
    """Add the optimizers of another suite that this suite lacks, on the tasks that both ran with the same settings.

    Runs of the other suite lose the columns that depend on the machine, because times on two machines cannot be
    compared.

    Raises:
        UserError: there is no task that both ran with the same settings.
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
    """Write the tasks of a suite into its folder; tasks that the folder already has stay.

    Raises:
        UserError: the folder holds another task of the same name.
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
        raise UserError(f"{file} is not the file of a suite ({error}); give a folder that adai suite wrote") from error


def read_suite(folder: Path) -> Suite:
    """Read the folder of a suite.

    Raises:
        UserError: the folder holds no suite, or a file in it is damaged.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder} holds no suite; give a folder that adai suite wrote")
    tasks = _kept(folder)
    comparisons = {name: read(folder / name) for name in tasks if (folder / name / "config.json").exists()}
    begun = {n: c for n, c in comparisons.items() if any(run.rows for e in c.entrants for run in e.runs)}
    return Suite(folder, tasks, begun)
