"""Files that are whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path

from adai.errors import UserError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under another name and rename it: readers find the old file or the new one, whole."""
    part = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, from which matplotlib takes the format
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def made(folder: Path) -> Path:
    """The folder, made with those above it if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from error
    return folder
