"""What was measured of a run, after its last epoch or along training, as its folder keeps it.

A file for each measure::

    DIR/curvature.json          flatness
    DIR/stability.json          the stability margin
    DIR/<name>.measure.json     any other measure

Each holds ``{"version": 1, "measured": [...]}``; the last kind also holds its columns. A reader takes the numbers that
it knows by name. It ignores those that it does not know, and does without those that a record lacks.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adai.errors import UserError
from adai.lab.results.run import read_json, write_json

VERSION = 1
OTHER = ".measure.json"
FILES = {"flatness": "curvature.json", "stability": "stability.json"}


class Measured(NamedTuple):
    """A measurement.

    Args:
        epoch: after which.
        settings: what it was computed with; measurements compare only where it is the same.
        about: the same in words for people; batch norm's mode and the number of samples, where there are such.
        numbers: what came out, by column; None for what is not finite.
    """

    epoch: int
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    numbers: Mapping[str, float | None]

    def number(self, column: str) -> float | None:
        """One of the numbers; None where it is not finite, or was not measured."""
        return self.numbers.get(column)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return self._asdict()


def file_of(run: Path, measure: str) -> Path:
    """Where a run keeps what that measure gave."""
    return run / FILES.get(measure, f"{measure}{OTHER}")


def measures_in(run: Path) -> list[str]:
    """The measures of which a run keeps something."""
    known = [name for name in FILES if file_of(run, name).is_file()]
    return known + sorted(file.name.removesuffix(OTHER) for file in run.glob(f"*{OTHER}"))


def columns_in(run: Path, measure: str) -> dict[str, str]:
    """The columns with their headings, as the file of a measure says; nothing where it does not."""
    try:
        return {str(key): str(heading) for key, heading in read_json(file_of(run, measure))["columns"].items()}
    except (OSError, UserError, KeyError, AttributeError):
        return {}


def measured_in(run: Path, measure: str, defaults: Mapping[str, Any] | None = None) -> list[Measured]:
    """What a run keeps, what was asked for last at the end, but for what is damaged.

    Args:
        run: its folder.
        measure: its name.
        defaults: the settings that a record lacks, because the version that wrote it had no such setting.
    """
    entries = entries_in(run, measure)
    return [one for entry in entries if (one := understood(entry, defaults or {}))]


def entries_in(run: Path, measure: str) -> list[Any]:
    """The records in the file of a measure, as JSON has them; none where it is not there or damaged."""
    file = file_of(run, measure)
    try:
        entries = read_json(file)["measured"] if file.is_file() else []
    except (UserError, KeyError):
        return []
    return entries if isinstance(entries, list) else []


def write(run: Path, measure: str, entries: Sequence[Any], columns: Mapping[str, str]) -> None:
    """Write all records of a measure; those that were read as they were.

    Raises:
        OSError: it cannot be written; what was there still is.
    """
    named = {} if measure in FILES else {"columns": dict(columns)}
    write_json(file_of(run, measure), {"version": VERSION, **named, "measured": list(entries)})


def understood(entry: Any, defaults: Mapping[str, Any]) -> Measured | None:
    """The record; None where it is damaged. A column or a setting more, or one less, does no harm."""
    try:
        settings, about = filled(defaults, dict(entry["settings"])), dict(entry["about"])
        numbers = {str(key): _number(value) for key, value in dict(entry["numbers"]).items()}
        return Measured(int(entry["epoch"]), settings, about, numbers)
    except (KeyError, TypeError, ValueError):
        return None


def filled(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are given, with the defaults for those that are not."""
    both = {**defaults, **given}
    return {
        key: filled(defaults[key], value) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
        for key, value in both.items()
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def most(runs: Iterable[Sequence[Measured]]) -> Mapping[str, Any] | None:
    """The settings that most runs were measured with; None where none was.

    Of settings that equally many runs have, those that were asked for last.
    """
    settings: list[Mapping[str, Any]] = []
    for measured in runs:
        own: list[Mapping[str, Any]] = []
        for one in reversed(measured):
            if one.settings not in own:
                own.append(one.settings)
        settings += own
    return max(settings, key=settings.count, default=None)
