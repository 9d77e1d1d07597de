"""The folder of one training run, which holds all its results.

::

    DIR/config.json           the settings that determine the results, and the machine
    DIR/start.json            the evaluation before the first step
    DIR/metrics.jsonl         a row for each epoch
    DIR/checkpoint-<n>.pt     the state after epoch n, from which the run can continue; the last two written are kept
    DIR/curvature.json        all measurements of its flatness as part of a comparison
    DIR/stability.json        all measurements of its stability margin
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.results.outcome import START, Start, Status, outcome, start_of

Row = dict[str, float | None]

METRIC = "metric"  # a key of the file with the evaluation before the first step

REMAKE = "delete it, and run the command that trained the run again: it writes the file anew"


class Run:
    """A run on disk.

    Args:
        path: its folder, which is created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Start a run in this folder, or continue the run that it holds.

        A run that has neither a checkpoint nor an epoch is started anew, with any settings.

        Args:
            settings: the settings that determine the results; they have to be those of the run that is continued.
            about: further information to keep: versions, machine, command. It is written when the run starts.

        Raises:
            UserError: the folder cannot be written, or holds a run with other settings.
        """
        file = self.path / "config.json"
        with writing_to(self.path, "give another `folder`"):
            self.path.mkdir(parents=True, exist_ok=True)
            if not file.exists() or not (self.rows() or any(self.path.glob("checkpoint-*.pt"))):
                (self.path / START).unlink(missing_ok=True)  # it may belong to other settings
                write_json(file, {**settings, **about})
        there = self.config()
        changed = [name for name, value in settings.items() if there.get(name, value) != value or name not in there]
        if changed:
            name = changed[0]
            raise UserError(
                f"{self.path} holds a run with another {', '.join(changed)} ({name} is {there.get(name)!r} there, "
                f"{settings[name]!r} here); give another `folder`"
            )

    def config(self) -> dict[str, Any]:
        """The settings of the run, and its versions and machine.

        Raises:
            UserError: the file is damaged.
        """
        return read_json(self.path / "config.json")

    def rows(self) -> list[Row]:
        """A row for each epoch so far, with None for a number that was not finite or does not apply.

        Raises:
            UserError: the file is damaged.
        """
        file = self.path / "metrics.jsonl"
        try:
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last line may be incomplete
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is damaged ({error}); {REMAKE}") from error
        if not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{file} is damaged (a line is no JSON object); {REMAKE}")
        return rows

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write all epochs so far; a number that is not finite becomes null, because JSON has no nan.

        Raises:
            OSError: the file cannot be written; it is unchanged.
        """
        text = "".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in rows)
        write_whole(self.path / "metrics.jsonl", lambda part: part.write_text(text))

    @property
    def started(self) -> bool:
        """Whether the folder holds the evaluation before the first step."""
        return (self.path / START).exists()

    def write_start(self, start: Row, metric: Mapping[str, Any] | None = None) -> None:
        """Write the evaluation before the first step.

        Args:
            start: the evaluation, with the fields of `Start`.
            metric: the description of the task's own metric, if it has one.

        Raises:
            OSError: the file cannot be written.
        """
        evaluated = {name: finite(start)[name] for name in Start._fields}
        write_json(self.path / START, {**evaluated, **({METRIC: metric} if metric else {})})

    @property
    def metric(self) -> Mapping[str, Any] | None:
        """The description of the task's own metric (`adai.lab.tasks.metric.Metric.about`); None if it has none.

        Raises:
            UserError: the file is damaged.
        """
        about = read_json(self.path / START).get(METRIC) if self.started else None
        return about if isinstance(about, dict) else None

    @property
    def start(self) -> Start:
        """The evaluation before the first step; see `adai.lab.results.outcome.start_of`.

        Raises:
            UserError: the file is damaged.
        """
        return start_of(self.path, self.config())

    @property
    def status(self) -> Status:
        """The status of the run; `adai.lab.results.outcome` defines it."""
        rows = self.rows()
        return outcome(rows, self.config()["epochs"], self.start) if rows else "unfinished"


def finite(row: Mapping[str, float | None]) -> Row:
    """The row with None for numbers that are not finite."""
    return {key: value if value is not None and math.isfinite(value) else None for key, value in row.items()}


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file, completely or not at all."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(file, lambda part: part.write_text(text))


def read_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file in a run's folder.

    Raises:
        UserError: the file is damaged.
    """
    try:
        content = json.loads(file.read_text())
    except ValueError as error:  # invalid JSON or invalid text
        raise UserError(f"{file} is not JSON ({error}); give another `folder`") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds {content!r:.20}, not an object; give another `folder`")
    return content


@contextmanager
def writing_to(folder: Path, advice: str) -> Iterator[None]:
    """Report a file that cannot be written in the block as a `UserError`, with this advice."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; {advice}") from error
