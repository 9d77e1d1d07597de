"""Child processes that end when their parent ends, for whatever reason."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import BaseContext


def end_with_parent() -> None:
    """Make this process end as soon as its parent has ended, also if the parent was killed.

    Otherwise a killed command would leave processes behind that keep its files and pipes open.
    """
    threading.Thread(target=_wait_for_the_end_of_the_parent, daemon=True).start()


def _wait_for_the_end_of_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def of_readers() -> BaseContext:
    """The fastest way to start processes that read data.

    They run none of torch's threads, so on Linux forking is safe; on other systems they import everything again. By
    default, a process that was itself spawned would spawn them, which takes seconds for each.
    """
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def begin_reading(number: int) -> None:
    """Set up a process that reads data; it calls this first."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not the handler of the run's process
    end_with_parent()
