"""Attempts and failures, the same for every executor: a run that fails is tried once more, and then reported.

The other runs continue in any case.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from adai.lab.host.boundary import explain
from adai.lab.queue.jobs import Job
from adai.lab.results.run import Row
from adai.lab.training.train import silent

ATTEMPTS = 2


class Failure(NamedTuple):
    """A job of which all attempts have failed, with the reason of the last one."""

    job: Job
    reason: str

    def __str__(self) -> str:
        return f"{self.job.label} failed {ATTEMPTS} times: {self.reason}"


class Attempt(NamedTuple):
    """A job, and the number of the attempt, from 1."""

    job: Job
    number: int = 1


class Attempts:
    """The jobs that wait, and the jobs that failed. An executor takes attempts and reports how each ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(Attempt(job) for job in jobs)
        self.failures: list[Failure] = []

    def __bool__(self) -> bool:
        """Whether any job waits."""
        return bool(self._waiting)

    def take(self) -> Attempt:
        """Take the next attempt out of the queue."""
        return self._waiting.popleft()

    def ended(self, attempt: Attempt, reason: str | None) -> None:
        """Report the end of an attempt.

        Args:
            attempt: the attempt.
            reason: why it failed; None if it succeeded. A job that failed is the next to be tried again, until it has
                been tried `ATTEMPTS` times.
        """
        if reason is None:
            return
        if attempt.number < ATTEMPTS:
            self._waiting.appendleft(attempt._replace(number=attempt.number + 1))
        else:
            self.failures.append(Failure(attempt.job, reason))


def carried_out(
    job: Job, progress: Callable[[list[Row]], None] = silent, tick: Callable[[], None] = lambda: None
) -> str | None:
    """Do a job in this process.

    Every exception, except an interruption, is a failure of this job only.

    Returns:
        Why the job failed; None if it succeeded.
    """
    try:
        job.do(progress, tick)
    except Exception as error:
        return explain(job.folder, error)
    return None
