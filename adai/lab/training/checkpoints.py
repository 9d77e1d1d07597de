"""Checkpoints of a run. Each is written completely or not at all, the last two are kept, and damage is detected."""

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
    """Write the state after an epoch, then delete all checkpoints but the last two.

    Args:
        folder: the folder of the run.
        epoch: the number of epochs that are done.
        state: tensors, numbers, strings and containers of them.

    Raises:
        OSError: the file cannot be written; earlier checkpoints are unchanged.
    """
    buffer = io.BytesIO()  # if the disk is full, torch.save to a file raises a RuntimeError that does not say so
    torch.save(state, buffer)
    write_whole(_file(folder, epoch), lambda part: part.write_bytes(buffer.getbuffer()))
    tidy(folder)


def tidy(folder: Path) -> None:
    """Delete all checkpoints but the last two, and incomplete files of a process that was killed."""
    for file in [*_newest_first(folder)[KEPT:], *folder.glob(".*.checkpoint-*.pt")]:
        file.unlink()


def load(folder: Path) -> dict[str, Any] | None:
    """Read the last undamaged checkpoint, on the CPU; None if there is none. A warning names each damaged one."""
    files = _newest_first(folder)
    for file in files:
        try:
            return read(file)
        except Exception as error:  # for a damaged file, zipfile and torch raise errors of many types
            then = "none is left" if file == files[-1] else "going back to the one before"
            logger.warning("%s is damaged (%s); %s", file, type(error).__name__, then)
    return None


def read(file: Path) -> dict[str, Any]:
    """Read a checkpoint, on the CPU. If it is damaged, zipfile or torch raise an error."""
    _check(file)
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _check(file: Path) -> None:
    """Raise if a byte of the contents has changed, which torch.load would not detect."""
    with zipfile.ZipFile(file) as archive:
        bad = archive.testzip()
    if bad is not None:
        raise zipfile.BadZipFile(bad)


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"checkpoint-{epoch:06d}.pt"


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.pt"), reverse=True)
