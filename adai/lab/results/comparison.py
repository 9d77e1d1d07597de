"""A comparison read from its folder: its optimizers, and each of their runs with its status.

A column that the rows lack is nan everywhere, so folders of any version can be read.
"""

import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from adai.errors import UserError
from adai.lab.measure.table import defaults
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.measured import Measured, columns_in, measured_in, measures_in
from adai.lab.results.outcome import DIED, outcome, start_of
from adai.lab.results.outcome import Status as Outcome
from adai.lab.results.run import Run, read_json

if TYPE_CHECKING:  # reading runs does not need these packages
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from adai.lab.queue.attempts import Failure

Array = NDArray[np.float64]
Status = Outcome | Literal["not started"]

# The keys of config.json that describe the versions and the machine, not the settings.
WHERE = ("adai", "torch", "python", "machine", "device", "threads")


@dataclass(frozen=True)
class Record:
    """A run, one optimizer with one seed, as it was when its folder was read.

    Attributes:
        seed: its seed.
        status: its status; see `adai.lab.results.outcome`.
        rows: a row for each epoch.
        measures: all its measurements, after any epoch and with any settings, by the measure's name.
        where: versions and machine, from its ``config.json``.
        columns: the headings of the measures that are not adai's own, by the measure's name.
        metric: the description of the task's own metric (`adai.lab.tasks.metric.Metric.about`); None if it has none.
    """

    seed: int
    status: Status
    rows: Sequence[Mapping[str, Any]]
    measures: Mapping[str, Sequence[Measured]] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    metric: Mapping[str, Any] | None = None

    def measured(self, measure: str) -> Sequence[Measured]:
        """Its measurements of one measure."""
        return self.measures.get(measure, ())

    @property
    def died(self) -> bool:
        """Whether it diverged or did not learn."""
        return self.status in DIED

    def column(self, name: str) -> Array:
        """A number for each epoch, nan if it was not recorded or not finite."""
        values = (row.get(name) for row in self.rows)
        return np.array([float(v) if isinstance(v, int | float) else np.nan for v in values], dtype=np.float64)


@dataclass(frozen=True)
class Entrant:
    """An optimizer of the comparison with its runs.

    Attributes:
        name: its label in the comparison, or the name of a recipe.
        options: its options.
        runs: its runs, in the order of their seeds.
        spec: the optimizer itself: the name of a recipe, ``torch:NAdam`` or ``package.module:thing``.
        given: the names of the options that differ from its defaults; None if they were not recorded.
        of_model: whether it is a function of the model, which sets options itself.
    """

    name: str
    options: dict[str, Any]
    runs: Sequence[Record]
    spec: str = ""
    given: Sequence[str] | None = None
    of_model: bool = False

    @property
    def label(self) -> str:
        """Its name in tables and figures."""
        return RECIPES[self.name].label if self.name in RECIPES else self.name

    @property
    def finished(self) -> list[Record]:
        """The runs that are finished. Means are over these runs."""
        return [run for run in self.runs if run.status == "finished"]

    @property
    def stopped(self) -> list[Record]:
        """The runs that have epochs but are not finished."""
        return [run for run in self.runs if run.status != "finished" and run.rows]


