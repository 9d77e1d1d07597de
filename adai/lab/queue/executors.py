"""Where the runs of a comparison are carried out: in this process, or in processes beside it."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, Protocol

import torch

from adai.lab.host.processes import end_with_parent
from adai.lab.queue.attempts import Attempt, Attempts, Failure, carried_out
from adai.lab.queue.jobs import Job, threads_for

SECOND = 1.0
_PATIENCE = 5.0  # seconds that a process has to close what it has open

# Called about every second, or after every epoch.
Tick = Callable[[], None]


def elsewhere(execute: "Executor") -> bool:
    """Whether it carries out jobs in other processes, which have to import what they run."""
    return bool(getattr(execute, "elsewhere", False))


class Executor(Protocol):
    """A way to carry out jobs; `adai.lab.queue.attempts` says what becomes of one that fails."""

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns those that failed."""
        ...


def in_process(jobs: Sequence[Job], tick: Tick) -> list[Failure]:
    """One after the other, here, with all of torch's threads."""
    attempts = Attempts(jobs)
    while attempts:
        attempt = attempts.take()
        attempts.ended(attempt, carried_out(attempt.job, lambda rows: tick(), tick))
    return attempts.failures


class Processes:
    """Several at a time, each in a process beside this one, which may crash without harm to the others.

    A process that has done a run takes the next: starting one takes longer than a short run. One in which a run failed
    is replaced.

    Args:
        at_once: how many.
        threads: of each; default an equal share of the cores. Sums run in another order with another number, so two
            comparisons are equal bit for bit only with the same.
    """

    elsewhere = True

    def __init__(self, at_once: int, threads: int | None = None) -> None:
        self.at_once = at_once
        self.threads = threads or threads_for(at_once)

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns those that failed."""
        attempts = Attempts(jobs)
        idle: list[_Worker] = []
        busy: dict[Any, _Worker] = {}
        try:
            while attempts or busy:
                while attempts and len(busy) < self.at_once:
                    worker = idle.pop() if idle else _Worker(self.threads)
                    worker.begin(attempts.take())
                    busy[worker.line] = worker
                for line in wait(list(busy), timeout=SECOND):
                    worker = busy.pop(line)
                    reason = worker.end()
                    attempts.ended(worker.attempt, reason)
                    if reason is None:
                        idle.append(worker)
                    else:  # whatever made it fail may still be there in its process
                        worker.stop()
                tick()
        finally:
            for worker in [*idle, *busy.values()]:
                worker.stop()
        return attempts.failures


class _Worker:
    """A process that does one job after the other, until one fails."""

    attempt: Attempt
    busy = False

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process that has run torch's threads can hang
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads))
        self.process.start()
        theirs.close()

    def begin(self, attempt: Attempt) -> None:
        """Give it a job; its line has something to read when the job has ended."""
        self.attempt = attempt
        self.busy = True
        with contextlib.suppress(BrokenPipeError):  # it died while it was idle, which `end` will see
            self.line.send(attempt.job)

    def end(self) -> str | None:
        """Why the job failed, once it has ended; None where it did not."""
        self.busy = False
        try:
            reason: str | None = self.line.recv()
            return reason
        except (EOFError, ConnectionResetError):
            self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            return f"the process was killed by {signal.Signals(-code).name}"
        return f"the process exited with status {code}"

    def stop(self) -> None:
        """End the process, whatever it is doing, and those that read for it: asked first, killed after."""
        with contextlib.suppress(OSError):
            self.line.send(None)  # which it sees when it is idle
        if self.busy:
            self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.line.close()


def _work(line: Connection, threads: int) -> None:
    """The whole life of a process: for every job that comes in, why it failed goes back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    signal.signal(signal.SIGTERM, _leave)
    end_with_parent()
    torch.set_num_threads(threads)
    with contextlib.suppress(_Left):
        while (job := line.recv()) is not None:
            line.send(carried_out(job))


class _Left(BaseException):
    """The process is to end: whatever is open is closed on the way out."""


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Left
