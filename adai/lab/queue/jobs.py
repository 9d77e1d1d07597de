"""A run as a job that any process can do."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.host import random_state
from adai.lab.host.boundary import ERROR, Failed, in_a_line
from adai.lab.host.machine import device_named
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.subject import by_settings
from adai.lab.results.outcome import Status
from adai.lab.results.run import Row, Run
from adai.lab.settings import Settings
from adai.lab.training.checkpoints import EVERY
from adai.lab.training.train import Progress, algorithms, diverged, silent, train

logger = logging.getLogger(__name__)

STEPS = "steps.txt"


class Job(NamedTuple):
    """A run to do, with its measurements.

    Attributes:
        label: its name in messages.
        settings: the settings of the run.
        folder: the folder of its results: an absolute path, the same on every machine that may do the job.
        data_dir: the folder that contains the data sets, or None.
        command: the command line, which is stored with the results.
        measures: the measures of the run.
        checkpoint_every: seconds between two checkpoints, as for `adai.lab.training.train.train`.
    """

    label: str
    settings: Settings
    folder: Path
    data_dir: Path | None = None
    command: str = ""
    measures: tuple[Asked, ...] = ()
    checkpoint_every: float = EVERY

    @property
    def run(self) -> Run:
        """The run on disk."""
        return Run(self.folder)

    @property
    def to_do(self) -> bool:
        """Whether the run or one of its measurements is missing."""
        return self.run.status == "unfinished" or not self.measured

    @property
    def measured(self) -> bool:
        """Whether the run has all measurements after its last epoch that its status allows."""
        return not self._unmeasured(self.run.status)

    def _unmeasured(self, status: Status) -> list[Measure]:
        return [
            asked.measure
            for asked in self.measures
            if status not in asked.measure.not_after and not asked.measure.is_kept(self.folder, self.settings.epochs)
        ]

    def do(self, progress: Progress = silent, tick: Callable[[], None] = lambda: None) -> None:
        """Do the job, or the part of it that is missing.

        Args:
            progress: as for `adai.lab.training.train.train`.
            tick: called about every second during training.

        Raises:
            Unmeasured: the run has finished, but a measure raised an error.
            Failed: as `adai.lab.training.train.train`.
            UserError: as `adai.lab.training.train.train`.
        """
        steps = Steps(self.folder / STEPS, tick)

        def after_an_epoch(rows: list[Row]) -> None:
            for asked in self.measures:
                if self._is_due(len(rows), asked.every) and not diverged(rows):
                    self._measure_on_the_way(asked.measure, len(rows))
            progress(rows)

        train(
            self.settings,
            self.folder,
            data_dir=self.data_dir,
            command=self.command,
            checkpoint_every=self.checkpoint_every,
            needed=lambda epoch: any(self._is_due(epoch, asked.every) for asked in self.measures),
            progress=after_an_epoch,
            stepped=steps.count,
        )
        for left in (STEPS, ERROR):  # the error of an earlier attempt no longer applies
            (self.folder / left).unlink(missing_ok=True)
        try:
            for measure in self._unmeasured(self.run.status):
                self._measure(measure)
        except UserError as error:  # a measure may fail for one run and work for the next
            raise Unmeasured(f"it has finished, but cannot be measured: {error}") from error

    def try_to_measure(self) -> None:
        """Check, before hours of training, that such a run can be measured.

        Raises:
            UserError: it cannot.
        """
        device = device_named(self.settings.device)
        with self._of_measuring():
            subject = by_settings(self.settings, device=device, data_dir=self.data_dir)
            for asked in self.measures:
                asked.measure.try_out(subject)

    @property
    def share_of_steps(self) -> float:
        """The share of its training steps that is done, about a second ago; 0 if the run has not written it."""
        try:
            done, total = map(int, (self.folder / STEPS).read_text().split())
        except (OSError, ValueError):
            return 0.0
        return done / total

    def _is_due(self, epoch: int, every: int) -> bool:
        """Whether a measure along training is due after this number of epochs, which is not the last."""
        return 0 < epoch < self.settings.epochs and every > 0 and epoch % every == 0

    def _measure_on_the_way(self, measure: Measure, epoch: int) -> None:
        """Measure between two epochs. An error is only logged, so that training continues."""
        try:
            with random_state.untouched(device_named(self.settings.device)), self._of_measuring():
                self._measure(measure)
        except Exception as error:
            logger.warning("%s: no %s after epoch %d: %s", self.label, measure.said, epoch, in_a_line(error))

    def _of_measuring(self) -> contextlib.AbstractContextManager[None]:
        """The algorithms of measures: second derivatives have fewer deterministic ones than training needs."""
        return algorithms(replace(self.settings, deterministic=False, precision="fp32"))

    def _measure(self, measure: Measure) -> None:
        measure.keep(self.folder, device=device_named(self.settings.device), data_dir=self.data_dir)


class Steps:
    """Writes the number of steps of a run to a file, about every second, because another process may show it."""

    def __init__(self, file: Path, tick: Callable[[], None]) -> None:
        self._file, self._tick = file, tick
        self._done, self._told = 0, -math.inf

    def count(self, more: int, total: int) -> None:
        """Count ``more`` steps of ``total``."""
        self._done += more
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            with contextlib.suppress(OSError):  # if the disk is full, writing the checkpoint reports it
                write_whole(self._file, lambda part: part.write_text(f"{self._done} {total}"))
            self._tick()


class Unmeasured(Failed):
    """A run has finished, but could not be measured."""


# Called regularly with the jobs of the queue, whose folders show their progress.
Watch = Callable[[Sequence[Job]], None]


def threads_for(jobs: int) -> int:
    """The number of threads for each of several jobs at a time: an equal share of torch's threads, at least 1."""
    return max(1, torch.get_num_threads() // jobs)
