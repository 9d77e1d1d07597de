"""The base of measures: numbers that are computed for a run after its last epoch, and optionally along training.

To add a measure, derive from `Measure`, and give an instance to ``compare(measures=[...])``. To give its name there
instead, add it to `adai.lab.measure.table.MEASURES`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host.boundary import theirs
from adai.lab.host.precision import float32_products
from adai.lab.measure.objective import Progress, silent
from adai.lab.measure.stored import Stored
from adai.lab.measure.subject import Subject
from adai.lab.results import measured
from adai.lab.results.measured import Measured
from adai.lab.results.outcome import Status
from adai.lab.results.run import Run, finite, writing_to


class Measure:
    """A measure with its settings. It has to be picklable, because other processes may use it.

    A measure of your own defines `of`, its name and its columns::

        class WeightNorm(Measure):
            name = "weight-norm"
            columns = {"norm": "norm of the weights"}

            def of(self, subject, optimizer):
                return {"norm": sum(p.square().sum().item() for p in subject.model.parameters()) ** 0.5}

    Attributes:
        name: its name, also that of its file in a run's folder.
        title: its name in sentences; default ``name``.
        columns: the names of its numbers, with their headings in tables.
        not_after: runs with one of these statuses are not measured after their last epoch.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    columns: ClassVar[Mapping[str, str]]
    not_after: ClassVar[tuple[Status, ...]] = ("diverged",)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the numbers, as JSON stores them; default none."""
        return {}

    @property
    def defaults(self) -> dict[str, Any]:
        """Values for the settings that a record of an earlier version lacks; default `settings`."""
        return self.settings

    @property
    def said(self) -> str:
        """Its name in sentences."""
        return self.title or self.name

    def of(self, subject: Subject, optimizer: Optimizer) -> Mapping[str, float]:
        """The numbers of a run, by column.

        Args:
            subject: the model with the parameters after an epoch, the training data and the loss.
            optimizer: the optimizer with its state after that epoch.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define of(subject, optimizer), or found(stored, ...)")

    def found(self, stored: Stored, progress: Progress) -> Measured:
        """Measure at a checkpoint; default the numbers of `of`.

        Override it if a measure describes its computation, does not need the optimizer, or takes long.

        Args:
            stored: the checkpoint.
            progress: called with what is computed.
        """
        subject, optimizer = stored.in_training()
        numbers = {key: float(value) for key, value in self.of(subject, optimizer).items()}
        return Measured(subject.epoch or 0, self.settings, {}, finite(numbers))

    def at(
        self,
        path: Path,
        *,
        device: torch.device | None = None,
        data_dir: Path | None = None,
        progress: Progress = silent,
    ) -> Measured:
        """Measure at the last checkpoint of a run's folder, or at one of its checkpoints.

        Args:
            path: the folder or the checkpoint.
            device: the device to compute on; default the CPU.
            data_dir: the folder that contains the data sets.
            progress: called with what is computed.

        Raises:
            Failed: the model, the loss, the data or the measure raise an error.
            UserError: the run, its data or its task cannot be read, or it cannot be measured.
        """
        with theirs(f"measuring {self.said} of {path}"):
            return self.found(Stored(path, device, data_dir), progress)

    def check(self, optimizer: Optimizer) -> None:
        """Check that runs of this optimizer can be measured; default no check.

        Raises:
            UserError: they cannot be measured.
        """

    def try_out(self, subject: Subject) -> None:
        """Check before training that a run can be measured; default no check.

        Args:
            subject: the model with its initial weights, the training data and the loss.

        Raises:
            UserError: the run cannot be measured.
        """

    def like(self, comparison: Path, *, along: bool) -> Self:
        """The measure with the settings that most runs of a comparison were measured with; default its own.

        Args:
            comparison: the folder of the comparison.
            along: whether runs will be measured along training too.
        """
        return self

    def kept_in(self, run: Path) -> list[Measured]:
        """All its measurements of a run, with any settings. The one that was asked for last is at the end."""
        return measured.measured_in(run, self.name, self.defaults)

    def is_kept(self, run: Path, epoch: int) -> bool:
        """Whether the folder of a run holds a measurement with these settings after that epoch."""
        return any((one.epoch, one.settings) == (epoch, self.settings) for one in self.kept_in(run))

    @float32_products()
    def keep(
        self,
        run: Path,
        *,
        device: torch.device | None = None,
        data_dir: Path | None = None,
        progress: Progress = silent,
    ) -> None:
        """Measure at a run's last checkpoint, and write the measurement into the run's folder, unless it is there.

        Measurements after other epochs or with other settings stay. The one that was asked for last is at the end.

        Args:
            run: the folder of the run.
            device: the device to compute on; default the CPU.
            data_dir: the folder that contains the data sets.
            progress: called with what is computed.

        Raises:
            Failed: as `at`.
            UserError: as `at`; or its last checkpoint is damaged, or the folder cannot be written.
        """
        epoch, entries = len(Run(run).rows()), measured.entries_in(run, self.name)
        asked = [entry for entry in entries if self._is(entry, epoch)]
        others = [entry for entry in entries if entry not in asked]
        if asked and asked == entries[-1:]:
            return
        if not asked:
            found = self.at(run, device=device, data_dir=data_dir, progress=progress)
            if found.epoch != epoch:
                raise UserError(
                    f"{run} has no undamaged checkpoint of epoch {epoch}, its last; move it away and train it again"
                )
            asked = [found.as_dict()]
        with writing_to(run, "make it writable, and run the same command again"):
            measured.write(run, self.name, others + asked, self.columns)

    def _is(self, entry: Any, epoch: int) -> bool:
        one = measured.understood(entry, self.defaults)
        return one is not None and (one.epoch, one.settings) == (epoch, self.settings)


class MeasureSettings(Protocol):
    """The settings of a measure as a record."""

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON stores them."""
        ...


S = TypeVar("S", bound=MeasureSettings)


class Configured(Measure, Generic[S]):
    """A measure whose settings are a record.

    Args:
        given: the settings; default `usual`.

    Attributes:
        usual: the default settings.
    """

    usual: S

    def __init__(self, given: S | None = None) -> None:
        self.given: S = self.usual if given is None else given

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that determine the numbers, as JSON stores them."""
        return self.given.as_dict()

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings that a record of an earlier version lacks: the defaults of the record's class."""
        return type(self.given)().as_dict()


class Asked(NamedTuple):
    """A measure of a comparison, and when and for which optimizers it is computed.

    Args:
        measure: the measure.
        every: measure also after each multiple of this number of epochs; 0 for the last epoch only.
        of: the labels of the optimizers to measure; None for all.
    """

    measure: Measure
    every: int = 0
    of: Collection[str] | None = None
