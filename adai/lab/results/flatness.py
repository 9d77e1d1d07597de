"""The flatness of the loss at the parameters of a comparison's runs, and sentences about it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from adai.lab.measure.curvature.kept import Flatness as Measure
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results import chosen
from adai.lab.results.comparison import Comparison
from adai.lab.results.measured import most
from adai.lab.results.stats import MIN_SEEDS, Difference, paired_difference, spread
from adai.lab.results.summary import seeds_of
from adai.lab.results.words import joined

NAME, MEASURES = Measure.name, Measure.columns

Numbers = Mapping[str, float | None]


class Flatness(NamedTuple):
    """The flatness of finished runs that were measured with the same settings.

    Args:
        about: a description of the computation, including batch norm's mode.
        runs: the numbers of `adai.lab.measure.curvature.measure.Row` by optimizer and seed; None for a number that was
            not finite.
        at_loss: the loss of all runs if they are compared at equal loss; None after the last epoch.
        unit: the unit of the loss; may be empty.
    """

    about: Mapping[str, Any]
    runs: dict[str, dict[int, Numbers]]
    at_loss: float | None = None
    unit: str = "nats"

    def values(self, optimizer: str, measure: str) -> dict[int, float]:
        """One number for each run of an optimizer, by seed, without runs that do not have it."""
        runs = self.runs.get(optimizer, {})
        return {seed: float(value) for seed, own in runs.items() if (value := own.get(measure)) is not None}


def after_last(comparison: Comparison) -> Flatness:
    """The flatness of the finished runs after their last epoch, measured with the settings of most runs."""
    last = [[one for one in run.measured(NAME) if one.epoch == len(run.rows)] for _, run in comparison.finished]
    settings = most(last)
    about: Mapping[str, Any] = {}
    runs: dict[str, dict[int, Numbers]] = {}
    for (name, run), measured in zip(comparison.finished, last, strict=True):
        for one in measured:
            if one.settings == settings:
                about = about or one.about
                runs.setdefault(name, {})[run.seed] = one.numbers
    return Flatness(about, runs, unit=comparison.loss_unit)


def label_of(name: str) -> str:
    """The name of an optimizer in tables and figures."""
    return RECIPES[name].label if name in RECIPES else name


def verdicts(comparison: Comparison, measured: Flatness, reference: str) -> list[str]:
    """Two sentences about flatness at equal loss: the top eigenvalue and the filter-normalised sharpness.

    There are always both, because they need not agree, and only the second stays the same if layers are rescaled. Runs
    at different losses are not compared, because curvature shrinks with the loss.

    Args:
        comparison: the runs.
        measured: their flatness at one loss.
        reference: the optimizer that the others are compared with.

    Returns:
        The sentences; empty if no rival shares enough seeds with the reference.

    Raises:
        ValueError: the losses are not equal.
    """
    if measured.at_loss is None:
        raise ValueError("flatness is compared only at equal loss, but these runs were measured after the last epoch")
    said = [_sentence(comparison, measured, reference, key) for key in ("largest", "filter_worst")]
    if not all(said):
        return []
    where = f"{chosen.how(comparison)} and at equal loss, {of_loss(measured.at_loss, measured)},"
    return [f"{where} {said[0]}", f"There {said[1]}"]


def not_compared(measured: Flatness) -> str:
    """A sentence: why there is no verdict on the flatness after the last epoch; empty if nothing was measured."""
    losses = [spread([*measured.values(name, "loss").values()]).mean for name in measured.runs]
    known = [loss for loss in losses if math.isfinite(loss)]
    if not known:
        return ""
    return (
        f"Flatness after the last epoch is not compared: the mean losses are {_plain(min(known))} to "
        f"{_plain(max(known))}, and curvature shrinks as the loss does. Measure it along training too to compare "
        "it at equal loss."
    )


def _sentence(comparison: Comparison, measured: Flatness, reference: str, key: str) -> str:
    """The ratio of each rival's number to the reference's, with intervals.

    The intervals are those of `paired_difference` between logarithms. Empty if no rival shares `MIN_SEEDS` seeds with
    the reference.
    """
    logs = {
        entrant.name: {s: math.log(x) for s, x in measured.values(entrant.name, key).items() if x > 0}
        for entrant in comparison.entrants
    }
    ours = logs.pop(reference, {})
    shared = {name: sorted(own.keys() & ours.keys()) for name, own in logs.items()}
    shared = {name: seeds for name, seeds in shared.items() if len(seeds) >= MIN_SEEDS}
    if not shared:
        return ""
    gaps = {
        name: paired_difference([logs[name][s] for s in seeds], [ours[s] for s in seeds], comparisons=len(shared))
        for name, seeds in shared.items()
    }
    intervals = "95 % interval" if len(gaps) == 1 else "95 % intervals that hold together"
    return f"{_compared(gaps, reference, key)} ({seeds_of([*gaps.values()])}, {intervals})."


def _compared(gaps: dict[str, Difference], reference: str, key: str) -> str:
    """The rivals that differ, with the ratio, and those for which no difference is shown."""
    what = f"{MEASURES[key]} of H" if key == "largest" else MEASURES[key]
    us = label_of(reference)
    differ = [f"{_times(math.exp(g.mean))} times with {label_of(n)} ({_range(g)})" for n, g in gaps.items() if g.shown]
    equal = joined([f"{label_of(n)} ({_range(g)} times)" for n, g in gaps.items() if not g.shown])
    if not differ:
        return f"no difference is shown in the {what} between {us} and {equal}"
    differ[0] = differ[0].replace("times", f"times {us}’s", 1)
    return f"the {what} is {joined(differ)}" + (f", and no difference is shown to {equal}" if equal else "")


def left_out(comparison: Comparison, measured: Flatness) -> str:
    """The number of finished runs that are left out, as text; empty if there are none.

    A run is left out if it was not measured, or with other settings than most runs.
    """
    number = sum(run.seed not in measured.runs.get(e.name, {}) for e in comparison.entrants for run in e.finished)
    return f"{number} finished {'run is' if number == 1 else 'runs are'} not in it" if number else ""


def _range(gap: Difference) -> str:
    return f"{_times(math.exp(gap.low))} to {_times(math.exp(gap.high))}"


def _times(x: float) -> str:
    """A ratio; near 1 with one more digit, so that it differs visibly from 1."""
    return f"{x:.3g}" if 0.5 < x < 2 else _plain(x)


def of_loss(loss: float, measured: Flatness) -> str:
    """A loss with its unit, as text."""
    return f"{_plain(loss)} {measured.unit}".rstrip()


def _plain(x: float) -> str:
    return f"{x:.0f}" if x >= 99.5 else f"{x:.2g}"
