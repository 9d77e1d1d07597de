"""Tables of named rows as CSV and JSON."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from adai.files import write_whole


def write_csv(path: Path, rows: Sequence[Any], **same: str) -> None:
    """Write named tuples of one kind as CSV, the field names first; None is empty.

    ``same`` are additional columns, with the same text in all rows.
    """

    lines = [[*rows[0]._fields, *same], *([*row, *same.values()] for row in rows)]
    write_whole(path, lambda part: csv_lines(part, lines))


def csv_lines(path: Path, lines: Iterable[Iterable[Any]]) -> None:
    """Write lines of cells as CSV into a file; None stays empty."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(lines)


def write_json(path: Path, rows: Sequence[Any], extra: Mapping[str, Any]) -> None:
    """Write named tuples as JSON under ``rows``, with the ``extra`` entries; null for infinity and nan."""
    plain = [
        {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in row._asdict().items()} for row in rows
    ]
    text = json.dumps({**extra, "rows": plain}, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda part: part.write_text(text))
