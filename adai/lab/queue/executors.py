"""Where the runs of a comparison are carried out: in this process, or in processes beside it."""

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch

from adai.errors import UserError
from adai.lab.host.boundary import Failed, explain
from adai.lab.host.processes import end_with_parent
from adai.lab.queue.jobs import ATTEMPTS, Failure, Job, threads_for

SECOND = 1.0
_PATIENCE = 5.0  # seconds that a process has to close what it has open

# Called about every second, or after every epoch.
Tick = Callable[[], None]


def elsewhere(execute: "Executor") -> bool:
    """Whether it carries out jobs in other processes, which have to import what they run."""
    return bool(getattr(execute, "elsewhere", False))


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
                job.do(lambda rows: tick(), tick)
                break
            except Exception as error:  # whatever it is, the other runs can still be done
                if isinstance(error, UserError) and not isinstance(error, Failed):
                    raise
                if attempt == ATTEMPTS:
                    failures.append(Failure(job, explain(job.folder, error)))
    return failures


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
        waiting = deque(_Attempt(job, 1) for job in jobs)
        idle: list[_Worker] = []
        busy: dict[Any, _Worker] = {}
        failures = []
        try:
            while waiting or busy:
                while waiting and len(busy) < self.at_once:
                    worker = idle.pop() if idle else _Worker(self.threads)
                    worker.begin(waiting.popleft())
                    busy[worker.line] = worker
                for line in wait(list(busy), timeout=SECOND):
                    worker = busy.pop(line)
                    job, number = worker.attempt
                    reason = worker.end()
                    if reason is None:
                        idle.append(worker)
                    else:  # whatever made it fail may still be there in its process
                        worker.stop()
                    if reason is not None and number < ATTEMPTS:
                        waiting.appendleft(_Attempt(job, number + 1))
                    elif reason is not None:
                        failures.append(Failure(job, reason))
                tick()
        finally:
            for worker in [*idle, *busy.values()]:
                worker.stop()
        return failures


class _Attempt(NamedTuple):
    """A job, and how many times it has been begun."""

    job: Job
    number: int


class _Worker:
    """A process that does one job after the other, until one fails."""

    attempt: _Attempt
    busy = False

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process that has run torch's threads can hang
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads))
        self.process.start()
        theirs.close()

    def begin(self, attempt: _Attempt) -> None:
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
            try:
                job.do()
                reason = None
            except Exception as error:  # goes to the parent, which reports it
                reason = explain(job.folder, error)
            line.send(reason)


class _Left(BaseException):
    """The process is to end: whatever is open is closed on the way out."""


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Left
