"""A run as a piece of work that any process can take up."""

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
    """A run that is to be done.

    Attributes:
        label: for people.
        settings: what decides the results.
        folder: where they go; absolute, and the same for every machine that may take up the job.
        data_dir: where data sets lie by name, or None.
        command: the command line, kept beside the results.
        measures: what is measured of it, and how often.
        checkpoint_every: seconds between two checkpoints, as of `adai.lab.training.train.train`.
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
        """Where it stands."""
        return Run(self.folder)

    @property
    def to_do(self) -> bool:
        """Whether anything is left of it."""
        return self.run.status == "unfinished" or not self.measured

    @property
    def measured(self) -> bool:
        """Whether what was asked for is measured after the last epoch, of all that such a run can be measured of."""
        return not self._unmeasured(self.run.status)

    def _unmeasured(self, status: Status) -> list[Measure]:
        return [
            asked.measure
            for asked in self.measures
            if status not in asked.measure.not_after and not asked.measure.is_kept(self.folder, self.settings.epochs)
        ]

    def do(self, progress: Progress = silent, tick: Callable[[], None] = lambda: None) -> None:
        """Carry it out, or what is left of it.

        Args:
            progress: as of `adai.lab.training.train.train`.
            tick: called about every second of training.
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
        for left in (STEPS, ERROR):  # what an earlier attempt said of its failure is over
            (self.folder / left).unlink(missing_ok=True)
        try:
            for measure in self._unmeasured(self.run.status):
                self._measure(measure)
        except UserError as error:  # what is wrong with the minimum of one run need not be with the next
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
        """How much of its training is done, as the run itself said about a second ago; 0 where it said nothing."""
        try:
            done, total = map(int, (self.folder / STEPS).read_text().split())
        except (OSError, ValueError):
            return 0.0
        return done / total

    def _is_due(self, epoch: int, every: int) -> bool:
        """Whether something is to be measured after so many epochs, before the last."""
        return 0 < epoch < self.settings.epochs and every > 0 and epoch % every == 0

    def _measure_on_the_way(self, measure: Measure, epoch: int) -> None:
        """Measure between two epochs, of whose parameters nothing will be left; training goes on whatever happens."""
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
    """Counts the steps of a run into a file, about every second: whoever watches may be in another process."""

    def __init__(self, file: Path, tick: Callable[[], None]) -> None:
        self._file, self._tick = file, tick
        self._done, self._told = 0, -math.inf

    def count(self, more: int, total: int) -> None:
        """So many more of so many are done."""
        self._done += more
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            with contextlib.suppress(OSError):  # a full disk is said by what has to be written
                write_whole(self._file, lambda part: part.write_text(f"{self._done} {total}"))
            self._tick()


class Unmeasured(Failed):
    """A run has been done, but what was to be measured of it was not."""


# Called now and then with the jobs that are to be done at present; their folders tell how far they are.
Watch = Callable[[Sequence[Job]], None]


def threads_for(jobs: int) -> int:
    """So many threads for each of several runs at once that together they are as many as torch is set to use."""
    return max(1, torch.get_num_threads() // jobs)
