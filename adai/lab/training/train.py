"""One training run, which goes on where it was interrupted."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adai.errors import UserError
from adai.lab.host.machine import about, device_named
from adai.lab.host.precision import float32_products
from adai.lab.host.ranks import local_device, ranks
from adai.lab.results.run import Row, Run, finite, writing_to
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.task import Factory
from adai.lab.training import checkpoints
from adai.lab.training.learner import Learner

ON_DISK = "make room, and the same command goes on from the last checkpoint"

# Whether there has to be a checkpoint after that epoch, whatever the time.
Needed = Callable[[int], bool]

# Called with the rows so far when the run starts or goes on, and after every epoch.
Progress = Callable[[list[Row]], None]


# Called at the start and after every step: how many more steps are done, and of how many in the whole run.
Stepped = Callable[[int, int], None]


def silent(rows: list[Row]) -> None:
    """No progress is shown."""


def by_time(epoch: int) -> bool:
    """Only the time decides."""
    return False


def uncounted(more: int, total: int) -> None:
    """Nobody counts the steps."""


def train(
    settings: Settings,
    folder: Path | str,
    *,
    factory: Factory | None = None,
    data_dir: Path | str | None = None,
    command: str = "",
    checkpoint_every: float = checkpoints.EVERY,
    needed: Needed = by_time,
    progress: Progress = silent,
    stepped: Stepped = uncounted,
) -> Run:
    """Do a training run, or what is left of it; on a finished or diverged one, nothing.

    After each epoch there is a row in ``metrics.jsonl``; at the end, if the run is interrupted or an error is raised,
    and every ``checkpoint_every`` seconds there is a checkpoint. Whenever the process dies, the same call goes on from
    the last checkpoint: it trains the epochs after it again. On a CPU what it writes is bit for bit what it would have
    written at one go, but for the columns ``seconds`` and ``images_per_second``.

    Args:
        settings: what decides the results, best from `Settings.of`.
        folder: where the results go.
        factory: makes the task; default the one that the settings name.
        data_dir: where data sets lie by name; default the environment's ``ADAI_DATA_DIR``.
        command: the command line, kept beside the results.
        checkpoint_every: seconds between two checkpoints, which are written at the ends of epochs; 0 for one after
            each epoch. It changes no result.
        needed: called with the number of an epoch: whether there has to be a checkpoint after it in any case.
        progress: called with the rows so far, at the start and after every epoch.
        stepped: told how many more steps are done, and of how many, where anything is left to do.

    Returns:
        The run on disk: ``run.rows()``, ``run.status``.

    Raises:
        UserError: a device, a data set or a task is not there, the folder cannot be written (what was there is kept),
            or it holds a run with other settings; or something about the task, see `checked` and `Learner.try_out`.
        Failed: the task's own code raised an error, the cause of this one. What was finished is kept.
    """
    folder, data_dir = Path(folder), data_dir and Path(data_dir)
    device = local_device(device_named(settings.device))
    run = Run(folder)
    with ranks(device) as processes, algorithms(settings):
        if processes.first:
            run.open(settings.as_dict(), about(device, command))
            with writing_to(folder, ON_DISK):
                checkpoints.tidy(folder)
        rows = processes.agreed(run.rows() if processes.first else [])
        if not processes.first:
            progress, stepped = silent, uncounted
        if processes.agreed(run.status if processes.first else "unfinished") != "unfinished":
            progress(rows)
            return run
        learner = Learner(settings, factory or named_task(settings, device, data_dir), device, processes)
        with closing(learner), checkpoints.ByTime(folder, checkpoint_every) as kept:
            learner.try_out()
            if not processes.agreed(run.started if processes.first else True):
                # Also of a run that an earlier version began: its first weights are there again.
                start = learner.start()
                if processes.first:
                    with writing_to(folder, ON_DISK):
                        run.write_start(start, learner.metric and learner.metric.about())
            state = processes.agreed(checkpoints.load(folder) if processes.first else None)
            rows = state.pop("rows") if state else []
            if state:
                _put_back(learner, state, folder)
            if processes.first:
                with writing_to(folder, ON_DISK):
                    run.write_rows(rows)
            progress(rows)
            total = settings.epochs * learner.steps
            stepped(len(rows) * learner.steps, total)
            while len(rows) < settings.epochs and not diverged(rows):
                rows = [*rows, finite(learner.epoch(len(rows), partial(stepped, 1, total)))]
                state = {} if diverged(rows) else {"rows": rows, **learner.state()}
                if processes.first:
                    with writing_to(folder, ON_DISK):
                        # The checkpoint has the rows too: whatever metrics.jsonl holds, it can be made from it.
                        if state:
                            kept.take(len(rows), state, now=len(rows) == settings.epochs or needed(len(rows)))
                        else:
                            kept.write_held()
                        run.write_rows(rows)
                progress(rows)
    return run


def _put_back(learner: Learner, state: dict[str, Any], folder: Path) -> None:
    try:
        learner.load(state)
    except (KeyError, RuntimeError, ValueError) as error:  # a task of your own that has changed since
        what = str(error).splitlines()[0]
        raise UserError(f"the checkpoint in {folder} is of another model ({what}); give another `folder`") from error


def diverged(rows: list[Row]) -> bool:
    """Whether the loss of the last epoch was not finite."""
    return bool(rows) and rows[-1]["train_loss"] is None


@contextmanager
def algorithms(settings: Settings) -> Iterator[None]:
    """Only deterministic algorithms, or else the fastest; TF32 only if it is the precision.

    Torch keeps this for the whole process, so it is put back.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.backends.cudnn.benchmark = not settings.deterministic
    try:
        with float32_products(tf32=settings.precision == "tf32"):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
