"""The one boundary to code and data that are not ours: whatever they raise becomes one line, its traceback a file."""

import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adai.errors import UserError
from adai.files import write_whole

ERROR = "error.txt"


class Failed(UserError):
    """A task, a model, a loss or a data set raised an error, the cause of this one; other runs may go on.

    Args:
        message: what failed, and why.
        reason: why alone; default the message.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason or message


@contextmanager
def theirs(what: str) -> Iterator[None]:
    """Run somebody else's code.

    Args:
        what: that code, for the message ``<what> failed: <error>``.

    Raises:
        Failed: it raised an error, or left by `sys.exit`.
        UserError: as it was raised.
    """
    try:
        yield
    except UserError as error:
        if str(error) == original(error):
            raise
        raise UserError(original(error)) from error  # of a process that reads data
    except (Exception, SystemExit) as error:
        reason = in_a_line(error)
        raise Failed(f"{what} failed: {reason}", reason) from error


@contextmanager
def traced(folder: Path) -> Iterator[None]:
    """Keep the traceback of what fails in the block in ``error.txt`` of the folder, and say so.

    Raises:
        UserError: somebody else's code failed.
    """
    try:
        yield
    except Failed as error:
        raise UserError(f"{error}{_kept(folder, error)}") from error


def explain(folder: Path, error: BaseException) -> str:
    """Why a run failed, in one line; where it is more than bad input, the traceback goes to the run's folder."""
    if isinstance(error, Failed):
        return f"{error.reason}{_kept(folder, error)}"
    return str(error) if isinstance(error, UserError) else f"{in_a_line(error)}{_kept(folder, error)}"


def in_a_line(error: BaseException) -> str:
    """The error's kind and what it says; of one that was caught here before, that of its cause."""
    if isinstance(error, Failed):
        return error.reason
    return textwrap.shorten(f"{type(error).__name__}: {original(error)}", 300)


def original(error: BaseException) -> str:
    """What the error says; where it comes from a process that reads data, what was said there, without traceback."""
    text = str(error)
    if text.startswith("Caught ") and "in DataLoader worker process" in text:
        return text.strip().splitlines()[-1].partition(": ")[2]
    return text


def _kept(folder: Path, error: BaseException) -> str:
    if isinstance(error, Failed) and isinstance(error.__cause__, UserError):
        return _kept(folder, error.__cause__)  # which says it all, unless it stands for another
    if isinstance(error, UserError) and not isinstance(error, Failed):
        return ""
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / ERROR, lambda part: part.write_text(text))
    except OSError:
        return ""
    return f" (see {folder / ERROR})"
