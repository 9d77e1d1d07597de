"""The suite: compares the same optimizers on several tasks with equal budgets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from adai.errors import UserError
from adai.files import removed_if_refused
from adai.lab.optimizers.recipes import Recipe
from adai.lab.queue.attempts import Failure
from adai.lab.queue.compare import compare, unwatched
from adai.lab.queue.executors import Executor, in_process
from adai.lab.queue.jobs import Watch
from adai.lab.results.run import writing_to
from adai.lab.results.suite import keep
from adai.lab.settings import Settings
from adai.lab.tasks.kinds import kind_of
from adai.lab.tasks.named import named_task
from adai.lab.tasks.suite import SuiteTask


def suite(
    folder: Path,
    tasks: Mapping[str, SuiteTask],
    *,
    optimizers: Sequence[str | Recipe],
    tune: int = 0,
    execute: Executor = in_process,
    watch: Watch = unwatched,
    **given: Any,
) -> list[Failure]:
    """Run a comparison on every task, each in a folder with the name of the task.

    After an interruption the same call continues: nothing that the folders hold is done again. Every optimizer gets the
    same number of trials on every task, in ranges around its own recipe, on the validation part. The runs that are
    compared have new seeds, and are judged on the test part.

    Args:
        folder: the folder of the results.
        tasks: the tasks by name.
        optimizers: as for `adai.lab.queue.compare.compare`.
        tune: as for `compare`.
        execute: as for `compare`.
        watch: as for `compare`.
        given: other arguments of `compare`: ``seeds``, ``overrides``, ``ranges``, ``data_dir``, ``command``, and
            settings that replace those of every task, such as ``epochs``.

    Returns:
        The runs that failed twice.

    Raises:
        UserError: no task is given; the data of a task are missing or cannot be used, which is found before any run; or
            as `compare`, before the first run of a task.
    """
    if not tasks:
        raise UserError("`tasks` names none; give at least one")
    for one in tasks.values():
        # `limit` is the number of images; text and tables have none.
        few = {"limit": given.get("limit")} if kind_of(one.task) == "images" else {}
        chosen = Settings.of(one.task, **{**one.settings, "device": "cpu", **few})
        named_task(chosen, torch.device("cpu"), given.get("data_dir"))
    with removed_if_refused(folder, unless="metrics.jsonl"):
        with writing_to(folder, "give another `folder`"):
            folder.mkdir(parents=True, exist_ok=True)
            keep(folder, tasks)
        return _compared(folder, tasks, optimizers=optimizers, tune=tune, execute=execute, watch=watch, **given)


def _compared(folder: Path, tasks: Mapping[str, SuiteTask], **given: Any) -> list[Failure]:
    """The comparisons of all tasks; returns the runs that failed twice."""
    failures: list[Failure] = []
    for name, one in tasks.items():
        own = {key: value for key, value in given.items() if key != "limit" or kind_of(one.task) == "images"}
        settings = dict(one.settings)
        model = settings.pop("model", None)
        failures += compare(
            folder / name,
            task=one.task,
            models=[model] if model else (),
            **{**settings, **own},
        )
    return failures
