"""Results that stay: an interruption keeps what was run, and other settings do not overwrite it."""

import json
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.lab.results.run import read_json

GOES_ON = "Interrupted. What was run is kept; the same command goes on from there."


def refuse_others(file: Path, given: Mapping[str, Any], what: str) -> None:
    """Refuse to overwrite a file of numbers that were computed with other settings; equal settings are allowed.

    Args:
        file: JSON, with its settings under ``about``, or at its top.
        given: the settings of the new numbers. Settings that a file of an earlier version lacks are not compared.
        what: a name of the content, for the message.

    Raises:
        UserError: the file has other settings, or is damaged.
    """
    if not file.exists():
        return
    content = read_json(file)
    there = content.get("about", content)
    now = json.loads(json.dumps(given))
    changed = [name for name in now if name in there and there[name] != now[name]]
    if changed:
        raise UserError(
            f"{file.parent} holds {what} of another {', '.join(changed)}, which would be overwritten; give another "
            "folder with --out"
        )


def kept_rows(content: Mapping[str, Any], kind: Any, file: Path) -> list[Any]:
    """The rows in the content of a file of `adai.report.rows.write_json`; null is nan in a field that is a number.

    Args:
        content: what the file contains.
        kind: the class of the rows, a named tuple.
        file: the file, for the message.

    Raises:
        UserError: the rows are of another class, so the file is damaged.
    """

    def value(name: str, there: Any) -> Any:
        return nan if there is None and kind.__annotations__[name] is float else there

    try:
        return [kind(**{name: value(name, row[name]) for name in kind._fields}) for row in content.get("rows", [])]
    except (KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error!r}); remove it, or give another folder with --out") from error
