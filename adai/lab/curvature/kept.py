"""The flatness of a finished run, kept in its folder so that it is computed once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from adai.errors import UserError
from adai.lab.curvature.measure import Effort, Row, measure_flatness, row
from adai.lab.objective import Objective, Progress
from adai.lab.run import read_json, write_json, writing_to

FILE = "curvature.json"


class Kept(NamedTuple):
    """One run's flatness.

    Args:
        optimizer: whose run.
        seed: of the run.
        about: what it was computed with, batch norm's mode among it; see `Objective.about`.
        row: the numbers.
    """

    optimizer: str
    seed: int
    about: dict[str, Any]
    row: Row


def flatness_of_run(
    run: Path,
    asked: dict[str, Any],
    objective: Callable[[], Objective],
    effort: Effort,
    progress: Progress,
) -> Kept:
    """The flatness that the run's folder keeps, or else a new one, which is then kept.

    Args:
        run: the folder of a finished run.
        asked: what decides the numbers; those that were computed with something else are computed again.
        objective: makes the loss at the run's parameters.
        effort: how much to compute.
        progress: told what is being done.

    Raises:
        UserError: the folder cannot be written.
    """
    config = read_json(run / "config.json")
    whose = config["optimizer"], config["seed"]
    asked = {**asked, **effort._asdict()}
    file = run / FILE
    try:
        there = read_json(file) if file.is_file() else {}
    except UserError:  # damaged: it is made anew
        there = {}
    if there.get("asked") == asked and set(there.get("numbers", ())) == set(Row._fields):
        return Kept(*whose, there["about"], Row(**there["numbers"]))
    loss = objective()
    numbers = row(" seed ".join(map(str, whose)), measure_flatness(loss, effort, progress))
    with writing_to(run, "make it writable, and the same command goes on from there"):
        write_json(file, {"asked": asked, "about": loss.about(), "numbers": numbers._asdict()})
    return Kept(*whose, loss.about(), numbers)
