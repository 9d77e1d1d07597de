"""The stability margins of a run along training, kept in its folder in ``stability.json``."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adai.errors import UserError
from adai.lab.measure.curvature.eigenpairs import expected_products
from adai.lab.measure.curvature.kept import FITTED, entries_of
from adai.lab.measure.objective import BatchNorm, Progress, silent
from adai.lab.measure.stability.margin import TOLERANCE, measure
from adai.lab.measure.stability.weights import check
from adai.lab.measure.stored import in_training, settings_of
from adai.lab.results.run import Run, finite, write_json, writing_to

FILE = "stability.json"


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


class Margin(NamedTuple):
    """The numbers of a measurement; None for a number that is not finite.

    Args:
        loss: on the samples, in the unit of the loss.
        lr: learning rate of the last step.
        margin: see `adai.lab.measure.stability.margin.stability`.
        largest_lr: the largest stable learning rate.
    """

    loss: float | None
    lr: float | None
    margin: float | None
    largest_lr: float | None


class KeptMargin(NamedTuple):
    """A measurement.

    Args:
        epoch: the epoch after which it was made.
        settings: the settings that it was computed with.
        about: a description, with batch norm's mode; see `adai.lab.measure.objective.Objective.about`.
        numbers: the results.
    """

    epoch: int
    settings: StabilitySettings
    about: dict[str, Any]
    numbers: Margin

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "KeptMargin":
        """The inverse of `as_dict`.

        Raises:
            KeyError: an entry is missing, as may be in files of another version.
            TypeError: the content is of another kind.
        """
        settings, numbers = (dict(content[key]) for key in ("settings", "numbers"))
        return cls(int(content["epoch"]), StabilitySettings(**settings), dict(content["about"]), Margin(**numbers))

    def as_dict(self) -> dict[str, Any]:
        """The measurement as JSON stores it."""
        return {**self._asdict(), "settings": self.settings._asdict(), "numbers": self.numbers._asdict()}


def margin_at(
    path: Path,
    settings: StabilitySettings,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> KeptMargin:
    """Measure the margin at the last checkpoint of a run's folder, or at one of its checkpoints.

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
    return KeptMargin(subject.epoch or 0, settings, at.about(), Margin(**numbers))


def measure_margin(
    run: Path,
    settings: StabilitySettings,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
) -> None:
    """Measure at a run's last checkpoint and add the result to ``stability.json``, unless it is there already.

    Raises:
        UserError: as `margin_at`, or the folder cannot be written.
    """
    epoch, before = len(Run(run).rows()), margins_in(run)
    if any((kept.epoch, kept.settings) == (epoch, settings) for kept in before):
        return
    found = margin_at(run, settings, device=device, data_dir=data_dir)
    if found.epoch != epoch:
        raise UserError(
            f"{run} has no undamaged checkpoint of epoch {epoch}, its last; move it away and train it again"
        )
    with writing_to(run, "make it writable, and the same command goes on from there"):
        write_json(run / FILE, {"measured": [kept.as_dict() for kept in [*before, found]]})


def margins_in(run: Path) -> list[KeptMargin]:
    """The measurements that a run keeps, without those that are damaged or of another version."""
    return [kept for entry in entries_of(run / FILE) if (kept := _understood(entry))]


def _understood(entry: Any) -> KeptMargin | None:
    try:
        return KeptMargin.of(entry)
    except (KeyError, TypeError, ValueError):
        return None
