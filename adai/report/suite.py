"""The page of a suite: what several tasks say together, and each of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.results.profiles import Scores, mean_ranks, profiles
from adai.lab.results.suite import Suite, ToTarget, Trial
from adai.lab.results.summary import Row, Summary, bounded, verdict
from adai.report.axes import log_where_it_helps
from adai.report.page import download, rendered, written
from adai.report.picture import RC, Picture, one_axes
from adai.report.rows import write_csv
from adai.report.style import style, variable
from adai.report.tables import NONE, Cells, plus_minus

PAGE = "suite.html"
FACTORS = np.geomspace(1, 10, 200)

HOW_PROFILES = (
    "A performance profile says on what share of the tasks an optimizer is within a factor τ of the best one. Higher "
    "is better; at τ = 1 it is the share of tasks on which it is the best. Bands are 95 % bootstrap bands over seeds: "
    "other seeds might have given these, other tasks might give anything."
)
HOW_RANKS = (
    "A rank says nothing of how far two optimizers are apart, and it changes with the rivals. The interval is a "
    "bootstrap's over seeds; equal optimizers share the mean of their places."
)
HOW_TARGET = (
    "Median over the runs of the steps, and of the seconds of training, until the metric after an epoch is as good as "
    "the task's target. Where half of the runs or more never got there, there is no number; how many did stands beside."
)
HOW_TRIALS = (
    "Every trial of the tuning: the metric on the validation part against the learning rate. Weight decay differs "
    "between trials too. A cross at the upper edge is a trial that diverged or failed."
)


class Line(NamedTuple):
    """An optimizer on a task, as a row of suite.csv."""

    task: str
    optimizer: str
    metric: str
    runs: int
    finished: int
    mean: float
    sd: float
    difference: float | None
    low: float | None
    high: float | None
    reached: int
    steps_to_target: float | None
    seconds_to_target: float | None
    ms_per_step: float
    state_bytes: float
    gradient_evaluations_per_step: float


def write(suite: Suite, reference: str | None = None) -> Path:
    """Write ``suite.html``, ``suite.csv`` and ``figures/`` into the suite's folder; returns the page.

    Raises:
        UserError: no run has ended, the reference takes no part, or the folder cannot be written.
    """
    if not suite.comparisons:
        raise UserError(f"{suite.path} has no run that ended an epoch; run adai suite first")
    summaries = suite.summaries(reference)
    try:
        (suite.path / "figures").mkdir(exist_ok=True)
        write_csv(suite.path / "suite.csv", lines(suite, summaries))
        with rc_context(RC):
            sections = [_for_page(suite, section) for section in _sections(suite, summaries)]
        text = rendered(
            "suite.html.j2",
            kicker="A suite of tasks",
            title=f"{len(suite.optimizers)} optimizers on {_tasks(len(suite.comparisons))}",
            verdicts=verdicts(suite, summaries),
            sections=sections,
            tasks=[(name, _said(suite, name)) for name in suite.tasks],
        )
        write_whole(suite.path / PAGE, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot write to {suite.path}: {error.strerror}; make it writable") from error
    return suite.path / PAGE


def verdicts(suite: Suite, summaries: Mapping[str, Summary]) -> list[str]:
    """The answer: in how many comparisons the reference is shown to be better or worse, then a sentence a task."""
    each = [f"{task}: {verdict(summary)}" for task, summary in summaries.items()]
    reference = _reference(summaries)
    return [_counts(suite.optimizers[reference], summaries), *each] if reference else each


def _reference(summaries: Mapping[str, Summary]) -> str | None:
    """The optimizer that the others are compared with; None if it is not the same on all tasks."""
    references = {summary.reference for summary in summaries.values()}
    return references.pop() if len(references) == 1 else None


def _counts(label: str, summaries: Mapping[str, Summary]) -> str:
    shown = [
        (task, row, summary.measure.lower_is_better)
        for task, summary in summaries.items()
        for row in summary.rows
        if row.difference and row.difference.shown
    ]
    rivals = sum(len(summary.rows) - 1 for summary in summaries.values())
    judged = sum(bool(row.difference) for summary in summaries.values() for row in summary.rows)
    better = [each for each in shown if (each[1].difference.mean > 0) == each[2]]  # type: ignore[union-attr]
    worse = len(shown) - len(better)
    text = (
        f"{label} is shown to be better than a rival in {len(better)} of {rivals} comparisons, and worse in {worse}. "
        f"In {judged - len(shown)} no difference is shown"
    )
    return f"{text}; {rivals - judged} cannot be judged, for too few runs finished." if judged < rivals else f"{text}."


def lines(suite: Suite, summaries: Mapping[str, Summary]) -> list[Line]:
    """A row for every task and optimizer."""
    found = []
    for task, summary in summaries.items():
        entrants = {e.name: e for e in suite.comparisons[task].entrants}
        for row in summary.rows:
            to = suite.to_target(task, entrants[row.optimizer])
            values = list(row.last.values())
            d = row.difference
            found.append(
                Line(
                    task,
                    row.optimizer,
                    summary.measure.name,
                    row.planned,
                    row.finished,
                    float(np.mean(values)) if values else math.nan,
                    float(np.std(values, ddof=1)) if len(values) > 1 else math.nan,
                    d.mean if d else None,
                    d.low if d else None,
                    d.high if d else None,
                    to.reached,
                    _finite(to.steps),
                    _finite(to.seconds),
                    row.ms_per_step,
                    row.state_bytes,
                    _evaluations(suite, task, row.optimizer),
                )
            )
    return found


def _evaluations(suite: Suite, task: str, optimizer: str) -> float:
    """Gradient evaluations a step: 1 but for optimizers that evaluate a batch several times."""
    runs = [run for e in suite.comparisons[task].entrants if e.name == optimizer for run in e.runs if run.rows]
    shares = [float(np.nansum(run.column("gradient_evaluations")) / np.nansum(run.column("steps"))) for run in runs]
    return float(np.median(shares)) if shares else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class Section(NamedTuple):
    """A section of the page; see `adai.report.section.Section`."""

    key: str
    title: str
    paragraphs: Sequence[str]
    table: Cells | None = None
    optimizers: Sequence[str] = ()
    note: str = ""
    files: Sequence[Path] = ()
    pictures: Sequence[Picture] = ()


def _for_page(suite: Suite, section: Section) -> dict[str, Any]:
    table = section.table
    rows = zip(section.optimizers, table.rows, strict=True) if table else ()
    names = list(suite.optimizers)
    return {
        **section._asdict(),
        "lines": [(variable(name, names), cells) for name, cells in rows],
        "downloads": [download(file) for file in section.files],
        "figures": [written(suite.path / "figures", picture) for picture in section.pictures],
    }


def _sections(suite: Suite, summaries: Mapping[str, Summary]) -> list[Section]:
    reference = _reference(summaries)
    compared = suite.optimizers[reference] if reference else "the reference of each task"
    tried = {task: found for task in suite.comparisons if (found := suite.trials(task))}
    return [
        Section(
            "results",
            "Results",
            (),
            _table(suite, summaries, "last epoch, mean ± standard deviation over seeds", _value),
            list(suite.optimizers),
            "Of the runs that finished and learned; dead runs are counted behind.",
            [suite.path / "suite.csv"],
        ),
        Section(
            "differences",
            "Differences",
            (),
            _table(suite, summaries, f"difference to {compared}, with 95 % intervals", _gap),
            list(suite.optimizers),
            "Paired over shared seeds. The intervals of one task hold together in 95 % of cases.",
        ),
        *(_over_tasks(suite) if suite.complete else []),
        Section(
            "target",
            "Steps to target",
            [HOW_TARGET],
            _table(suite, summaries, "steps to target, seconds, and runs that got there", _to_target(suite)),
            list(suite.optimizers),
        ),
        *(
            [
                Section(
                    "sensitivity",
                    "Sensitivity to the learning rate",
                    [HOW_TRIALS],
                    pictures=[trial_picture(suite, task, found) for task, found in tried.items()],
                )
            ]
            if tried
            else []
        ),
        Section(
            "cost",
            "Cost",
            ["Of a step of training, with forward and backward pass; on the machine that ran it."],
            _table(suite, summaries, "milliseconds a step, state in MB, gradient evaluations a step", _cost(suite)),
            list(suite.optimizers),
        ),
    ]


def _over_tasks(suite: Suite) -> list[Section]:
    """What several tasks say together; needs a task that all optimizers have run."""
    left_out = [task for task in suite.comparisons if task not in suite.complete]
    note = f"Without {', '.join(left_out)}, which not all optimizers have run." if left_out else ""
    return [
        Section(
            "profiles",
            "Performance profiles",
            [HOW_PROFILES],
            note=note,
            pictures=[
                profile_picture("profile-final", "By the metric after the last epoch", suite, suite.final()),
                profile_picture("profile-steps", "By the steps to the target", suite, suite.steps()),
            ],
        ),
        Section("ranks", "Mean ranks", [HOW_RANKS], _ranks(suite), list(suite.optimizers), note),
    ]


def _table(
    suite: Suite, summaries: Mapping[str, Summary], title: str, cell: Callable[[Row, Summary, str], str]
) -> Cells:
    """A row an optimizer, a column a task."""
    headings = ["optimizer", *(_heading(task, summary) for task, summary in summaries.items())]
    rows = []
    for name, label in suite.optimizers.items():
        cells = [label]
        for task, summary in summaries.items():
            row = next((row for row in summary.rows if row.optimizer == name), None)
            cells.append(cell(row, summary, task) if row else NONE)
        rows.append(cells)
    return Cells(title, headings, rows)


def _heading(task: str, summary: Summary) -> str:
    measure = summary.measure
    unit = f" ({measure.unit})" if measure.unit else ""
    return f"{task}, {measure.name.removeprefix('test ')}{unit}"


def _value(row: Row, summary: Summary, task: str) -> str:
    text = plus_minus(list(row.last.values()), summary.measure.digits)
    return f"{text}; {row.died}" if row.died else text


def _gap(row: Row, summary: Summary, task: str) -> str:
    if row.optimizer == summary.reference:
        return "reference"
    if row.difference is None or not math.isfinite(row.difference.low):
        return NONE
    digits = summary.measure.digits
    low, high = bounded(row.difference, summary.measure)
    return f"{row.difference.mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})".replace("-", "−")


def _to_target(suite: Suite) -> Callable[[Row, Summary, str], str]:
    def cell(row: Row, summary: Summary, task: str) -> str:
        entrant = next(e for e in suite.comparisons[task].entrants if e.name == row.optimizer)
        to: ToTarget = suite.to_target(task, entrant)
        share = f"{to.reached} of {to.runs}"
        seconds = f", {to.seconds:,.0f} s" if math.isfinite(to.seconds) else ""
        return f"{to.steps:,.0f}{seconds}, {share}" if math.isfinite(to.steps) else f"{NONE}, {share}"

    return cell


def _cost(suite: Suite) -> Callable[[Row, Summary, str], str]:
    def cell(row: Row, summary: Summary, task: str) -> str:
        ms = f"{row.ms_per_step:.2f}" if math.isfinite(row.ms_per_step) else NONE
        return f"{ms}, {row.state_bytes / 1e6:.2f}, {_evaluations(suite, task, row.optimizer):.2g}"

    return cell


def _ranks(suite: Suite) -> Cells:
    by = {"by the last epoch": mean_ranks(suite.final()), "by steps to target": mean_ranks(suite.steps())}
    rows = [
        [label, *(f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})" for r in (of[name] for of in by.values()))]
        for name, label in suite.optimizers.items()
    ]
    return Cells(f"mean rank over {_tasks(len(suite.complete))}, 1 is the best", ["optimizer", *by], rows)


def _tasks(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"


def profile_picture(key: str, title: str, suite: Suite, scores: Scores) -> Picture:
    """Performance profiles of all optimizers."""
    figure, ax = one_axes()
    found = profiles(scores, FACTORS.tolist())
    for name, profile in found.items():
        look = style(name, list(suite.optimizers))
        (line,) = ax.step(
            profile.factors, profile.share, where="post", color=look.light, lw=1.6, label=suite.optimizers[name]
        )
        line.set_dashes(look.dashes)
        ax.fill_between(profile.factors, profile.low, profile.high, step="post", color=look.light, alpha=0.1, lw=0)
    ax.set(xscale="log", ylim=(-0.03, 1.03), xlim=(1, FACTORS[-1]), xlabel="factor τ", ylabel="share of tasks")
    ax.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    ax.minorticks_off()
    ax.legend(fontsize=8)
    best = ", ".join(f"{suite.optimizers[name]} {profile.share[0]:.0%}" for name, profile in found.items())
    return Picture(key, title, f"Share of tasks on which none is better: {best}.".replace("%", " %"), figure)


def trial_picture(suite: Suite, task: str, found: Mapping[str, Sequence[Trial]]) -> Picture:
    """The metric of all trials against the learning rate, as a factor on the first trial's, which is the recipe's."""
    figure, ax = one_axes()
    measure = suite.measure(task)
    dead = 0
    for name, tried in found.items():
        look, label = style(name, list(suite.optimizers)), suite.optimizers.get(name, name)
        alive = sorted((one.lr, one.value) for one in tried if one.value is not None)
        own = tried[0].lr if tried else 1.0
        ax.plot(
            [lr / own for lr, _ in alive],
            [value for _, value in alive],
            marker=look.marker, ms=5, lw=1, color=look.light, label=label,
        )  # fmt: skip
        gone = [one.lr / own for one in tried if one.value is None]
        dead += len(gone)
        ax.plot(gone, [0.97] * len(gone), "x", color=look.light, transform=ax.get_xaxis_transform())
    ax.set(
        xlabel="factor on the first trial's learning rate", ylabel=f"validation {measure.name.removeprefix('test ')}"
    )
    rates = [one.lr / tried[0].lr for tried in found.values() for one in tried]
    log_where_it_helps(ax, "x", [np.array(rates)])
    ax.legend(fontsize=8)
    text = f"{sum(map(len, found.values()))} trials, of which {dead} diverged or failed."
    return Picture(f"trials-{task}", task, text, figure)


def _said(suite: Suite, name: str) -> str:
    one = suite.tasks[name]
    said = f"{one.learnt}; target {one.target:g}"
    return said if name in suite.comparisons else f"{said}; not run yet"
