"""The summary of a comparison: a row for each optimizer, and the verdict, a sentence about their differences."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adai.errors import UserError
from adai.lab.results import chosen
from adai.lab.results.comparison import Array, Comparison, Entrant, Status, median, ms_per_step
from adai.lab.results.outcome import CURE, DIED
from adai.lab.results.stats import MIN_SEEDS, Difference, paired_difference, spread
from adai.lab.results.words import joined


class Measure(NamedTuple):
    """The number by which optimizers are compared.

    Args:
        column: its column in the rows of a run.
        name: its name in sentences.
        unit: the unit of a value; may be empty.
        step: the unit of a difference; may be empty.
        digits: the number of digits after the decimal point.
        most: the largest possible difference of two values.
        lower_is_better: whether lower values are better.
    """

    column: str
    name: str
    unit: str
    step: str
    digits: int
    most: float = math.inf
    lower_is_better: bool = True

    @property
    def best(self) -> Callable[[Array], float]:
        """The function that returns the best of several values, ignoring nan."""
        return np.nanmin if self.lower_is_better else np.nanmax


ERROR = Measure("test_error", "test error", "%", "points", 2, most=100.0)
LOSS = Measure("test_loss", "test loss", "", "", 4)  # for tasks without classes


class Row(NamedTuple):
    """The numbers of an optimizer.

    ``last``, ``best`` and ``train_losses`` are of its finished runs, time and memory of all its runs.

    Args:
        optimizer: its name.
        label: its name in tables and figures.
        planned: the number of runs that were asked for.
        finished: the number of finished runs.
        others: the number of other runs, by status.
        last: the measure after the last epoch, by seed.
        best: the best value of the measure over the epochs, by seed.
        train_losses: the training loss of the last epoch, for each seed.
        ms_per_step: the time of a step, the median over epochs and then over runs; nan if it was not recorded.
        state_bytes: the memory of the optimizer's state; nan if it was not recorded.
        peak_bytes: the largest memory that was allocated on the device; nan if it was not recorded.
        difference: the difference of ``last`` to the reference over shared seeds; None for the reference itself, and
            with fewer than two shared seeds. Its interval is nan with fewer than `MIN_SEEDS`.
        gradients: the number of gradient evaluations for each step; nan if it was not recorded.
    """

    optimizer: str
    label: str
    planned: int
    finished: int
    others: dict[Status, int]
    last: dict[int, float]
    best: dict[int, float]
    train_losses: list[float]
    ms_per_step: float
    state_bytes: float
    peak_bytes: float
    difference: Difference | None = None
    gradients: float = math.nan

    @property
    def runs(self) -> str:
        """``3``, or ``2 of 3, 1 diverged``."""
        others = ", ".join(f"{count} {status}" for status, count in self.others.items())
        return f"{self.finished} of {self.planned}, {others}" if others else str(self.finished)

    @property
    def died(self) -> str:
        """``2 of 10 runs did not learn``; empty if none died."""
        runs = "run" if self.planned == 1 else "runs"
        counts = [(self.others[status], status) for status in DIED if status in self.others]
        return " and ".join(
            f"{count} of {self.planned} {runs} {status}" if not number else f"{count} {status}"
            for number, (count, status) in enumerate(counts)
        )


class Summary(NamedTuple):
    """The table of a comparison.

    Args:
        measure: the number by which optimizers are compared.
        reference: the optimizer that the others are compared with.
        rows: the optimizers, the best mean first, those without a finished run last.
        comparisons: the number of rivals that share at least `MIN_SEEDS` seeds with the reference. All intervals hold
            at once in 95 % of cases.
        chosen: how learning rates and weight decays were chosen: the beginning of a sentence.
        edges: how far the best learning rates are from the ends of the tuning's range or of a grid: a sentence, or
            empty.
    """

    measure: Measure
    reference: str
    rows: list[Row]
    comparisons: int
    chosen: str = ""
    edges: str = ""


def summarise(comparison: Comparison, reference: str | None = None) -> Summary:
    """Compute the table of a comparison, with the differences to a reference optimizer.

    The reference is not chosen by its rank: the best of many optimizers would differ from the others by selection
    alone.

    Args:
        comparison: the comparison.
        reference: the name of the reference; default Adai, else the first optimizer.

    Raises:
        UserError: the reference takes no part.
    """
    reference = reference_of(comparison, reference)
    measure = measure_of(comparison)
    rows = [_row(entrant, measure, comparison.config.get("batch")) for entrant in comparison.entrants]
    against = {row.optimizer: row for row in rows}
    shared = {
        row.optimizer: sorted(row.last.keys() & against[reference].last.keys())
        for row in rows
        if row.optimizer != reference
    }
    comparisons = sum(len(seeds) >= MIN_SEEDS for seeds in shared.values())
    for number, row in enumerate(rows):
        seeds = shared.get(row.optimizer, [])
        if len(seeds) >= 2:
            a, b = ([r.last[seed] for seed in seeds] for r in (row, against[reference]))
            difference = paired_difference(a, b, comparisons=max(1, comparisons))
            if len(seeds) < MIN_SEEDS:  # no verdict, so no interval either
                difference = difference._replace(low=math.nan, high=math.nan)
            rows[number] = row._replace(difference=difference)
    sign = 1 if measure.lower_is_better else -1
    rows.sort(key=lambda row: sign * spread(list(row.last.values())).mean if row.last else math.inf)
    return Summary(measure, reference, rows, comparisons, chosen.how(comparison), chosen.edges(comparison))


def measure_of(*comparisons: Comparison) -> Measure:
    """The measure of comparisons: the task's own metric, else the test error, or the test loss if there is no error."""
    for comparison in comparisons:
        if (metric := comparison.metric) and comparison.recorded("test_metric"):
            return _own(metric)
    recorded = {m: any(c.recorded(m.column) for c in comparisons) for m in (LOSS, ERROR)}
    return LOSS if recorded[LOSS] and not recorded[ERROR] else ERROR


