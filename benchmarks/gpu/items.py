"""How the items of a part are run: one after the other, each error written down, everything written after each item."""

import json
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Scale(NamedTuple):
    """What the items work on."""

    device: str
    dry: bool
    """Whether sizes are tiny, and what needs a GPU is left out."""
    data: Path | None = None
    """A folder with the parts of the file of images; for part D."""
    seconds: float = 330.0
    """What a part may take: no item begins later."""
    until: float = float("inf")
    """When the part is over, by `time.monotonic`."""
    keep: Callable[[Any], None] = lambda _: None
    """Writes down what an item has found so far."""


class Skipped(Exception):
    """The item cannot be run here; the message says why."""


Item = Callable[[Scale], Any]


def needs_gpu(scale: Scale) -> None:
    """Skip the item where there is none."""
    if scale.device != "cuda":
        raise Skipped("needs a GPU")


def run(items: Iterable[Item], scale: Scale, file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Run the items and write the file after each; returns what it holds."""
    file.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {**about, "items": {}}
    until = time.monotonic() + scale.seconds
    for item in items:
        entry: dict[str, Any] = {}
        report["items"][item.__name__] = entry
        _run(item, scale._replace(until=until), entry, lambda: _write(file, report))
        _write(file, report)
        told = entry["result"] if entry["status"] == "done" else entry["why"].strip().splitlines()[-1]
        print(f"{item.__name__}: {entry['status']} ({entry['seconds']:.1f} s): {told}", flush=True)
    return report


def _run(item: Item, scale: Scale, entry: dict[str, Any], write: Callable[[], None]) -> None:
    def keep(found: Any) -> None:
        entry.update(status="unfinished", result=found)
        write()

    start = time.monotonic()
    try:
        if start > scale.until:
            raise Skipped("the part's time is over")
        entry.update(result=item(scale._replace(keep=keep)), status="done")
    except Skipped as error:
        entry.update(status="skipped", why=str(error))
    except Exception:  # of any kind: the next items are to be run all the same
        entry.update(status="failed", why=traceback.format_exc())
    entry["seconds"] = time.monotonic() - start


def _write(file: Path, report: dict[str, Any]) -> None:
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(report, indent=1, default=str) + "\n")
    part.replace(file)
