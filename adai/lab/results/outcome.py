"""The status of a run: defines when a run is finished, has diverged, or did not learn.

A run **diverged** if the training loss of its last epoch is not finite. It **did not learn** if it has all its epochs
and after the last one

* if errors are counted: the test error is not at least `MARGIN` below chance, the error of always answering the most
  frequent class of the test examples;
* otherwise: the test loss is not below the test loss before training.

Chance and the test loss before training are in the `Start` of the run. Early versions did not keep it: their runs are
judged by the chance of their data set if `CHANCE` has it, and otherwise count as finished.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from adai.errors import UserError

START = "start.json"

Status = Literal["unfinished", "finished", "did not learn", "diverged"]

# Runs that have ended without a result. Means are over the other runs.
DIED: tuple[Status, ...] = ("did not learn", "diverged")

CURE = "a smaller learning rate, a longer warm-up or clipped gradients may help"

MARGIN = 1.0
"""In points of error. The answers of a net that learned nothing can be slightly better than chance."""

# In percent, on the whole test set. A test compares it with the data, if they are on the machine.
CHANCE = {"digits": 100 * (1 - 62 / 599), "mnist": 88.65, "cifar10": 90.0, "cifar100": 99.0}


class Start(NamedTuple):
    """The evaluation before the first step; None for a number that is unknown or was not finite.

    Args:
        test_loss: mean over the test examples.
        test_error: in percent; None if the targets are not classes.
        chance_error: the error of always answering the most frequent class of the test examples, in percent; None if
            the targets are not classes.
    """

    test_loss: float | None = None
    test_error: float | None = None
    chance_error: float | None = None


def outcome(rows: Sequence[Mapping[str, Any]], epochs: int, start: Start) -> Status:
    """The status of a run.

    Args:
        rows: its epochs so far.
        epochs: the number of epochs of the whole run.
        start: its evaluation before the first step.
    """
    if rows and rows[-1].get("train_loss") is None:
        return "diverged"
    if not rows or len(rows) < epochs:
        return "unfinished"
    return "finished" if _learned(rows[-1], start) else "did not learn"


def _learned(last: Mapping[str, Any], start: Start) -> bool:
    """Whether the last epoch is better than chance, or than before training if no errors are counted.

    True if the numbers for the decision are missing.
    """
    error, loss = last.get("test_error"), last.get("test_loss")
    if error is not None:
        return start.chance_error is None or error <= start.chance_error - MARGIN
    if "test_loss" in last and loss is None:  # the loss is not finite
        return False
    return loss is None or start.test_loss is None or bool(loss < start.test_loss)


def start_of(folder: Path, config: Mapping[str, Any]) -> Start:
    """The evaluation of a run before its first step. If the folder has none, only the chance of a known data set.

    Args:
        folder: the folder of the run.
        config: its settings, which name the data set.

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
        raise UserError(f"{file} is damaged ({error}); delete it: the run is then judged without it") from error