def _own(metric: Mapping[str, Any]) -> Measure:
    unit = str(metric.get("unit", ""))
    share = unit == "%"
    return Measure(
        "test_metric",
        f"test {metric['name']}",
        unit,
        "points" if share else unit,
        int(metric.get("digits", 2)),
        100.0 if share else math.inf,
        bool(metric.get("lower_is_better", True)),
    )


def reference_of(comparison: Comparison, asked: str | None = None) -> str:
    """The optimizer that the others are compared with: the one that was asked for, else Adai, else the first.

    Raises:
        UserError: the optimizer that was asked for takes no part.
    """
    names = [entrant.name for entrant in comparison.entrants]
    reference = asked or ("adai" if "adai" in names or not names else names[0])
    if names and reference not in names:
        raise UserError(f"unknown reference {reference!r}; choose from {', '.join(names)}")
    return reference


def _row(entrant: Entrant, measure: Measure, batch: int | None) -> Row:
    finished = entrant.finished
    values = {run.seed: run.column(measure.column) for run in finished}
    return Row(
        entrant.name,
        entrant.label,
        len(entrant.runs),
        len(finished),
        _others(entrant),
        {seed: float(v[-1]) for seed, v in values.items() if np.isfinite(v[-1])},
        {seed: float(measure.best(v)) for seed, v in values.items() if np.isfinite(v).any()},
        [float(run.column("train_loss")[-1]) for run in finished],
        median(np.array([ms_per_step(run, batch) for run in entrant.runs])),
        median(np.array([median(run.column("optimizer_state_bytes")) for run in entrant.runs])),
        median(np.array([median(run.column("peak_memory_bytes")) for run in entrant.runs])),
        gradients=median(
            np.array([median(run.column("gradient_evaluations") / run.column("steps")) for run in entrant.runs])
        ),
    )


def _others(entrant: Entrant) -> dict[Status, int]:
    kinds: tuple[Status, ...] = (*DIED, "unfinished", "not started")
    counts = {status: sum(run.status == status for run in entrant.runs) for status in kinds}
    return {status: count for status, count in counts.items() if count}


def verdict(summary: Summary) -> str:
    """A sentence that compares the reference with each rival after the last epoch, with intervals.

    It begins with how the settings were chosen. If runs died, a sentence before it counts them, because only the other
    runs are compared. A sentence after it gives the distance of the best learning rates from the ends of their range.
    """
    deaths = [f"{row.label}: {row.died}" for row in summary.rows if row.died]
    died = f"{', '.join(deaths)}; {CURE}. What follows is of the other runs." if deaths else ""
    return " ".join(filter(None, (died, _sentence(summary), summary.edges)))


