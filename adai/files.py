"""Writes files whole or not at all, and makes and removes folders."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adai.errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` write a temporary file, then rename it: readers see either the whole old or the whole new file."""
    part = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, which gives matplotlib the format
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def made(folder: Path) -> Path:
    """The folder, created with its parents if it does not exist.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from error
    return folder


@contextmanager
def removed_if_refused(folder: Path, unless: str | None = None) -> Iterator[None]:
    """If the block raises a `UserError`, remove the folder and those of its parents that did not exist before.

    Args:
        folder: the folder.
        unless: a pattern. The folder stays if a file in it has such a name by then, which was worth computing.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except UserError:
        if unless and any(path.is_file() for path in folder.rglob(unless)):
            raise
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in new[1:]:
            with suppress(OSError):  # something else is in it by now
                parent.rmdir()
        raise
