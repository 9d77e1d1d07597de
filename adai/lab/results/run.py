"""The folder of one training run: the only place where what it gave lives.

::

    DIR/config.json           what decides the results, and what it was run on
    DIR/start.json            the evaluation before the first step
    DIR/metrics.jsonl         one row an epoch
    DIR/checkpoint-<n>.pt     all there is to go on from, after epoch n; the last two that were written
    DIR/curvature.json        its flatness, every time that it was measured as part of a comparison
    DIR/stability.json        its stability margin, likewise
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

METRIC = "metric"  # in the file of the first evaluation

REMAKE = "delete it, and the command that trained the run makes it anew"


class Run:
    """A run on disk.

    Args:
        path: its folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, settings: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Start a run here, or go on with the one that is here. One that has not a checkpoint or an epoch is none yet.

        Args:
            settings: what decides the results; it has to be what an earlier start here was given.
            about: what else is worth keeping: versions, machine, command; of the first start.

        Raises:
            UserError: the folder cannot be written, or holds a run with other settings.
        """
        file = self.path / "config.json"
        with writing_to(self.path, "give another `folder`"):
            self.path.mkdir(parents=True, exist_ok=True)
            if not file.exists() or not (self.rows() or any(self.path.glob("checkpoint-*.pt"))):
                (self.path / START).unlink(missing_ok=True)  # it may be of other settings
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
        """The settings, and what the run was done on.

        Raises:
            UserError: the file is damaged.
        """
        return read_json(self.path / "config.json")

    def rows(self) -> list[Row]:
        """The epochs so far; None where a number was not finite or does not apply.

        Raises:
            UserError: the file is damaged.
        """
        file = self.path / "metrics.jsonl"
        try:
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
            rows = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be cut off
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is damaged ({error}); {REMAKE}") from error
        if not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{file} is damaged (not one object a line); {REMAKE}")
        return rows

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write all epochs so far; JSON has no nan, so what is not finite becomes null.

        Raises:
            OSError: it cannot be written; what was there still is.
        """
        text = "".join(json.dumps(finite(row), allow_nan=False) + "\n" for row in rows)
        write_whole(self.path / "metrics.jsonl", lambda part: part.write_text(text))

    @property
    def started(self) -> bool:
        """Whether the evaluation before the first step is kept."""
        return (self.path / START).exists()

    def write_start(self, start: Row, metric: Mapping[str, Any] | None = None) -> None:
        """Keep the evaluation before the first step, the fields of `Start`, and what the task's metric is.

        Raises:
            OSError: it cannot be written.
        """
        evaluated = {name: finite(start)[name] for name in Start._fields}
        write_json(self.path / START, {**evaluated, **({METRIC: metric} if metric else {})})

    @property
    def metric(self) -> Mapping[str, Any] | None:
        """What the task's own metric is, see `adai.lab.tasks.metric.Metric.about`; None if it has none.

        Raises:
            UserError: its file is damaged.
        """
        about = read_json(self.path / START).get(METRIC) if self.started else None
        return about if isinstance(about, dict) else None

    @property
    def start(self) -> Start:
        """The evaluation before the first step, or what is known without it.

        Raises:
            UserError: its file is damaged.
        """
        return start_of(self.path, self.config())

    @property
    def status(self) -> Status:
        """What became of it, as `adai.lab.results.outcome` defines it."""
        rows = self.rows()
        return outcome(rows, self.config()["epochs"], self.start) if rows else "unfinished"


def finite(row: Row) -> Row:
    """The row with None for what is not finite."""
    return {key: value if value is not None and math.isfinite(value) else None for key, value in row.items()}


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole."""
    text = json.dumps(content, indent=2) + "\n"
    write_whole(file, lambda part: part.write_text(text))


def read_json(file: Path) -> dict[str, Any]:
    """What a JSON file of a run's folder holds.

    Raises:
        UserError: it is damaged.
    """
    try:
        content = json.loads(file.read_text())
    except ValueError as error:  # nor even text, perhaps
        raise UserError(f"{file} is not JSON ({error}); give another `folder`") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds {content!r:.20}, not an object; give another `folder`")
    return content


@contextmanager
def writing_to(folder: Path, advice: str) -> Iterator[None]:
    """Turn whatever keeps the block from writing into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; {advice}") from error
