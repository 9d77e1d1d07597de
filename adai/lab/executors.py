"""Where the runs of a comparison are carried out: in this process, or in processes beside it."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple, Protocol

import torch

from adai.errors import UserError
from adai.lab.jobs import ATTEMPTS, Failure, Job, explain, threads_for

SECOND = 1.0

# Called about every second, or after every epoch.
Tick = Callable[[], None]


class Executor(Protocol):
    """A way to carry out jobs. One that fails is tried once more and then given back; the others go on."""

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns those that failed."""
        ...


def in_process(jobs: Sequence[Job], tick: Tick) -> list[Failure]:
    """One after the other, here, with all of torch's threads.

    Raises:
        UserError: bad input; what is wrong with one run is wrong with the next.
    """
    failures = []
    for job in jobs:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                job.do(lambda rows: tick())
                break
            except UserError:
                raise
            except Exception as error:  # whatever it is, the other runs can still be done
                if attempt == ATTEMPTS:
                    failures.append(Failure(job, explain(job, error)))
    return failures


class Processes:
    """Several at a time, each in a process of its own, which may crash without harm to the others.

    Args:
        at_once: how many.
        threads: of each; default an equal share of the cores. Sums run in another order with another number, so two
            comparisons are equal bit for bit only with the same.
    """

    def __init__(self, at_once: int, threads: int | None = None) -> None:
        self.at_once = at_once
        self.threads = threads or threads_for(at_once)

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns those that failed."""
        waiting = deque((job, 1) for job in jobs)
        running: dict[Any, _Process] = {}
        failures = []
        try:
            while waiting or running:
                while waiting and len(running) < self.at_once:
                    process = _Process.start(*waiting.popleft(), self.threads)
                    running[process.process.sentinel] = process
                for sentinel in wait(list(running), timeout=SECOND):
                    ended = running.pop(sentinel)
                    reason = ended.reason()
                    if reason is not None and ended.attempt < ATTEMPTS:
                        waiting.appendleft((ended.job, ended.attempt + 1))
                    elif reason is not None:
                        failures.append(Failure(ended.job, reason))
                tick()
        finally:
            for process in running.values():
                process.process.terminate()
            for process in running.values():
                process.process.join()
        return failures


class _Process(NamedTuple):
    """A job under way."""

    process: SpawnProcess
    told: Connection
    job: Job
    attempt: int

    @classmethod
    def start(cls, job: Job, attempt: int, threads: int) -> "_Process":
        context = multiprocessing.get_context("spawn")  # forking a process that has run torch's threads can hang
        told, tell = context.Pipe(duplex=False)
        process = context.Process(target=_carry_out, args=(job, threads, tell))
        process.start()
        tell.close()
        return cls(process, told, job, attempt)

    def reason(self) -> str | None:
        """Why it failed, once it has ended; None where it did not."""
        self.process.join()
        with self.told, contextlib.suppress(EOFError):
            return str(self.told.recv())
        code = self.process.exitcode or 0
        if code < 0:
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process exited with status {code}" if code else None


def _carry_out(job: Job, threads: int, tell: Connection) -> None:
    """The whole life of a process: one job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        job.do()
    except Exception as error:  # goes to the parent, which reports it
        tell.send(explain(job, error))


def _end_with_parent() -> None:
    """Without this a killed command would leave runs behind, and a second one would write to the same folders."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