def _sentence(summary: Summary) -> str:
    measure, rows = summary.measure, summary.rows
    rivals = [row for row in rows if row.optimizer != summary.reference]
    if not rivals:
        return "One optimizer alone: nothing to compare."
    reference = next(row for row in rows if row.optimizer == summary.reference)
    judged = [(row, d) for row in rivals if (d := row.difference) and d.seeds >= MIN_SEEDS]
    if not judged:
        most = max(len(row.last.keys() & reference.last.keys()) for row in rivals)
        if not any(row.last for row in rows):
            return f"No verdict: no finished run has a {measure.name}."
        return (
            f"No verdict below {MIN_SEEDS} seeds: {reference.label} shares {most} finished "
            f"{'seed' if most == 1 else 'seeds'} with its rivals."
        )
    groups = {
        f"lower {measure.name} than": [(r, d) for r, d in judged if d.shown and d.mean > 0],
        f"higher {measure.name} than": [(r, d) for r, d in judged if d.shown and d.mean < 0],
    }
    shown = [f"{what} {_listed(group, measure)}" for what, group in groups.items() if group]
    equal = [(r, d) for r, d in judged if not d.shown]
    after = f"after the last epoch ({seeds_of([d for _, d in judged])}"
    after += ", 95 % interval)" if len(judged) == 1 else ", 95 % intervals that hold together)"
    if shown:
        sentence = f"{reference.label} has a {' and a '.join(shown)} {after}"
        sentence += f"; no difference shown to {_listed(equal, measure)}" if equal else ""
    else:
        no = "no" if summary.chosen else "No"
        between = f"between {reference.label} and {_listed(equal, measure)}"
        sentence = f"{no} difference is shown in {measure.name} {between} {after}"
    left_out = _left_out([*rivals, reference], {row.optimizer for row, _ in judged}, reference)
    return f"{', '.join(filter(None, (summary.chosen, sentence)))}{left_out}."


def _listed(group: list[tuple[Row, Difference]], measure: Measure) -> str:
    """The rivals, each with its difference to the reference."""
    return joined([f"{row.label} ({_gap(difference, measure)})" for row, difference in group])


def _gap(d: Difference, measure: Measure) -> str:
    step = f" {measure.step}" if measure.step else ""
    if math.isinf(d.low):
        return f"by the same {abs(d.mean):.{measure.digits}f}{step} at every seed, no interval"
    if not tells(d, measure):
        return NO_INTERVAL
    low, high = bounded(d, measure)
    if not d.shown:
        return f"{low:+.{measure.digits}f} to {high:+.{measure.digits}f}{step}".replace("-", "−")
    low, high = sorted((abs(low), abs(high)))
    mean, low_text, high_text = (f"{x:.{measure.digits}f}" for x in (abs(d.mean), low, high))
    return f"by {mean}{step}, {low_text} to {high_text}"


# Printed in place of an interval that is wider than the largest possible difference.
NO_INTERVAL = "the seeds differ too much for an interval that tells anything"


def tells(d: Difference, measure: Measure) -> bool:
    """Whether an interval is informative: it does not contain 0, or lies within the largest possible difference."""
    return d.shown or (-measure.most <= d.low and d.high <= measure.most)


def bounded(d: Difference, measure: Measure) -> tuple[float, float]:
    """The ends of the interval, cut off at the largest possible difference."""
    return max(d.low, -measure.most), min(d.high, measure.most)


def seeds_of(differences: Sequence[Difference]) -> str:
    """``3 seeds``, or ``3 to 5 seeds`` if the differences have different numbers of seeds."""
    counts = {d.seeds for d in differences}
    return f"{min(counts)} seeds" if len(counts) == 1 else f"{min(counts)} to {max(counts)} seeds"


def _left_out(rows: Sequence[Row], judged: set[str], reference: Row) -> str:
    """The end of the sentence: rivals with too few seeds, and optimizers with runs that have not ended."""
    few = [row.label for row in rows if row.optimizer not in judged and row is not reference]
    text = f"; no verdict on {joined(few)}, below {MIN_SEEDS} shared seeds" if few else ""
    stopped = [f"{row.label} ({row.runs})" for row in rows if row.others.keys() - {*DIED}]
    return text + (f"; runs that did not finish are not in it: {joined(stopped)}" if stopped else "")
