"""Processes that end with the one that started them, whatever becomes of it."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.context import BaseContext


def end_with_parent() -> None:
    """Have this process end as soon as the one that started it is gone, also if that was killed.

    Without it a killed command would leave processes behind that keep its files and pipes open.
    """
    threading.Thread(target=_wait_for_the_end_of_the_parent, daemon=True).start()


def _wait_for_the_end_of_the_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def of_readers() -> BaseContext:
    """How processes that read data start: as fast as can be.

    They run no threads of torch's, so on Linux forking is safe; elsewhere they import everything anew. A process that
    was itself spawned would spawn them by default, which takes seconds for each.
    """
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def begin_reading(number: int) -> None:
    """What a process that reads data does first."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the run's process does on it
    end_with_parent()
