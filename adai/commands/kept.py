"""Results that are there already: what was computed with other settings is not overwritten."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.lab.results.run import read_json


def refuse_others(file: Path, given: Mapping[str, Any], what: str) -> None:
    """Refuse to write over a file of numbers that were computed with other settings; the same ones may come again.

    Args:
        file: JSON, with what it was computed with under ``about``, or at its top.
        given: what is to be computed now; of a file of an earlier version only what it names counts.
        what: it holds, in words.

    Raises:
        UserError: it is of other settings, or damaged.
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
