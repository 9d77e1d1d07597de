"""The measurements of a run, after its last epoch or along training, in the run's folder.

Each measure has a file::

    DIR/curvature.json          flatness
    DIR/stability.json          the stability margin
    DIR/<name>.measure.json     any other measure

Each file holds ``{"version": 1, "measured": [...]}``; the last kind also holds the columns. Numbers are read by name:
unknown numbers are ignored, and a record may lack some.
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
        epoch: the number of epochs that the run had done.
        settings: the settings of the measure. Only measurements with equal settings can be compared.
        about: a description of the computation, for people: batch norm's mode, the number of samples.
        numbers: the results by column; None for a number that is not finite.
    """

    epoch: int
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    numbers: Mapping[str, float | None]

    def number(self, column: str) -> float | None:
        """One of the numbers; None if it is not finite or was not measured."""
        return self.numbers.get(column)

    def as_dict(self) -> dict[str, Any]:
        """The measurement as JSON stores it."""
        return self._asdict()


def file_of(run: Path, measure: str) -> Path:
    """The file of a measure in the folder of a run."""
    return run / FILES.get(measure, f"{measure}{OTHER}")


def measures_in(run: Path) -> list[str]:
    """The names of the measures that a run has files of."""
    known = [name for name in FILES if file_of(run, name).is_file()]
    return known + sorted(file.name.removesuffix(OTHER) for file in run.glob(f"*{OTHER}"))


def columns_in(run: Path, measure: str) -> dict[str, str]:
    """The columns with their headings, from the file of a measure; empty if the file does not have them."""
    try:
        return {str(key): str(heading) for key, heading in read_json(file_of(run, measure))["columns"].items()}
    except (OSError, UserError, KeyError, AttributeError):
        return {}


def measured_in(run: Path, measure: str, defaults: Mapping[str, Any] | None = None) -> list[Measured]:
    """The measurements of a run, without damaged records. The one that was asked for last is at the end.

    Args:
        run: the folder of the run.
        measure: the name of the measure.
        defaults: values of the settings that a record lacks because an earlier version wrote it.
    """
    entries = entries_in(run, measure)
    return [one for entry in entries if (one := understood(entry, defaults or {}))]


def entries_in(run: Path, measure: str) -> list[Any]:
    """The records in the file of a measure, as JSON stores them; empty if the file does not exist or is damaged."""
    file = file_of(run, measure)
    try:
        entries = read_json(file)["measured"] if file.is_file() else []
    except (UserError, KeyError):
        return []
    return entries if isinstance(entries, list) else []


def write(run: Path, measure: str, entries: Sequence[Any], columns: Mapping[str, str]) -> None:
    """Write all records of a measure. Records from `entries_in` are written unchanged.

    Raises:
        OSError: the file cannot be written; it is unchanged.
    """
    named = {} if measure in FILES else {"columns": dict(columns)}
    write_json(file_of(run, measure), {"version": VERSION, **named, "measured": list(entries)})


def understood(entry: Any, defaults: Mapping[str, Any]) -> Measured | None:
    """The measurement of a record; None if it is damaged. It may have more or fewer columns and settings."""
    try:
        settings, about = filled(defaults, dict(entry["settings"])), dict(entry["about"])
        numbers = {str(key): _number(value) for key, value in dict(entry["numbers"]).items()}
        return Measured(int(entry["epoch"]), settings, about, numbers)
    except (KeyError, TypeError, ValueError):
        return None


def filled(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, and the defaults for those that are missing, also within nested settings."""
    both = {**defaults, **given}
    return {
        key: filled(defaults[key], value) if isinstance(value, dict) and isinstance(defaults.get(key), dict) else value
        for key, value in both.items()
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def most(runs: Iterable[Sequence[Measured]]) -> Mapping[str, Any] | None:
    """The settings that most runs were measured with; None if no run was measured.

    If equally many runs have several settings, the settings that were asked for last.
    """
    settings: list[Mapping[str, Any]] = []
    for measured in runs:
        own: list[Mapping[str, Any]] = []
        for one in reversed(measured):
            if one.settings not in own:
                own.append(one.settings)
        settings += own
    return max(settings, key=settings.count, default=None)
