"""What a failure is, wherever runs are carried out: an attempt fails, the run is tried once more, then it is reported.

The other runs go on in any case.
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
    """A job that has failed as often as it was tried."""

    job: Job
    reason: str

    def __str__(self) -> str:
        return f"{self.job.label} failed {ATTEMPTS} times: {self.reason}"


class Attempt(NamedTuple):
    """A job, and how many times it has been begun."""

    job: Job
    number: int = 1


class Attempts:
    """The jobs that wait, and those that failed. An executor takes attempts from it and says how each ended."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = deque(Attempt(job) for job in jobs)
        self.failures: list[Failure] = []

    def __bool__(self) -> bool:
        """Whether any job waits."""
        return bool(self._waiting)

    def take(self) -> Attempt:
        """The next one to begin."""
        return self._waiting.popleft()

    def ended(self, attempt: Attempt, reason: str | None) -> None:
        """An attempt has ended, for this reason if it failed: it is the next to begin again, or its job has failed."""
        if reason is None:
            return
        if attempt.number < ATTEMPTS:
            self._waiting.appendleft(attempt._replace(number=attempt.number + 1))
        else:
            self.failures.append(Failure(attempt.job, reason))


def carried_out(
    job: Job, progress: Callable[[list[Row]], None] = silent, tick: Callable[[], None] = lambda: None
) -> str | None:
    """Do a job in this process; returns why it failed, None if it did not.

    Whatever it raises is a failure of this run alone, but for an interruption.
    """
    try:
        job.do(progress, tick)
    except Exception as error:
        return explain(job.folder, error)
    return None
