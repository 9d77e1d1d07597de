"""What a measure is: something that is computed of a run after its last epoch, and along training if asked for.

To add one, derive from `Measure`, and give an instance to ``compare(measures=[...])``. For a name that may stand there
instead, add it to `adai.lab.measure.table.MEASURES`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host.boundary import theirs
from adai.lab.host.precision import float32_products
from adai.lab.measure.objective import Progress, silent
from adai.lab.measure.stored import in_training
from adai.lab.measure.subject import Subject
from adai.lab.results import measured
from adai.lab.results.measured import Measured
from adai.lab.results.outcome import Status
from adai.lab.results.run import Run, finite, writing_to


class Measure:
    """A measure with its settings. It goes to other processes, so it has to be picklable.

    A measure of your own overrides `of`, and names itself and its columns::

        class WeightNorm(Measure):
            name = "weight-norm"
            columns = {"norm": "norm of the weights"}

            def of(self, subject, optimizer):
                return {"norm": sum(p.square().sum().item() for p in subject.model.parameters()) ** 0.5}

    Attributes:
        name: of its file in a run's folder, and in ``measures=``.
        title: in words, default the name.
        columns: of its numbers, with the headings that people read.
        not_after: a run that ended so is not measured after its last epoch.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    columns: ClassVar[Mapping[str, str]]
    not_after: ClassVar[tuple[Status, ...]] = ("diverged",)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as JSON has it; default nothing."""
        return {}

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings that a record of an earlier version lacks; default its own."""
        return self.settings

    @property
    def said(self) -> str:
        """Its name in words."""
        return self.title or self.name

    def of(self, subject: Subject, optimizer: Optimizer) -> Mapping[str, float]:
        """The numbers of a run, by column.

        Args:
            subject: its model, with the parameters after that epoch, its training data and its loss.
            optimizer: with the state after that epoch.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define of(subject, optimizer), or at(path, ...)")

    def at(
        self,
        path: Path,
        *,
        device: torch.device | None = None,
        data_dir: Path | None = None,
        progress: Progress = silent,
    ) -> Measured:
        """Measure at the last checkpoint of a run's folder.

        Args:
            path: the folder.
            device: where to compute; default the CPU.
            data_dir: where data sets lie by name.
            progress: told what is being done.

        Raises:
            Failed: the model, the loss, the data or the measure raise an error.
            UserError: the run, its data or its task cannot be read.
        """
        subject, optimizer = in_training(path, device=device, data_dir=data_dir)
        with theirs(f"measuring {self.said} of {path}"):
            numbers = finite({key: float(value) for key, value in self.of(subject, optimizer).items()})
        return Measured(subject.epoch or 0, self.settings, {}, numbers)

    def check(self, optimizer: Optimizer) -> None:
        """See to it that runs of this optimizer can be measured; default all can.

        Raises:
            UserError: they cannot.
        """

    def try_out(self, subject: Subject) -> None:
        """See to it that what cannot be measured shows before hours of training; default nothing is tried.

        Args:
            subject: the run's, with fresh weights.

        Raises:
            UserError: it cannot.
        """

    def like(self, comparison: Path, *, along: bool) -> Self:
        """The measure with the settings that most runs of a comparison were measured with; default its own.

        Args:
            comparison: the folder.
            along: it is to be measured along training too.
        """
        return self

    def kept_in(self, run: Path) -> list[Measured]:
        """What a run keeps of it, with whatever settings; what was asked for last comes last."""
        return measured.measured_in(run, self.name, self.defaults)

    def is_kept(self, run: Path, epoch: int) -> bool:
        """Whether a run keeps it with these settings, after that epoch."""
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
        """Measure at a run's last checkpoint into its folder; nothing where that is done.

        What was measured before, after other epochs or with other settings, stays; what was asked for last comes last.

        Args:
            run: its folder.
            device: where to compute; default the CPU.
            data_dir: where data sets lie by name.
            progress: told what is being done.

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
        with writing_to(run, "make it writable, and the same command goes on from there"):
            measured.write(run, self.name, others + asked, self.columns)

    def _is(self, entry: Any, epoch: int) -> bool:
        one = measured.understood(entry, self.defaults)
        return one is not None and (one.epoch, one.settings) == (epoch, self.settings)


class Asked(NamedTuple):
    """A measure as a comparison asks for it.

    Args:
        measure: which, with its settings.
        every: after every so many epochs too; 0 for the last alone.
        of: these optimizers alone; None for all.
    """

    measure: Measure
    every: int = 0
    of: Collection[str] | None = None
