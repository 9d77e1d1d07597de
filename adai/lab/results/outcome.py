"""What became of a run: the one definition of finished, diverged, and of a run that did not learn.

A run **diverged** when its last epoch has no finite training loss. It **did not learn** when all its epochs are there,
and after the last

* where errors are counted: the test error is not at least `MARGIN` below chance, the error of always answering the most
  frequent class of the test examples;
* elsewhere: the test loss is not below that of the first evaluation, before training.

Both come from the `Start` that a run keeps. A run of a version that kept none has the chance of its data set where that
is known, and counts as finished where it is not.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from adai.errors import UserError

START = "start.json"

Status = Literal["unfinished", "finished", "did not learn", "diverged"]

# The runs that ended with nothing to show, which no mean takes in.
DIED: tuple[Status, ...] = ("did not learn", "diverged")

CURE = "a smaller learning rate, a longer warm-up or clipped gradients may help"

MARGIN = 1.0
"""In points of error. A net that is dead and answers by its noise may be a little better than chance."""

# In percent, of whole test sets; a test counts it where the data are there.
CHANCE = {"digits": 100 * (1 - 62 / 599), "mnist": 88.65, "cifar10": 90.0, "cifar100": 99.0}


class Start(NamedTuple):
    """What the first evaluation gave, before the first step; None for what is not known, or was not finite.

    Args:
        test_loss: mean over the test examples.
        test_error: in percent; None where there are no classes.
        chance_error: that of always answering the most frequent class of the test examples, likewise.
    """

    test_loss: float | None = None
    test_error: float | None = None
    chance_error: float | None = None


def outcome(rows: Sequence[Mapping[str, Any]], epochs: int, start: Start) -> Status:
    """What became of a run, or that it goes on.

    Args:
        rows: its epochs so far.
        epochs: how many it was to have.
        start: its first evaluation.
    """
    if rows and rows[-1].get("train_loss") is None:
        return "diverged"
    if not rows or len(rows) < epochs:
        return "unfinished"
    return "finished" if _learned(rows[-1], start) else "did not learn"


def _learned(last: Mapping[str, Any], start: Start) -> bool:
    """Whether the last epoch beats chance, or the first evaluation where no errors are counted; yes if undecided."""
    error, loss = last.get("test_error"), last.get("test_loss")
    if error is not None:
        return start.chance_error is None or error <= start.chance_error - MARGIN
    if "test_loss" in last and loss is None:  # it is not finite
        return False
    return loss is None or start.test_loss is None or bool(loss < start.test_loss)


def start_of(folder: Path, config: Mapping[str, Any]) -> Start:
    """The first evaluation of a run, as far as its folder tells.

    Args:
        folder: of the run.
        config: its settings: where nothing is kept, they name the data set whose chance may be known.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / START
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Start(*(None if (x := content.get(name)) is None else float(x) for name in Start._fields))
    except FileNotFoundError:
        whole = not config.get("limit") and not config.get("validation")
        return Start(chance_error=CHANCE.get(str(config.get("task"))) if whole else None)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({error}); delete it, and the run is judged without it") from error
