"""Files that are whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file under another name and rename it: readers find the old file or the new one, whole."""
    part = path.with_name(f".{os.getpid()}.{path.name}")  # keeps the suffix, from which matplotlib takes the format
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
