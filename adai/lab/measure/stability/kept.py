"""The stability margin as a measure of runs: after their last epochs and along training, computed once."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch.optim import Optimizer

from adai.lab.measure.base import Measure
from adai.lab.measure.curvature.eigenpairs import expected_products
from adai.lab.measure.curvature.kept import FITTED
from adai.lab.measure.objective import BatchNorm, Progress, silent
from adai.lab.measure.stability.margin import TOLERANCE, measure
from adai.lab.measure.stability.weights import check
from adai.lab.measure.stored import in_training, settings_of
from adai.lab.results.measured import Measured
from adai.lab.results.run import finite


class StabilitySettings(NamedTuple):
    """The settings that determine the numbers.

    Args:
        samples: the number of training samples, drawn with the seed; None for all.
        batch: samples per minibatch; None for the batch size of the run, so that batch norm sees batches of that size.
        batch_norm: the mode of batch norm; see `adai.lab.measure.objective.Objective`.
        dtype: the dtype to compute in, ``float32`` or ``float64``. Below a loss of
            `adai.lab.measure.curvature.kept.FITTED` it is always ``float64``.
        tol: relative accuracy of the eigenvalue.
        seed: of the samples and of the start of Lanczos.
    """

    samples: int | None = 500
    batch: int | None = None
    batch_norm: BatchNorm = "batch"
    dtype: str = "float32"
    tol: float = TOLERANCE
    seed: int = 0


class Stability(Measure):
    """How close a run is to its edge of stability: the learning rate over the largest stable one.

    Args:
        given: what decides the numbers; default those of `StabilitySettings`.
    """

    name: ClassVar[str] = "stability"
    title: ClassVar[str] = "stability margin"
    columns: ClassVar[Mapping[str, str]] = {
        "loss": "loss",
        "lr": "lr",
        "margin": "stability margin",
        "largest_lr": "largest stable lr",
    }

    def __init__(self, given: StabilitySettings = StabilitySettings()) -> None:  # noqa: B008 (a tuple)
        self.given = given

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as JSON has it."""
        return self.given._asdict()

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings that a record of an earlier version lacks."""
        return StabilitySettings()._asdict()

    def at(
        self,
        path: Path,
        *,
        device: torch.device | None = None,
        data_dir: Path | None = None,
        progress: Progress = silent,
    ) -> Measured:
        """Measure at the last checkpoint of a run's folder, or at one of its checkpoints; see `margin_at`."""
        return margin_at(path, self.given, device=device, data_dir=data_dir, progress=progress)

    def check(self, optimizer: Optimizer) -> None:
        """See to it that a limit is known for this optimizer.

        Raises:
            UserError: none is.
        """
        check(optimizer)


def margin_at(
    path: Path,
    settings: StabilitySettings,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure at the last checkpoint of a run's folder, or at one of its checkpoints.

    Raises:
        UserError: the run, its data or its task cannot be read, no limit is known for its optimizer, or its loss or
            state is not finite.
    """
    subject, optimizer = in_training(path, device=device, data_dir=data_dir)
    check(optimizer)
    run = path if path.is_dir() else path.parent
    objective = partial(
        subject.objective,
        samples=settings.samples,
        seed=settings.seed,
        batch_norm=settings.batch_norm,
        batch=settings.batch or settings_of(run).batch,
    )
    at = objective(dtype=getattr(torch, settings.dtype))
    if at.loss() < FITTED and at.theta.device.type != "mps":  # which has no float64
        at = objective(dtype=torch.float64)
    expected, taken = expected_products(1), 0

    def counted(more: int) -> None:
        nonlocal taken
        taken += more
        progress("top eigenvalue", more, expected)

    found = measure(at, optimizer, subject.model, tol=settings.tol, seed=settings.seed, progress=counted)
    progress("top eigenvalue", max(0, expected - taken), expected)  # the expected number was an estimate
    numbers = finite({"loss": found.loss, "lr": found.lr, "margin": found.margin, "largest_lr": found.largest_lr})
    return Measured(subject.epoch or 0, settings._asdict(), at.about(), numbers)
