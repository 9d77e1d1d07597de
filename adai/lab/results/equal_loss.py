"""Runs compared where their losses are equal: curvature shrinks with the loss, and the last epoch leaves them apart."""

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
    """What finished runs were measured to be along training, by epoch; runs that have that, measured as most were."""
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
    """All runs at one loss: the highest of their lowest, which every run that was measured early enough came through.

    Between two measurements the numbers follow a straight line of logarithms. None where fewer than two optimizers
    came through. ``unit`` is the loss's.
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
    """Those that have a logarithm."""
    return [loss for one in course if (loss := one.number("loss")) is not None and loss > 0]


def _at(course: Course, loss: float) -> Numbers:
    """The numbers where the run last comes down to that loss; nothing where it was below all along."""
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
    """Along a straight line of logarithms; of the numbers themselves where one of them is not above 0."""
    if a is None or b is None:
        return None
    if a > 0 and b > 0:
        return math.exp((1 - share) * math.log(a) + share * math.log(b))
    return (1 - share) * a + share * b


def verdicts(comparison: Comparison, equal: Flatness | None, reference: str) -> list[str]:
    """What the top eigenvalue and the filter-normalised sharpness say at equal loss, a sentence each."""
    if equal is None or equal.at_loss is None:
        return ["No verdict at equal loss: no two optimizers came through one loss between two measurements."]
    said = flatness.verdicts(comparison, equal, reference)
    few = (
        f"No verdict at equal loss, {where(equal)}: fewer than {MIN_SEEDS} seeds of an optimizer and the "
        "reference came through it between two measurements."
    )
    missing = flatness.left_out(comparison, equal)
    return [
        *(said or [few]),
        *([f"At equal loss: {missing}."] if missing else []),
    ]


def where(equal: Flatness) -> str:
    """The loss at which runs are compared, with its unit."""
    return f"{short(equal.at_loss or 0)} {equal.unit}".rstrip()
