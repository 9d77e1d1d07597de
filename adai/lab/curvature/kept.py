"""The flatness of a finished run, kept in its folder so that it is computed once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adai.errors import UserError
from adai.lab.curvature.measure import Effort, Row, measure_flatness, row
from adai.lab.objective import BatchNorm, Progress, silent
from adai.lab.run import finite, read_json, write_json, writing_to
from adai.lab.stored import subject_at

FILE = "curvature.json"


class FlatnessSettings(NamedTuple):
    """What decides the numbers: runs compare only where it is the same.

    Args:
        samples: of the training data, drawn with the effort's seed; None for all.
        batch: samples at a time.
        batch_norm: its statistics, as `Objective` takes them.
        dtype: to compute in, ``float32`` or ``float64``.
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
    """The flatness that a run keeps.

    Args:
        settings: what it was computed with.
        about: in words, batch norm's mode among it; see `Objective.about`.
        numbers: those of `Row` but for its name; None for what was not finite.
    """

    settings: FlatnessSettings
    about: dict[str, Any]
    numbers: dict[str, float | None]


def measure_run(
    run: Path,
    settings: FlatnessSettings,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> None:
    """Measure the flatness at a finished run's last checkpoint into ``curvature.json``; nothing where that is done.

    Args:
        run: its folder.
        settings: what decides the numbers; those that were computed with something else are computed again.
        device: where to compute; default the CPU.
        data_dir: where data sets lie by name.
        progress: told what is being done.

    Raises:
        UserError: the run, its data or its task cannot be read, it has too few parameters, or the folder cannot be
            written.
    """
    there = kept_in(run)
    if there and there.settings == settings:
        return
    subject = subject_at(run, device=device, data_dir=data_dir)
    objective = subject.objective(
        samples=settings.samples,
        seed=settings.effort.seed,
        batch_norm=settings.batch_norm,
        batch=settings.batch,
        dtype=getattr(torch, settings.dtype),
    )
    if settings.effort.top >= objective.size:
        raise UserError(f"{run} has {objective.size} parameters, too few for {settings.effort.top} eigenvalues")
    numbers = row("", measure_flatness(objective, settings.effort, progress))._asdict()
    del numbers["parameters"]
    content = {"settings": settings.as_dict(), "about": objective.about(), "numbers": finite(numbers)}
    with writing_to(run, "make it writable, and the same command goes on from there"):
        write_json(run / FILE, content)


def kept_in(run: Path) -> Kept | None:
    """What a run keeps; None where that is nothing, or the file is damaged or of another version: it is made anew."""
    file = run / FILE
    try:
        content = read_json(file) if file.is_file() else {}
        kept = Kept(FlatnessSettings.of(content["settings"]), dict(content["about"]), dict(content["numbers"]))
    except (UserError, KeyError, TypeError, ValueError):
        return None
    whole = {*kept.numbers} == {*Row._fields} - {"parameters"} and kept.about.keys() >= {"batch_norm", "samples"}
    return kept if whole else None


def most(kept: Iterable[Kept]) -> FlatnessSettings | None:
    """What most of them were computed with, the first of equals; None of none."""
    settings = [one.settings for one in kept]
    return max(settings, key=settings.count, default=None)


def settings_like(runs: Path) -> FlatnessSettings | None:
    """What most measured runs of a comparison were measured with, for the others to be measured likewise."""
    files = sorted(runs.glob(f"*/seed*/{FILE}"))
    return most(kept for file in files if (kept := kept_in(file.parent)))
