"""The stability margin of a comparison's runs along training, and a sentence about it."""

from collections.abc import Mapping
from typing import Any

from adai.lab.measure.stability.kept import Stability
from adai.lab.results.comparison import Comparison
from adai.lab.results.measured import Measured
from adai.lab.results.words import joined, short

NAME = Stability.name

Courses = dict[str, dict[int, list[Measured]]]  # by optimizer and seed, in the order of the epochs


def courses(comparison: Comparison) -> Courses:
    """All measurements with the most common settings, of all runs, including those that diverged."""
    runs = [(e.name, run) for e in comparison.entrants for run in e.runs]
    settings = [one.settings for _, run in runs for one in run.measured(NAME)]
    found: Courses = {}
    for name, run in runs if settings else []:
        most = max(settings, key=settings.count)
        course = sorted((one for one in run.measured(NAME) if one.settings == most), key=lambda one: one.epoch)
        if course:
            found.setdefault(name, {})[run.seed] = course
    return found


def about_of(found: Courses) -> Mapping[str, Any]:
    """A description of the computation, from the first measurement."""
    return next(course[0].about for of_seeds in found.values() for course in of_seeds.values())


def sentence(comparison: Comparison, found: Courses) -> str:
    """For each optimizer, the largest measured margin, and the number of runs with a margin above 1."""
    labels = {entrant.name: entrant.label for entrant in comparison.entrants}
    said = []
    for name, of_seeds in found.items():
        largest = [max(margins) for course in of_seeds.values() if (margins := _margins(course))]
        if largest:
            beyond = sum(margin > 1 for margin in largest)
            runs = f"{len(largest)} run{'' if len(largest) == 1 else 's'}"
            said.append(f"{labels[name]} up to {short(max(largest))} ({beyond} of {runs} above 1)")
    about = about_of(found)
    return (
        f"Stability margin after the epochs that were measured, 1 being the edge: {joined(said)}. "
        f"Batch norm: {about.get('batch_norm', 'not recorded')}; "
        f"{about.get('samples', 'an unknown number of')} training samples."
    )


def _margins(course: list[Measured]) -> list[float]:
    return [margin for one in course if (margin := one.number("margin")) is not None]
