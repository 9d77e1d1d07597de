"""Parameters on disk: a run's folder, one of its checkpoints or a state dict; and the finished runs of a comparison."""

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.measure.subject import Subject, by_settings
from adai.lab.results.run import Run, read_json
from adai.lab.settings import Settings
from adai.lab.training import checkpoints

State = dict[str, Any]


def is_comparison(path: Path) -> bool:
    """Whether the path is a folder of `adai compare`."""
    return "optimizers" in _config(path)


def finished_runs(path: Path) -> list[Path]:
    """The folders of a comparison's finished runs, in the order of its optimizers, then by seed.

    Raises:
        UserError: the comparison has no finished run.
    """
    runs = [run for run in _runs(path) if Run(run).status == "finished"]
    if not runs:
        raise UserError(
            f"{path} has no finished run that has learned anything; run adai compare again to continue its runs"
        )
    return runs


def trained_runs(path: Path) -> list[Path]:
    """The folders of all runs that have a checkpoint, including unfinished and diverged ones; order as `finished_runs`.

    Raises:
        UserError: no run has a checkpoint.
    """
    runs = [run for run in _runs(path) if any(run.glob("checkpoint-*.pt"))]
    if not runs:
        raise UserError(f"{path} has no run with a checkpoint; run adai compare again to continue it")
    return runs


def _runs(path: Path) -> list[Path]:
    return [
        file.parent
        for name in _config(path)["optimizers"]
        for file in sorted((path / name).glob("seed*/config.json"), key=lambda file: _seed(file.parent))
    ]


def _seed(run: Path) -> int:
    number = run.name.removeprefix("seed")
    return int(number) if number.isdecimal() else -1


def subject_at(
    path: Path,
    otherwise: Callable[[], Subject] | None = None,
    *,
    device: torch.device | None = None,
    data_dir: Path | None = None,
) -> Subject:
    """The subject with the parameters and buffers stored at this path.

    Args:
        path: the folder of a run of `adai train`, whose last undamaged checkpoint is used; one of its checkpoints; or a
            file written by ``torch.save(model.state_dict(), path)``.
        otherwise: makes the model, data and loss for parameters that are not in a run's folder. Default: such
            parameters are refused.
        device: the device to compute on.
        data_dir: the folder that contains the data sets.

    Raises:
        UserError: the path cannot be read, belongs to another net, or its data set does not exist.
    """
    return _subject_of(_state_at(path), path, otherwise, device=device, data_dir=data_dir)


class Stored(NamedTuple):
    """A run at one of its checkpoints, for a measure to read.

    Args:
        path: the folder of the run, whose last undamaged checkpoint is used; or one of its checkpoints.
        device: the device to compute on; default the CPU.
        data_dir: the folder that contains the data sets.
    """

    path: Path
    device: torch.device | None = None
    data_dir: Path | None = None

    @property
    def settings(self) -> Settings:
        """The settings of the run."""
        return settings_of(_run_of(self.path))

    def subject(self) -> Subject:
        """The model with its parameters, the training data and the loss; raises as `subject_at`."""
        return subject_at(self.path, device=self.device, data_dir=self.data_dir)

    def in_training(self) -> tuple[Subject, Optimizer]:
        """The same with the optimizer as it was after that epoch.

        Raises:
            UserError: as `subject_at`; or the path has no optimizer state, for example a model's state dict.
        """
        state = _state_at(self.path)
        if not _of_a_run(state) or not (_run_of(self.path) / "config.json").is_file():
            raise UserError(f"{self.path} has no optimizer state; give the folder of a run, or a checkpoint in it")
        subject = _subject_of(state, self.path, None, device=self.device, data_dir=self.data_dir)
        optimizer = self.settings.recipe.build(subject.model)
        try:
            optimizer.load_state_dict(state["optimizer"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"the optimizer in {self.path} does not fit this run: {' '.join(str(error).split())[:200]}"
            ) from error
        return subject, optimizer


def _run_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _state_at(path: Path) -> State:
    return _last_state(path) if path.is_dir() else _read(path)


def _subject_of(
    state: State,
    path: Path,
    otherwise: Callable[[], Subject] | None,
    *,
    device: torch.device | None,
    data_dir: Path | None,
) -> Subject:
    run, of_a_run = _run_of(path), _of_a_run(state)
    if of_a_run and (run / "config.json").is_file():
        subject = by_settings(settings_of(run), device=device, data_dir=data_dir)
    elif otherwise:
        subject = otherwise()
    else:
        raise UserError(f"the net of the parameters in {path} is not known; give the folder of a run")
    try:
        subject.model.load_state_dict(state["model"] if of_a_run else state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not fit this net: {' '.join(str(error).split())[:200]}") from error
    return subject._replace(epoch=len(state["rows"])) if of_a_run else subject


def brings_its_own(path: Path) -> bool:
    """Whether a run or comparison at this path defines the net and data, so that `subject_at` needs no ``otherwise``.

    Raises:
        UserError: the path cannot be read.
    """
    run = path if path.is_dir() else path.parent
    return (run / "config.json").is_file() and (path.is_dir() or _of_a_run(_read(path)))


def _of_a_run(state: State) -> bool:
    return state.keys() >= {"model", "optimizer", "rows"}


def settings_of(run: Path) -> Settings:
    """The settings of a run.

    Raises:
        UserError: the folder is not the folder of a run.
    """
    config = _config(run)
    if "optimizer" not in config:
        raise UserError(
            f"{run} is not the folder of a run: its config.json names no optimizer; give a folder that adai train wrote"
        )
    return Settings(**{f.name: config[f.name] for f in dataclasses.fields(Settings) if f.name in config})


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return read_json(file) if file.is_file() else {}


def _last_state(run: Path) -> State:
    state = checkpoints.load(run)
    if state is None:
        what = (
            "has no undamaged checkpoint"
            if _config(run)
            else "is neither a run nor a comparison: it has no config.json"
        )
        if _config(run) and Run(run).status == "diverged":
            raise UserError(
                f"{run} diverged before its first checkpoint, so there is nothing to measure; give another run"
            )
        raise UserError(f"{run} {what}; give a folder that adai train or adai compare wrote")
    return state


def _read(file: Path) -> State:
    try:
        # Files of torch before 1.6 are not archives and have no checksum.
        with file.open("rb") as stream:
            whole = zipfile.is_zipfile(stream)
        state = checkpoints.read(file) if whole else torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except Exception as error:  # on a file that is not a checkpoint, zipfile and torch may raise anything
        raise UserError(f"{file} is not a state dict saved by torch ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise UserError(f"{file} holds a {type(state).__name__}, not a state dict")
    return state
