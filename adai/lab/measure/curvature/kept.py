"""The flatness of a run, after its last epoch or along it, kept in its folder so that it is computed once."""

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

# Nats, below which float32 has lost the digits of the probabilities that curvature is made of.
FITTED = 1e-6


class FlatnessSettings(NamedTuple):
    """What decides the numbers: runs compare only where it is the same.

    Args:
        samples: of the training data, drawn with the effort's seed; None for all.
        batch: samples at a time.
        batch_norm: its statistics, as `Objective` takes them.
        dtype: to compute in, ``float32`` or ``float64``, which is taken below a loss of `FITTED` in any case.
        effort: how much to compute.
    """

    samples: int | None = 1000
    batch: int = 256
    batch_norm: BatchNorm = "running"
    dtype: str = "float32"
    effort: Effort = Effort(top=1)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self._asdict(), "effort": self.effort._asdict()}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "FlatnessSettings":
        """Back from `as_dict`.

        Raises:
            TypeError: it is something else.
            KeyError: likewise.
        """
        return cls(**{**content, "effort": Effort(**content["effort"])})


# Seconds a run for a small net. Few steps of ascent: the sharpnesses are lower bounds, and closer to it with more.
QUICK = FlatnessSettings(samples=500, effort=Effort(top=1, products=12, ascent=4, directions=5))


class Kept(NamedTuple):
    """A measurement that a run keeps.

    Args:
        epoch: after which.
        settings: what it was computed with.
        about: in words, batch norm's mode among it; see `Objective.about`.
        numbers: those of `Row` but for its name; None for what was not finite.
    """

    epoch: int
    settings: FlatnessSettings
    about: dict[str, Any]
    numbers: dict[str, float | None]

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Kept":
        """Back from `as_dict`.

        Raises:
            KeyError: it lacks something, as those of another version may.
            TypeError: it is something else.
        """
        settings, about, numbers = (dict(content[key]) for key in ("settings", "about", "numbers"))
        if {*numbers} != {*Row._fields} - {"parameters"} or not about.keys() >= {"batch_norm", "samples"}:
            raise KeyError("numbers")
        return cls(int(content["epoch"]), FlatnessSettings.of(settings), about, numbers)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self._asdict(), "settings": self.settings.as_dict()}


def measure_run(
    run: Path,
    settings: FlatnessSettings,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> None:
    """Measure the flatness at a run's last checkpoint into ``curvature.json``; nothing where that is done.

    What was measured before, after other epochs or with other settings, stays; what was asked for last comes last.

    Args:
        run: its folder.
        settings: what decides the numbers.
        device: where to compute; default the CPU.
        data_dir: where data sets lie by name.
        progress: told what is being done.

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
                f"{run} has no sound checkpoint of epoch {epoch}, its last; move it away and train it again"
            )
        with theirs(f"measuring {run}"):
            asked = [Kept(epoch, settings, *_measured(subject, settings, progress)).as_dict()]
    with writing_to(run, "make it writable, and the same command goes on from there"):
        write_json(run / FILE, {"measured": others + asked})


def try_to_measure(subject: Subject, settings: FlatnessSettings) -> None:
    """One product with the Hessian of two samples, with fresh weights.

    Raises:
        Failed: the model, the loss or the data raise an error: such a net has no second derivative that torch knows.
    """
    with theirs("measuring"):
        few = subject.objective(samples=2, batch_norm=settings.batch_norm, batch=2)
        few.hvp(torch.ones_like(few.theta))


def _measured(
    subject: Subject, settings: FlatnessSettings, progress: Progress
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """What was computed with, in words, and the numbers."""
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
    """What a run keeps, what was asked for last at the end, but for what is damaged or of another version."""
    return [kept for entry in entries_of(run / FILE) if (kept := _understood(entry))]


def entries_of(file: Path) -> list[Any]:
    """The measurements in a file of a run, as JSON has them; none where it is not there or damaged."""
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
    """What most runs were measured with, of equals what was asked for last; None where none was."""
    settings = [each for kept in runs for each in dict.fromkeys(one.settings for one in reversed(kept))]
    return max(settings, key=settings.count, default=None)


def settings_like(runs: Path, *, along: bool = False) -> FlatnessSettings | None:
    """What most measured runs of a comparison were measured with, for the others to be measured likewise.

    Args:
        runs: the folder of the comparison.
        along: what counts is what they were measured with along training, before their last epoch, where any was.
    """
    measured = [kept_in(file.parent) for file in sorted(runs.glob(f"*/seed*/{FILE}"))]
    before_last = [[one for one in kept if one.epoch < max(k.epoch for k in kept)] for kept in measured]
    return (most(before_last) if along else None) or most(measured)
