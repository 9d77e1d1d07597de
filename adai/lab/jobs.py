"""A run as a piece of work that any process can take up, and what becomes of one that fails."""

import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.curvature.kept import FlatnessSettings, kept_in, measure_run
from adai.lab.machine import device_named
from adai.lab.run import Run
from adai.lab.settings import Settings
from adai.lab.train import Progress, silent, train

ATTEMPTS = 2


class Job(NamedTuple):
    """A run that is to be done.

    Attributes:
        label: for people.
        settings: what decides the results.
        folder: where they go; absolute, and the same for every machine that may take up the job.
        data_dir: where data sets lie by name, or None.
        command: the command line, kept beside the results.
        flatness: with what its flatness is measured after the last epoch, or None.
    """

    label: str
    settings: Settings
    folder: Path
    data_dir: Path | None = None
    command: str = ""
    flatness: FlatnessSettings | None = None

    @property
    def run(self) -> Run:
        """Where it stands."""
        return Run(self.folder)

    @property
    def to_do(self) -> bool:
        """Whether anything is left of it."""
        status = self.run.status
        return status == "unfinished" or (status == "finished" and self.flatness is not None and not self.measured)

    @property
    def measured(self) -> bool:
        """Whether the flatness that was asked for is there."""
        kept = kept_in(self.folder)
        return kept is not None and kept.settings == self.flatness

    def do(self, progress: Progress = silent) -> None:
        """Carry it out, or what is left of it."""
        train(self.settings, self.folder, data_dir=self.data_dir, command=self.command, progress=progress)
        if self.flatness and self.run.status == "finished":
            device = device_named(self.settings.device)
            try:
                measure_run(self.folder, self.flatness, device=device, data_dir=self.data_dir)
            except UserError as error:  # what is wrong with the minimum of one run need not be with the next
                raise Unmeasured(f"it has finished, but its flatness cannot be measured: {error}") from error


class Unmeasured(Exception):
    """A run has been done, but what was to be measured of it was not."""


# Called now and then with the jobs that are to be done at present; their folders tell how far they are.
Watch = Callable[[Sequence[Job]], None]


class Failure(NamedTuple):
    """A job that was tried twice and not finished; the others are not affected."""

    job: Job
    reason: str

    def __str__(self) -> str:
        return f"{self.job.label} failed {ATTEMPTS} times: {self.reason}"


def explain(job: Job, error: BaseException) -> str:
    """Why a job failed, in one line; where it is not the user's to mend, the whole of it goes to the run's folder."""
    if isinstance(error, UserError | Unmeasured):
        return str(error)
    text = "".join(traceback.format_exception(error))
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_whole(job.folder / "error.txt", lambda part: part.write_text(text))
    except OSError:
        return _line(error)
    return f"{_line(error)} (see {job.folder / 'error.txt'})"


def threads_for(jobs: int) -> int:
    """So many threads for each of several runs at once that together they are as many as torch is set to use."""
    return max(1, torch.get_num_threads() // jobs)


def _line(error: BaseException) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300)
