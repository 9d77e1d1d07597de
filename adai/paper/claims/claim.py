"""A claim of the paper, and the verdict on it."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HOLDS = "holds"
HOLDS_WHEN = "holds under a condition"
NOT_SHOWN = "not shown"
DOES_NOT_HOLD = "does not hold"
VERDICTS = (HOLDS, HOLDS_WHEN, NOT_SHOWN, DOES_NOT_HOLD)


class Found(NamedTuple):
    """The verdict on a claim.

    Args:
        verdict: one of `VERDICTS`.
        sentence: the reason, with our numbers.
    """

    verdict: str
    sentence: str


class NotRunError(Exception):
    """What a judge needs has not been run. The message says what is missing, as the end of a sentence."""


class Claim(NamedTuple):
    """A claim of the paper.

    Args:
        key: a short name, the anchor on the page.
        said: what the paper says, in its words where they are in quotation marks.
        where: the place in the paper.
        judge: reads our results in a folder and gives the verdict; it raises `NotRunError` if they do not suffice.
        files: the files that the judge needs, within the folder.
        commands: the commands that make them.
        theory: the keys of the results of `adai.theory` that the claim is about.
    """

    key: str
    said: str
    where: str
    judge: Callable[[Path], Found]
    files: Sequence[str] = ()
    commands: Sequence[str] = ()
    theory: Sequence[str] = ()

    def found(self, folder: Path) -> Found:
        """The verdict from our results in the folder; "not shown" if a file, or what it should hold, is missing."""
        missing = [file for file in self.files if not (folder / file).exists()]
        if missing:
            return _not_run(f"there is no {' and no '.join(missing)}")
        try:
            return self.judge(folder)
        except NotRunError as error:
            return _not_run(str(error))


def _not_run(what: str) -> Found:
    return Found(NOT_SHOWN, f"Not run yet: {what}.")


Line = dict[str, str]


def table(file: Path, optimizer: str | None = None) -> list[Line]:
    """The lines of a CSV file, by its headings; with an optimizer, its lines alone.

    Raises:
        NotRunError: there is no such line.
    """
    with file.open(newline="", encoding="utf-8") as opened:
        lines = [line for line in csv.DictReader(opened) if optimizer in (None, line.get("optimizer"))]
    if not lines:
        raise NotRunError(f"{_name(file)} has no numbers{f' of {optimizer}' if optimizer else ''}")
    return lines


def numbers(file: Path, *keys: str) -> Any:
    """What a JSON file has under these keys, each within the one before.

    Raises:
        NotRunError: it does not have that, or is empty.
    """
    text = file.read_text(encoding="utf-8")
    content: Any = json.loads(text) if text.strip() else {}
    for key in keys:
        if key not in content:
            raise NotRunError(f"{_name(file)} has no {key}")
        content = content[key]
    return content


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in a file with one JSON object per line; a last line that was cut off is left out.

    Raises:
        NotRunError: there is no line.
    """
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    found = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
    if not found:
        raise NotRunError(f"{_name(file)} has no runs")
    return found


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def between(values: Sequence[float], form: str = ".3g") -> str:
    """``0.9 to 1.1``: the lowest and the highest value."""
    return f"{min(values):{form}} to {max(values):{form}}"


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
