"""Compares flatness at equal loss. Curvature shrinks with the loss, and losses differ after the last epoch."""

import math

from adai.lab.results import flatness
from adai.lab.results.comparison import Comparison
from adai.lab.results.flatness import Flatness, Numbers
from adai.lab.results.measured import Measured, most
from adai.lab.results.stats import MIN_SEEDS
from adai.lab.results.words import short

Course = list[Measured]
Courses = dict[str, dict[int, Course]]  # by optimizer and seed


def courses(comparison: Comparison) -> Courses:
    """The measurements of each finished run along training, by epoch.

    Only runs that were measured along training, with the settings of most runs.
    """
    finished = comparison.finished
    settings = most([one for one in run.measured(flatness.NAME) if one.epoch < len(run.rows)] for _, run in finished)
    found: Courses = {}
    for name, run in finished:
        course = sorted(
            (one for one in run.measured(flatness.NAME) if one.settings == settings), key=lambda one: one.epoch
        )
        if len(course) > 1:
            found.setdefault(name, {})[run.seed] = course
    return found


def at_equal_loss(found: Courses, unit: str = "nats") -> Flatness | None:
    """The numbers of all runs at one loss: the highest of their lowest losses.

    Every run passes this loss, unless its first measurement is already below it. Between two measurements the logarithm
    of each number is interpolated linearly in the logarithm of the loss.

    Args:
        found: the measurements, from `courses`.
        unit: the unit of the loss.

    Returns:
        The numbers; None if the runs of fewer than two optimizers pass the loss.
    """
    lowest = [min(losses) for of_seeds in found.values() for course in of_seeds.values() if (losses := _losses(course))]
    if not lowest:
        return None
    loss = max(lowest)
    through = {
        name: {seed: numbers for seed, course in of_seeds.items() if (numbers := _at(course, loss))}
        for name, of_seeds in found.items()
    }
    runs = {name: of_seeds for name, of_seeds in through.items() if of_seeds}
    about = next(course[0].about for of_seeds in found.values() for course in of_seeds.values())
    return Flatness(about, runs, loss, unit) if len(runs) > 1 else None


def _losses(course: Course) -> list[float]:
    """The losses above 0."""
    return [loss for one in course if (loss := one.number("loss")) is not None and loss > 0]


def _at(course: Course, loss: float) -> Numbers:
    """The numbers where the run passes the loss downwards for the last time; empty if it does not pass it."""
    known = [one.numbers for one in course if _losses([one])]
    losses = _losses(course)
    for before in reversed(range(len(known) - 1)):
        high, low = losses[before], losses[before + 1]
        if high >= loss >= low:
            share = math.log(high / loss) / math.log(high / low) if high > low else 1.0
            a, b = known[before], known[before + 1]
            return {**{key: _between(a[key], b.get(key), share) for key in a}, "loss": loss}
    return {}


def _between(a: float | None, b: float | None, share: float) -> float | None:
    """Interpolate the logarithms linearly; the numbers themselves if one of them is not above 0."""
    if a is None or b is None:
        return None
    if a > 0 and b > 0:
        return math.exp((1 - share) * math.log(a) + share * math.log(b))
    return (1 - share) * a + share * b


def verdicts(comparison: Comparison, equal: Flatness | None, reference: str) -> list[str]:
    """A sentence about the top eigenvalue and one about the filter-normalised sharpness at equal loss."""
    if equal is None or equal.at_loss is None:
        return ["No verdict at equal loss: no two optimizers passed the same loss between two measurements."]
    said = flatness.verdicts(comparison, equal, reference)
    few = (
        f"No verdict at equal loss, {where(equal)}: at least {MIN_SEEDS} seeds have to pass this loss between two "
        "measurements, both of the reference and of another optimizer."
    )
    missing = flatness.left_out(comparison, equal)
    return [
        *(said or [few]),
        *([f"At equal loss: {missing}."] if missing else []),
    ]


def where(equal: Flatness) -> str:
    """The loss at which the runs are compared, with its unit, as text."""
    return f"{short(equal.at_loss or 0)} {equal.unit}".rstrip()
