"""Parameters on disk: a run's folder, a checkpoint of one, or a state dict; and the finished runs of a comparison."""

import dataclasses
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adai.errors import UserError
from adai.lab import checkpoints
from adai.lab.run import Run, read_json
from adai.lab.settings import Settings
from adai.lab.subject import Subject, by_settings

State = dict[str, Any]


def is_comparison(path: Path) -> bool:
    """Whether that is the folder of `adai compare`."""
    return "optimizers" in _config(path)


def finished_runs(path: Path) -> list[Path]:
    """The folders of a comparison's finished runs: optimizers in the order they were asked for, then by seed.

    Raises:
        UserError: there is none.
    """
    runs = [
        file.parent
        for name in _config(path)["optimizers"]
        for file in sorted((path / name).glob("seed*/config.json"), key=lambda file: _seed(file.parent))
        if Run(file.parent).status == "finished"
    ]
    if not runs:
        raise UserError(f"{path} has no finished run that has learned anything; adai compare goes on with those begun")
    return runs


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
    """The parameters and buffers that lie there, in their model, with their data and loss.

    Args:
        path: the folder of a run of `adai train`, whose last sound checkpoint is taken; one of its checkpoints; or what
            ``torch.save(model.state_dict(), path)`` wrote.
        otherwise: makes the subject of parameters whose run is not there to say what they belong to; default none.
        device: where to compute.
        data_dir: where data sets lie by name.

    Raises:
        UserError: it cannot be read, is of another net, or its data set is not there.
    """
    run = path if path.is_dir() else path.parent
    state = _last_state(path) if path.is_dir() else _read(path)
    of_a_run = _of_a_run(state)
    if of_a_run and (run / "config.json").is_file():
        subject = by_settings(settings_of(run), device=device, data_dir=data_dir)
    elif otherwise:
        subject = otherwise()
    else:
        raise UserError(f"nothing says what net the parameters in {path} belong to; give the folder of a run")
    try:
        subject.model.load_state_dict(state["model"] if of_a_run else state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not of this net: {' '.join(str(error).split())[:200]}") from error
    return subject._replace(epoch=len(state["rows"])) if of_a_run else subject


def brings_its_own(path: Path) -> bool:
    """Whether a run or comparison there says what the parameters belong to, so that `subject_at` need not be told.

    Raises:
        UserError: it cannot be read.
    """
    run = path if path.is_dir() else path.parent
    return (run / "config.json").is_file() and (path.is_dir() or _of_a_run(_read(path)))


def _of_a_run(state: State) -> bool:
    return state.keys() >= {"model", "optimizer", "rows"}


def settings_of(run: Path) -> Settings:
    """What decided a run's results.

    Raises:
        UserError: the folder is not that of a run.
    """
    config = _config(run)
    if "optimizer" not in config:
        raise UserError(f"{run} is no run: its config.json names no optimizer; give a folder that adai train wrote")
    return Settings(**{f.name: config[f.name] for f in dataclasses.fields(Settings) if f.name in config})


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return read_json(file) if file.is_file() else {}


def _last_state(run: Path) -> State:
    state = checkpoints.load(run)
    if state is None:
        what = "holds no sound checkpoint" if _config(run) else "is no run and no comparison: it has no config.json"
        if _config(run) and Run(run).status == "diverged":
            raise UserError(
                f"{run} diverged before its first checkpoint, so there is nothing to look at; give another run"
            )
        raise UserError(f"{run} {what}; give a folder that adai train or adai compare wrote")
    return state


def _read(file: Path) -> State:
    try:
        # A file of torch before 1.6 is no archive, and has no checksum.
        with file.open("rb") as stream:
            whole = zipfile.is_zipfile(stream)
        state = checkpoints.read(file) if whole else torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except Exception as error:  # whatever a file that is no checkpoint makes zipfile or torch raise
        raise UserError(f"{file} is not a state dict saved by torch ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise UserError(f"{file} holds a {type(state).__name__}, not a state dict")
    return state
