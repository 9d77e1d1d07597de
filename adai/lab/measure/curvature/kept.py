"""Flatness as a measure of runs, after their last epochs and along training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch

from adai.errors import UserError
from adai.lab.host.boundary import Failed, theirs
from adai.lab.measure.base import Configured
from adai.lab.measure.curvature.measure import Effort, measure_flatness, row
from adai.lab.measure.objective import BatchNorm, Progress
from adai.lab.measure.stored import Stored
from adai.lab.measure.subject import Subject
from adai.lab.results.measured import Measured, file_of, most
from adai.lab.results.outcome import DIED, Status
from adai.lab.results.run import finite


class FlatnessSettings(NamedTuple):
    """The settings that determine the numbers. Only runs measured with the same settings can be compared.

    Args:
        samples: the number of training samples, drawn with the effort's seed; None for all.
        batch: samples per minibatch.
        batch_norm: the mode of batch norm; see `Objective`.
        dtype: the dtype to compute in, ``float32`` or ``float64``. Below a loss of
            `adai.lab.measure.subject.FITTED` it is always ``float64``.
        effort: how much to compute.
    """

    samples: int | None = 1000
    batch: int = 256
    batch_norm: BatchNorm = "running"
    dtype: str = "float32"
    effort: Effort = Effort(top=1)

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON stores them."""
        return {**self._asdict(), "effort": self.effort._asdict()}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "FlatnessSettings":
        """The inverse of `as_dict`.

        Raises:
            TypeError: the content is of another kind.
            KeyError: an entry is missing.
        """
        return cls(**{**content, "effort": Effort(**content["effort"])})


# Takes seconds per run of a small net. It has few steps of ascent, so the sharpnesses are loose lower bounds.
QUICK = FlatnessSettings(samples=500, effort=Effort(top=1, products=12, ascent=4, directions=5))


class Flatness(Configured[FlatnessSettings]):
    """How flat the loss is at the parameters of a run: top eigenvalue, trace, sharpnesses; by default with `QUICK`."""

    name: ClassVar[str] = "flatness"
    columns: ClassVar[Mapping[str, str]] = {  # of `adai.lab.measure.curvature.measure.Row`
        "loss": "loss",
        "largest": "top eigenvalue",
        "trace": "trace",
        "sam": "SAM sharpness",
        "filter_worst": "filter-normalised sharpness",
    }
    # A run that did not learn has no minimum that could be flat.
    not_after: ClassVar[tuple[Status, ...]] = DIED
    usual = QUICK

    def found(self, stored: Stored, progress: Progress) -> Measured:
        """Measure at a checkpoint; the optimizer is not needed.

        Raises:
            UserError: the net has too few parameters, or as `Stored.subject`.
        """
        subject, given = stored.subject(), self.given
        at = subject.precise_objective(
            given.dtype, samples=given.samples, seed=given.effort.seed, batch_norm=given.batch_norm, batch=given.batch
        )
        if given.effort.top >= at.size:
            raise UserError(f"{at.size} parameters are too few for {given.effort.top} eigenvalues")
        numbers = row("", measure_flatness(at, given.effort, progress))._asdict()
        del numbers["parameters"]
        return Measured(subject.epoch or 0, self.settings, at.about(), finite(numbers))

    def try_out(self, subject: Subject) -> None:
        """Compute a product with the Hessian of two samples, at the initial weights.

        Raises:
            UserError: the second derivative of the net cannot be computed.
        """
        try:
            with theirs("measuring"):
                few = subject.objective(samples=2, batch_norm=self.given.batch_norm, batch=2)
                few.hvp(torch.ones_like(few.theta))
        except Failed as error:
            raise UserError(f"flatness cannot be measured ({error.reason}); leave `flatness` out") from error

    def like(self, comparison: Path, *, along: bool) -> Self:
        """The measure with the settings that most runs of a comparison were measured with, so that runs are comparable.

        Args:
            comparison: the folder of the comparison.
            along: whether to prefer the settings of measurements along training, before the last one of a run.
        """
        runs = sorted(file.parent for file in comparison.glob(f"*/seed*/{file_of(Path(), self.name)}"))
        measured = [self.kept_in(run) for run in runs]
        before_last = [[one for one in kept if one.epoch < max(k.epoch for k in kept)] for kept in measured]
        settings = (most(before_last) if along else None) or most(measured)
        try:
            return type(self)(FlatnessSettings.of(settings)) if settings else self
        except (TypeError, KeyError):  # settings of a later version are unknown here
            return self
