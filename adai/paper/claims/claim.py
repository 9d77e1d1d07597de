"""A claim of the paper, and the verdict on it."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HOLDS = "holds"
HOLDS_WHEN = "holds when …"
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


class Claim(NamedTuple):
    """A claim of the paper.

    Args:
        key: a short name, the anchor on the page.
        said: what the paper says, in its words where they are in quotation marks.
        where: the place in the paper.
        judge: reads our results in a folder and gives the verdict.
        files: the files that the judge reads, within the folder; empty if the numbers are computed from formulas.
        commands: the commands that make them.
    """

    key: str
    said: str
    where: str
    judge: Callable[[Path], Found]
    files: Sequence[str] = ()
    commands: Sequence[str] = ()

    def found(self, folder: Path) -> Found:
        """The verdict from our results in the folder; "not shown" if a file is missing."""
        missing = [file for file in self.files if not (folder / file).exists()]
        if missing:
            return Found(NOT_SHOWN, f"Not run yet: there is no {' and no '.join(missing)}.")
        return self.judge(folder)


Line = dict[str, str]


def table(file: Path) -> list[Line]:
    """The lines of a CSV file, by its headings."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def numbers(file: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def json_lines(file: Path) -> list[dict[str, Any]]:
    """The objects in a file with one JSON object per line; a last line that was cut off is left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def between(values: Sequence[float], form: str = ".3g") -> str:
    """``0.9 to 1.1``: the lowest and the highest value."""
    return f"{min(values):{form}} to {max(values):{form}}"


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
