"""The boundary to the user's code and data: an error becomes a message of one line, and a file with the traceback."""

import textwrap
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from adai.errors import UserError
from adai.files import write_whole

ERROR = "error.txt"


class Failed(UserError):
    """A task, a model, a loss or a data set raised an error, which is the cause of this one. Other runs may continue.

    Args:
        message: what failed, and why.
        reason: only why; default the message.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


@contextmanager
def theirs(what: str) -> Iterator[None]:
    """Run the user's code in this block.

    Args:
        what: a name of the code, for the message ``<what> failed: <error>``.

    Raises:
        Failed: the code raised an error, or called `sys.exit`.
        UserError: the code raised a `UserError`; it is passed on.
    """
    try:
        yield
    except UserError as error:
        if str(error) == original(error):
            raise
        raise UserError(original(error)) from error  # it comes from a worker process that reads data
    except (Exception, SystemExit) as error:
        reason = in_a_line(error)
        raise Failed(f"{what} failed: {reason}", reason) from error


@contextmanager
def traced(folder: Path) -> Iterator[None]:
    """If the user's code fails in the block, write the traceback to ``error.txt`` in the folder, and say so.

    Raises:
        UserError: the user's code failed.
    """
    try:
        yield
    except Failed as error:
        raise UserError(f"{error}{_kept(folder, error)}") from error


def explain(folder: Path, error: BaseException) -> str:
    """Why a run failed, in one line. Unless it was only bad input, the traceback is written to the run's folder."""
    return f"{_reason(error)}{_kept(folder, error)}"


def explain_each(folder: Path, failed: Mapping[str, UserError]) -> list[str]:
    """Why several things of these names failed, a line each, as `explain`; one file has all tracebacks."""
    where = _kept(folder, *failed.values())
    return [f"{name}: {_reason(error)}{where if _traceback(error) else ''}" for name, error in failed.items()]


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, UserError) and not isinstance(error, Failed) else in_a_line(error)


def in_a_line(error: BaseException) -> str:
    """The error's type and message; for a `Failed` error, those of its cause."""
    if isinstance(error, Failed):
        return error.reason
    return textwrap.shorten(f"{type(error).__name__}: {original(error)}", 300)


def original(error: BaseException) -> str:
    """The error's message; if the error comes from a worker process that reads data, the message there."""
    text = str(error)
    if text.startswith("Caught ") and "in DataLoader worker process" in text:
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text


def _kept(folder: Path, *errors: BaseException) -> str:
    """Write the tracebacks to the folder; returns where they are, nothing if there are none."""
    text = "\n".join(filter(None, map(_traceback, errors)))
    if not text:
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / ERROR, lambda part: part.write_text(text))
    except OSError:
        return ""
    return f" (see {folder / ERROR})"


def _traceback(error: BaseException) -> str:
    """The traceback; empty for a `UserError`, which needs none, unless it is a `Failed` error."""
    if isinstance(error, Failed) and isinstance(error.__cause__, UserError):
        return _traceback(error.__cause__)
    if isinstance(error, UserError) and not isinstance(error, Failed):
        return ""
    return "".join(traceback.format_exception(error))
