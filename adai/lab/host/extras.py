"""Packages that only some runs need."""

from collections.abc import Iterator
from contextlib import contextmanager

from adai.errors import UserError


@contextmanager
def needed(package: str, *, by: str, install: str) -> Iterator[None]:
    """Import an optional package in this block.

    Args:
        package: the name under which it is imported.
        by: the argument that needs it, for the message.
        install: what ``pip install`` takes.

    Raises:
        UserError: the package is not installed.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or package).partition(".")[0] != package:
            raise
        raise UserError(f"{by} needs the package {package}; pip install {install}") from error
