"""Checkpoints of a run: written whole, the last two kept, and a damaged one noticed."""

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from adai.files import write_whole

logger = logging.getLogger(__name__)

KEPT = 2


def save(folder: Path, epoch: int, state: dict[str, Any]) -> None:
    """Write the state after an epoch, then drop all but the last two.

    Args:
        folder: of the run.
        epoch: how many are done.
        state: tensors, numbers, strings and containers of them.

    Raises:
        OSError: it cannot be written; the checkpoints before are still there.
    """
    buffer = io.BytesIO()  # torch.save to a file turns a full disk into a RuntimeError that does not name it
    torch.save(state, buffer)
    write_whole(_file(folder, epoch), lambda part: part.write_bytes(buffer.getbuffer()))
    tidy(folder)


def tidy(folder: Path) -> None:
    """Drop all but the last two, and what a process that was killed was writing."""
    for file in [*_newest_first(folder)[KEPT:], *folder.glob(".*.checkpoint-*.pt")]:
        file.unlink()


def load(folder: Path) -> dict[str, Any] | None:
    """The state of the last checkpoint that is whole, on the CPU; None where there is none.

    A damaged one is named in a warning, and the one before it is taken.
    """
    files = _newest_first(folder)
    for file in files:
        try:
            return read(file)
        except Exception as error:  # whatever a damaged file makes zipfile or torch raise
            then = "none is left" if file == files[-1] else "going back to the one before"
            logger.warning("%s is damaged (%s); %s", file, type(error).__name__, then)
    return None


def read(file: Path) -> dict[str, Any]:
    """The state in one checkpoint, on the CPU; whatever zipfile or torch raise where it is damaged."""
    _check(file)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _check(file: Path) -> None:
    """Raise where a byte of the contents is another than was written: torch.load would not notice."""
    with zipfile.ZipFile(file) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(bad)


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint-{epoch:06d}.pt"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)
