"""A training run that can be interrupted and continued."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adai.errors import UserError
from adai.files import removed_if_refused
from adai.lab.host.machine import about, device_named
from adai.lab.host.precision import float32_products
from adai.lab.host.ranks import local_device, ranks
from adai.lab.results.run import Row, Run, finite, writing_to
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.task import Factory
from adai.lab.training import checkpoints
from adai.lab.training.learner import Learner

ON_DISK = "make room, and run the same command again to continue from the last checkpoint"

# Whether a checkpoint must be written after an epoch, regardless of the time.
Needed = Callable[[int], bool]

# Called with the rows so far when the run starts or continues, and after every epoch.
Progress = Callable[[list[Row]], None]


# Called at the start and after every step, with the number of new steps and the number of steps of the whole run.
Stepped = Callable[[int, int], None]


def silent(rows: list[Row]) -> None:
    """Show no progress."""


def by_time(epoch: int) -> bool:
    """Only the time decides."""
    return False


def uncounted(more: int, total: int) -> None:
    """Do not count the steps."""


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
    """Train a model, or continue its run. If the run has ended, nothing is done.

    Each epoch adds a row to ``metrics.jsonl``. A checkpoint is written every ``checkpoint_every`` seconds, at the end,
    and if the run is interrupted or an error is raised. If the process is killed, the same call continues from the last
    checkpoint and trains the epochs after it again. On a CPU the results are bit for bit those of a run without
    interruption, except for the columns ``seconds`` and ``images_per_second``.

    Args:
        settings: the settings of the run; `Settings.of` makes them.
        folder: the folder of the results.
        factory: makes the task; default the task that the settings name.
        data_dir: the folder that contains the data sets; default the environment variable ``ADAI_DATA_DIR``.
        command: the command line, which is stored with the results.
        checkpoint_every: seconds between two checkpoints, which are written at the ends of epochs; 0 for one after
            each epoch. It changes no result.
        needed: called with the number of an epoch; returns whether a checkpoint must be written after it.
        progress: called with the rows so far, at the start and after every epoch.
        stepped: called with the number of new steps and of all steps, if the run has not ended.

    Returns:
        The run on disk; see ``run.rows()`` and ``run.status``.

    Raises:
        UserError: a device, a data set or a task does not exist; the folder cannot be written (its files are
            unchanged), or it holds a run with other settings; or the task is wrong, see
            `adai.lab.tasks.task.checked` and `adai.lab.training.learner.Learner.try_out`.
        Failed: the code of the task raised an error, which is the cause of this one. Finished epochs are kept.
    """
    folder, data_dir = Path(folder), data_dir and Path(data_dir)
    device = local_device(device_named(settings.device))
    run = Run(folder)
    with ranks(device) as processes, algorithms(settings), ExitStack() as until_it_starts:
        if processes.first:
            until_it_starts.enter_context(removed_if_refused(folder))
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
                # Also for a run that an earlier version started: the learner has its initial weights.
                start = learner.start()
                if processes.first:
                    with writing_to(folder, ON_DISK):
                        run.write_start(start, learner.metric and learner.metric.about())
            until_it_starts.close()
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
                        # The checkpoint also holds the rows, from which metrics.jsonl is restored.
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
    except (KeyError, RuntimeError, ValueError) as error:  # the user's task has changed since
        what = str(error).splitlines()[0]
        raise UserError(f"the checkpoint in {folder} is of another model ({what}); give another `folder`") from error


def diverged(rows: list[Row]) -> bool:
    """Whether the loss of the last epoch was not finite."""
    return bool(rows) and rows[-1]["train_loss"] is None


@contextmanager
def algorithms(settings: Settings) -> Iterator[None]:
    """Use deterministic algorithms in the block if the settings ask for them, else the fastest ones.

    TF32 is used only if it is the precision. torch keeps these choices for the whole process, so they are restored at
    the end.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it to be deterministic
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.backends.cudnn.benchmark = not settings.deterministic
    try:
        with float32_products(tf32=settings.precision == "tf32"):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
