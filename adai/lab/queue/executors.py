"""Carries out the runs of a comparison: in this process, or in child processes."""

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
_PATIENCE = 5.0  # seconds that a process has to close its files before it is killed

# Called about every second, or after every epoch.
Tick = Callable[[], None]


def elsewhere(execute: "Executor") -> bool:
    """Whether an executor uses other processes, which have to import the task and the optimizers."""
    return bool(getattr(execute, "elsewhere", False))


class Executor(Protocol):
    """Carries out jobs; `adai.lab.queue.attempts` defines what happens if one fails."""

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns the failures."""
        ...


def in_process(jobs: Sequence[Job], tick: Tick) -> list[Failure]:
    """Do the jobs one after the other in this process, with all of torch's threads; returns the failures."""
    attempts = Attempts(jobs)
    while attempts:
        attempt = attempts.take()
        attempts.ended(attempt, carried_out(attempt.job, lambda rows: tick(), tick))
    return attempts.failures


class Processes:
    """Does several jobs at a time, each in a child process. A process that crashes does not affect the others.

    A process does one job after the other, because starting a process takes longer than a short run. After a job has
    failed, its process is replaced.

    Args:
        at_once: the number of processes.
        threads: the number of threads of each process; default an equal share of torch's threads. The number of threads
            changes the order of sums, so two comparisons are bit for bit equal only with the same number.
    """

    elsewhere = True

    def __init__(self, at_once: int, threads: int | None = None) -> None:
        self.at_once = at_once
        self.threads = threads or threads_for(at_once)

    def __call__(self, jobs: Sequence[Job], tick: Tick) -> list[Failure]:
        """Do all jobs; returns the failures."""
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
                    else:  # the cause of the failure may remain in the process
                        worker.stop()
                tick()
        finally:
            for worker in [*idle, *busy.values()]:
                worker.stop()
        return attempts.failures


class _Worker:
    """A child process that does one job after the other until one fails."""

    attempt: Attempt
    busy = False

    def __init__(self, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process that has run torch's threads can hang
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, threads))
        self.process.start()
        theirs.close()

    def begin(self, attempt: Attempt) -> None:
        """Send a job to the process; its line becomes readable when the job has ended."""
        self.attempt = attempt
        self.busy = True
        with contextlib.suppress(BrokenPipeError):  # the process died while it was idle; `end` reports this
            self.line.send(attempt.job)

    def end(self) -> str | None:
        """Wait for the end of the job; returns why it failed, None if it succeeded."""
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
        """End the process and its readers of data: ask it to end, and kill it if it does not."""
        with contextlib.suppress(OSError):
            self.line.send(None)  # an idle process ends when it receives None
        if self.busy:
            self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.line.close()


def _work(line: Connection, threads: int) -> None:
    """Run a child process: receive jobs, do them, and send back why each failed, or None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent decides what to do
    signal.signal(signal.SIGTERM, _leave)
    end_with_parent()
    torch.set_num_threads(threads)
    with contextlib.suppress(_Left):
        while (job := line.recv()) is not None:
            line.send(carried_out(job))


class _Left(BaseException):
    """Ends the process. As an exception it lets all open files be closed."""


def _leave(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not interrupt the closing
    raise _Left