@dataclass(frozen=True, repr=False)
class Comparison:
    """A comparison as it was when its folder was read.

    `adai.lab.compare` runs a comparison and returns it; `adai.lab.load` reads one.

    Attributes:
        path: its folder.
        config: the content of its ``config.json``.
        entrants: the optimizers, in the order in which they were given.
        failures: the runs that failed in the call of `adai.lab.compare` that returned this comparison.
    """

    path: Path
    config: dict[str, Any]
    entrants: Sequence[Entrant]
    failures: Sequence["Failure"] = ()

    def verdict(self, reference: str | None = None) -> str:
        """A sentence about the differences between the optimizers, in the task's metric, test error or test loss.

        Args:
            reference: the optimizer that the others are compared with; default ``adai``, else the first.

        Raises:
            UserError: the reference takes no part.
        """
        from adai.lab.results import summary

        return summary.verdict(summary.summarise(self, reference))

    def summary(self, reference: str | None = None) -> "DataFrame":
        """A table with a row for each optimizer: test error, difference to the reference, time, memory.

        Args:
            reference: as in `verdict`.

        Raises:
            UserError: the reference takes no part.
        """
        from adai.lab.results import frames, summary

        return frames.summary(summary.summarise(self, reference))

    def to_frame(self, measure: str | None = None) -> "DataFrame":
        """A table with a row for each run and epoch.

        Args:
            measure: the name of a measure, such as ``flatness``: the table then has a row for each measurement.
        """
        from adai.lab.results import frames

        return frames.measurements(self, measure) if measure else frames.runs(self)

    def report(self, reference: str | None = None, *, show: bool = True) -> Path:
        """Write the page, its figures and its tables into the folder, and open the page in a browser.

        Args:
            reference: the optimizer that the others are compared with; default ``adai``, else the first.
            show: whether to open the page.

        Returns:
            The path of the page.

        Raises:
            UserError: the folder cannot be written, or the reference takes no part.
        """
        from adai.report.page import report_of

        page = report_of(self.path, reference).draw()
        if show:
            webbrowser.open(page.resolve().as_uri())
        return page

    def figure(self, name: str = "test_error") -> "Figure":
        """One figure.

        Args:
            name: a column of `to_frame`, which is drawn by epoch; or the name of a figure of the report, such as
                ``scatter``.

        Raises:
            UserError: there is no such figure.
        """
        from adai.report.figures import figure

        return figure(self, name)

    def _repr_html_(self) -> str:
        from adai.report.notebook import html

        return html(self)

    def __str__(self) -> str:
        """The short table, for `print`."""
        from adai.lab.results.summary import summarise
        from adai.report.tables import plain

        return f"{self!r}\n{plain(summarise(self))}"

    def __repr__(self) -> str:
        names = ", ".join(entrant.label for entrant in self.entrants)
        return f"<Comparison of {names} on {self.title}, in {self.path}>"

    @property
    def title(self) -> str:
        """The names of the model and the task."""
        return " on ".join(str(self.config[key]) for key in ("model", "task") if self.config.get(key))

    @property
    def names(self) -> list[str]:
        """The labels of the optimizers."""
        return [entrant.name for entrant in self.entrants]

    @property
    def where(self) -> dict[str, Any]:
        """Versions and machine of the runs; if the runs did not record them, those of the comparison."""
        told: dict[str, Any] = {}
        for key in WHERE:
            values = dict.fromkeys(str(run.where[key]) for e in self.entrants for run in e.runs if key in run.where)
            if values or key in self.config:
                told[key] = ", ".join(values) or self.config[key]
        return told

    @property
    def loss_unit(self) -> str:
        """The unit of the loss: nats if errors are counted, because the loss is then a cross-entropy; else empty."""
        return "nats" if self.recorded("test_error") else ""

    def recorded(self, column: str) -> bool:
        """Whether any epoch of any run has a number in this column."""
        return any(np.isfinite(run.column(column)).any() for e in self.entrants for run in e.runs)

    @property
    def measures(self) -> list[str]:
        """The names of the measures that any run has measurements of."""
        return list(dict.fromkeys(name for e in self.entrants for run in e.runs for name in run.measures))

    def columns_of(self, measure: str) -> dict[str, str]:
        """The columns of a measure with their headings, from the files of the runs."""
        runs = [run for e in self.entrants for run in e.runs]
        return {key: heading for run in runs for key, heading in run.columns.get(measure, {}).items()}

    @property
    def metric(self) -> Mapping[str, Any] | None:
        """The description of the task's own metric, from the first run that has one."""
        return next((run.metric for e in self.entrants for run in e.runs if run.metric), None)

    @property
    def finished(self) -> list[tuple[str, Record]]:
        """Every finished run, with the name of its optimizer."""
        return [(entrant.name, run) for entrant in self.entrants for run in entrant.finished]


def read(path: Path) -> Comparison:
    """Read the folder of a comparison: the runs that its settings name, and all other runs in it.

    Raises:
        UserError: the folder holds no comparison, or a file in it is damaged.
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
            [_record(Run(path / name / f"seed{seed}"), seed, config) for seed in sorted(wanted)],
            **contenders.get(name, {"spec": name}),
        )
        for name, wanted in planned.items()
    ]
    return Comparison(path, config, entrants)


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    advice = "give a folder that adai compare wrote"
    try:
        config = read_json(file)
    except OSError as error:
        raise UserError(f"{path} holds no comparison ({file}: {error.strerror}); {advice}") from error
    if not isinstance(config.get("epochs"), int) or not isinstance(config.get("optimizers"), dict | list):
        raise UserError(f"{file} is not the file of a comparison: it lacks optimizers or epochs; {advice}")
    return config


def _record(run: Run, seed: int, config: Mapping[str, Any]) -> Record:
    """Read a run. Early versions did not keep a run's settings; those of the comparison are used then."""
    rows = run.rows()
    if not rows:
        return Record(seed, "not started", rows)
    status = outcome(rows, config["epochs"], start_of(run.path, config))
    names = measures_in(run.path)
    measures = {name: measured_in(run.path, name, defaults(name)) for name in names}
    where = run.config() if (run.path / "config.json").is_file() else {}
    return Record(
        seed,
        status,
        rows,
        measures,
        {key: where[key] for key in WHERE if key in where},
        {name: columns for name in names if (columns := columns_in(run.path, name))},
        run.metric,
    )


def over_runs(runs: Sequence[Record], column: str) -> Array:
    """A column of several runs as (runs, epochs), with nan for the epochs that a run does not have."""
    columns = [run.column(column) for run in runs]
    table = np.full((len(columns), max((c.size for c in columns), default=0)), np.nan)
    for row, values in zip(table, columns, strict=True):
        row[: values.size] = values
    return table


def mean_over_runs(values: Array) -> Array:
    """The mean over runs for each epoch, without nan, from (runs, epochs) to (epochs,)."""
    known = np.isfinite(values)
    sums, counts = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0))


def ms_per_step(run: Record, batch: int | None) -> float:
    """The median over epochs of the mean time of a training step in ms; nan if it was not recorded."""
    candidates = [run.column("ms_per_step"), 1e3 * run.column("seconds") / run.column("steps")]
    if batch:
        candidates.append(1e3 * batch / run.column("images_per_second"))
    times = next((times for times in candidates if np.isfinite(times).any()), candidates[0])
    return median(times)


def median(values: Array) -> float:
    """The median of the finite values; nan if there are none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
