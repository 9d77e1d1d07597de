"""The flatness of a run, after its last epoch or along training, kept in its folder so that it is computed once."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adai.errors import UserError
from adai.lab.host.boundary import theirs
from adai.lab.measure.curvature.measure import Effort, Row, measure_flatness, row
from adai.lab.measure.objective import BatchNorm, Progress, silent
from adai.lab.measure.stored import subject_at
from adai.lab.measure.subject import Subject
from adai.lab.results.run import Run, finite, read_json, write_json, writing_to

FILE = "curvature.json"

# In nats. Below this loss the probabilities, which determine the curvature, have too few digits in float32.
FITTED = 1e-6


class FlatnessSettings(NamedTuple):
    """The settings that determine the numbers. Only runs measured with the same settings can be compared.

    Args:
        samples: the number of training samples, drawn with the effort's seed; None for all.
        batch: samples per minibatch.
        batch_norm: the mode of batch norm; see `Objective`.
        dtype: the dtype to compute in, ``float32`` or ``float64``. Below a loss of `FITTED` it is always ``float64``.
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


class Kept(NamedTuple):
    """A measurement that a run keeps.

    Args:
        epoch: the epoch after which it was made.
        settings: the settings that it was computed with.
        about: a description, with batch norm's mode; see `Objective.about`.
        numbers: those of `Row` without its name; None for a number that was not finite.
    """

    epoch: int
    settings: FlatnessSettings
    about: dict[str, Any]
    numbers: dict[str, float | None]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Kept":
        """The inverse of `as_dict`.

        Raises:
            KeyError: an entry is missing, as may be in files of another version.
            TypeError: the content is of another kind.
        """
        settings, about, numbers = (dict(content[key]) for key in ("settings", "about", "numbers"))
        if {*numbers} != {*Row._fields} - {"parameters"} or not about.keys() >= {"batch_norm", "samples"}:
            raise KeyError("numbers")
        return cls(int(content["epoch"]), FlatnessSettings.of(settings), about, numbers)

    def as_dict(self) -> dict[str, Any]:
        """The measurement as JSON stores it."""
        return {**self._asdict(), "settings": self.settings.as_dict()}


def measure_run(
    run: Path,
    settings: FlatnessSettings,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> None:
    """Measure the flatness at a run's last checkpoint and store it in ``curvature.json``, unless it is there already.

    Measurements after other epochs or with other settings are kept. The measurement requested last is the last entry.

    Args:
        run: the folder of the run.
        settings: the settings that determine the numbers.
        device: the device to compute on; default the CPU.
        data_dir: the folder that contains the data sets.
        progress: called with the name of the work, the units just done, and their total.

    Raises:
        Failed: the model, the loss or the data raise an error.
        UserError: the run, its data or its task cannot be read, its last checkpoint is damaged, it has too few
            parameters, or the folder cannot be written.
    """
    epoch, entries = len(Run(run).rows()), entries_of(run / FILE)
    asked = [entry for entry in entries if _is_of(entry, epoch, settings)]
    others = [entry for entry in entries if entry not in asked]
    if asked and asked == entries[-1:]:
        return
    if not asked:
        subject = subject_at(run, device=device, data_dir=data_dir)
        if subject.epoch != epoch:
            raise UserError(
                f"{run} has no undamaged checkpoint of epoch {epoch}, its last; move it away and train it again"
            )
        with theirs(f"measuring {run}"):
            asked = [Kept(epoch, settings, *_measured(subject, settings, progress)).as_dict()]
    with writing_to(run, "make it writable, and the same command goes on from there"):
        write_json(run / FILE, {"measured": others + asked})


def try_to_measure(subject: Subject, settings: FlatnessSettings) -> None:
    """Compute one product with the Hessian of two samples, at the initial weights, to see whether it can be measured.

    Raises:
        Failed: the model, the loss or the data raise an error, for example because torch has no second derivative.
    """
    with theirs("measuring"):
        few = subject.objective(samples=2, batch_norm=settings.batch_norm, batch=2)
        few.hvp(torch.ones_like(few.theta))


def _measured(
    subject: Subject, settings: FlatnessSettings, progress: Progress
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """The description of the computation, and the numbers."""
    objective = partial(
        subject.objective,
        samples=settings.samples,
        seed=settings.effort.seed,
        batch_norm=settings.batch_norm,
        batch=settings.batch,
    )
    at = objective(dtype=getattr(torch, settings.dtype))
    if settings.effort.top >= at.size:
        raise UserError(f"{at.size} parameters are too few for {settings.effort.top} eigenvalues")
    if at.loss() < FITTED and at.theta.device.type != "mps":  # which has no float64
        at = objective(dtype=torch.float64)
    numbers = row("", measure_flatness(at, settings.effort, progress))._asdict()
    del numbers["parameters"]
    return at.about(), finite(numbers)


def kept_in(run: Path) -> list[Kept]:
    """The measurements that a run keeps, the one requested last at the end.

    Measurements that are damaged or of another version are left out.
    """
    return [kept for entry in entries_of(run / FILE) if (kept := _understood(entry))]


def entries_of(file: Path) -> list[Any]:
    """The measurements in a file of a run, as JSON stores them; empty if the file is missing or damaged."""
    try:
        entries = read_json(file)["measured"] if file.is_file() else []
    except (UserError, KeyError):
        return []
    return entries if isinstance(entries, list) else []


def _understood(entry: Any) -> Kept | None:
    try:
        return Kept.of(entry)
    except (KeyError, TypeError, ValueError):
        return None


def _is_of(entry: Any, epoch: int, settings: FlatnessSettings) -> bool:
    kept = _understood(entry)
    return kept is not None and (kept.epoch, kept.settings) == (epoch, settings)


def most(runs: Iterable[Sequence[Kept]]) -> FlatnessSettings | None:
    """The settings with which most runs were measured; None if no run was measured.

    If several settings are equally frequent, the one requested last in the first such run wins.
    """
    settings = [each for kept in runs for each in dict.fromkeys(one.settings for one in reversed(kept))]
    return max(settings, key=settings.count, default=None)


def settings_like(runs: Path, *, along: bool = False) -> FlatnessSettings | None:
    """The settings with which most runs of a comparison were measured, for measuring the other runs in the same way.

    Args:
        runs: the folder of the comparison.
        along: count only measurements before the last epoch of a run, if there are any.
    """
    measured = [kept_in(file.parent) for file in sorted(runs.glob(f"*/seed*/{FILE}"))]
    before_last = [[one for one in kept if one.epoch < max(k.epoch for k in kept)] for kept in measured]
    return (most(before_last) if along else None) or most(measured)
