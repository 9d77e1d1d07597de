"""Checkpoints of a run, written by time. Each is written completely or not at all, the last two are kept, and damage is
detected."""

import contextlib
import copy
import io
import logging
import time
import zipfile
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from adai.files import write_whole

logger = logging.getLogger(__name__)

KEPT = 2
EVERY = 60.0  # seconds


class ByTime:
    """Writes the state after an epoch if the last checkpoint is old enough, and else holds a copy in memory.

    Writing may take as long as a short epoch. As a context manager it writes what it holds if an error ends the block.

    Args:
        folder: of the run.
        every: seconds between two checkpoints; with 0 every state is written.
    """

    def __init__(self, folder: Path, every: float = EVERY) -> None:
        self.folder = folder
        self.every = every
        self._written = time.monotonic()
        self._held: tuple[int, dict[str, Any]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            with contextlib.suppress(OSError):  # a full disk may be the error
                self.write_held()

    def take(self, epoch: int, state: dict[str, Any], *, now: bool = False) -> None:
        """Write the state after an epoch if it is time, or ``now``; else hold a copy.

        Raises:
            OSError: as `save`.
        """
        if now or time.monotonic() - self._written >= self.every:
            self._write(epoch, state)
        else:
            self._held = epoch, _copied(state)

    def write_held(self) -> None:
        """Write the last state that was taken, if it is not written yet.

        Raises:
            OSError: as `save`.
        """
        if self._held:
            self._write(*self._held)

    def _write(self, epoch: int, state: dict[str, Any]) -> None:
        save(self.folder, epoch, state)
        self._held = None
        self._written = time.monotonic()


def _copied(state: Any) -> Any:
    """The same on the CPU, which training does not change."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        copied = copy.copy(state)  # a model's state dict has attributes too
        copied.update({key: _copied(value) for key, value in state.items()})
        return copied
    if isinstance(state, list | tuple):
        return type(state)(map(_copied, state))
    return state


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
