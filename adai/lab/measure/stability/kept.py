"""The stability margin as a measure of runs, after their last epochs and along training."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch.optim import Optimizer

from adai.lab.measure.base import Configured
from adai.lab.measure.curvature.eigenpairs import expected_products
from adai.lab.measure.objective import BatchNorm, Progress
from adai.lab.measure.stability.margin import TOLERANCE, measure
from adai.lab.measure.stability.weights import check
from adai.lab.measure.stored import Stored
from adai.lab.results.measured import Measured
from adai.lab.results.run import finite


class StabilitySettings(NamedTuple):
    """The settings that determine the numbers.

    Args:
        samples: the number of training samples, drawn with the seed; None for all.
        batch: samples per minibatch; None for the batch size of the run, so that batch norm sees batches of that size.
        batch_norm: the mode of batch norm; see `adai.lab.measure.objective.Objective`.
        dtype: the dtype to compute in, ``float32`` or ``float64``. Below a loss of
            `adai.lab.measure.subject.FITTED` it is always ``float64``.
        tol: relative accuracy of the eigenvalue.
        seed: of the samples and of the start of Lanczos.
    """

    samples: int | None = 500
    batch: int | None = None
    batch_norm: BatchNorm = "batch"
    dtype: str = "float32"
    tol: float = TOLERANCE
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON stores them."""
        return self._asdict()


class Stability(Configured[StabilitySettings]):
    """How close a run is to its edge of stability: the learning rate over the largest stable one."""

    name: ClassVar[str] = "stability"
    title: ClassVar[str] = "stability margin"
    columns: ClassVar[Mapping[str, str]] = {
        "loss": "loss",
        "lr": "lr",
        "margin": "stability margin",
        "largest_lr": "largest stable lr",
    }

    usual = StabilitySettings()

    def found(self, stored: Stored, progress: Progress) -> Measured:
        """Measure at a checkpoint.

        Raises:
            UserError: no limit is known for the optimizer; its state or the loss is not finite; or as
                `Stored.in_training`.
        """
        subject, optimizer = stored.in_training()
        check(optimizer)
        given = self.given
        at = subject.precise_objective(
            given.dtype,
            samples=given.samples,
            seed=given.seed,
            batch_norm=given.batch_norm,
            batch=given.batch or stored.settings.batch,
        )
        expected, taken = expected_products(1), 0

        def counted(more: int) -> None:
            nonlocal taken
            taken += more
            progress("top eigenvalue", more, expected)

        found = measure(at, optimizer, subject.model, tol=given.tol, seed=given.seed, progress=counted)
        progress("top eigenvalue", max(0, expected - taken), expected)  # the expected number was an estimate
        numbers = {"loss": found.loss, "lr": found.lr, "margin": found.margin, "largest_lr": found.largest_lr}
        return Measured(subject.epoch or 0, self.settings, at.about(), finite(numbers))

    def check(self, optimizer: Optimizer) -> None:
        """Check that a stability limit is known for this optimizer.

        Raises:
            UserError: no limit is known.
        """
        check(optimizer)
