"""Comparisons from Python: what `adai compare` does, as a function that returns what came of it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.lab.host.terminal import terminal
from adai.lab.measure.base import Asked, Measure
from adai.lab.optimizers.contenders import Thing, contender, importable, split
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, Range, Recipe
from adai.lab.queue import compare as queue
from adai.lab.queue.executors import in_process
from adai.lab.queue.standings import standings
from adai.lab.queue.where import executor_named
from adai.lab.results.comparison import Comparison
from adai.lab.results.folders import default_folder
from adai.lab.results.learning_rates import load
from adai.lab.tasks.task import Task, known_here_alone, name_of
from adai.lab.training.checkpoints import EVERY

logger = logging.getLogger(__name__)


def compare(
    task: str | Callable[[], Task] = "digits",
    *,
    optimizers: Mapping[str, Thing] | Sequence[str | Recipe] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    folder: Path | str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ranges: Mapping[str, Mapping[str, Range]] | None = None,
    tune: int = 0,
    lr_grid: Sequence[float] = (),
    measures: Sequence[Measure | Asked | str] = (),
    every: int = 0,
    data_dir: Path | str | None = None,
    checkpoint_every: float = EVERY,
    executor: str = "local",
    jobs: int | None = None,
    address: str | None = None,
    cpus: int | None = None,
    gpus: float | None = None,
    progress: bool = True,
    model: str | None = None,
    **settings: Any,
) -> Comparison:
    """Train several optimizers on the same task over several seeds, and say which is better.

    All optimizers have the same initial weights, order of the examples, epochs and schedule. The folder is one of
    `adai compare`: the same call goes on after an interruption, and so does the command.

    **When not to use it.** To train one model once: that is `adai.lab.train`.

    Args:
        task: the name of a data set; or a function that returns a `Task`, with a model that it makes each time, or the
            name of one, ``package.module:function``.
        optimizers: by label, a class of optimizers, a function of the model that returns one, a name such as ``adai``
            or ``torch:NAdam``, or a `Recipe`; or a list of names and recipes.
        seeds: how many; below three nothing is said about differences.
        folder: where the results go; default ``runs/<task>``.
        options: of the optimizers, by label: ``{"mine": {"lr": 0.1}}``. The others are the recipe's, or the optimizer's
            own defaults.
        ranges: what ``tune`` searches, by label and option.
        tune: choose learning rate, weight decay and what has a range by so many trials for each optimizer.
        lr_grid: factors on each optimizer's own learning rate; it is then compared at its best.
        measures: what to measure of every run: ``flatness``, ``stability``, or a `Measure` of your own.
        every: measure after every so many epochs too.
        data_dir: where data sets lie by name; default the environment's ``ADAI_DATA_DIR``.
        checkpoint_every: seconds between two checkpoints of a run, which are written at the ends of epochs; 0 for one
            after each epoch.
        executor: ``local`` or ``ray``.
        jobs: so many runs at a time, each in a process of its own; default one, in this process.
        address: of the Ray cluster; default the one that is found.
        cpus: of each run on Ray; default 1.
        gpus: of each run on Ray; default 0.
        progress: whether a bar and a table are shown meanwhile.
        model: a network by name, for a data set by name; default the data set's.
        settings: the other settings of every run, as `Settings.of` takes them: ``epochs``, ``batch``, ``schedule``, …

    Returns:
        The comparison. Runs that failed are in its ``failures``.

    Raises:
        UserError: an optimizer, a data set, a measure or a device is not there, or does not take what it is given; the
            folder holds a comparison with other settings; or several processes are asked for, and they cannot import
            the task or an optimizer.
        ModuleNotFoundError: an optimizer comes from a package that is not installed.

    Example:
        >>> from adai.lab import compare
        >>> result = compare("digits", optimizers=["adai", "sgd"], seeds=3, epochs=1, folder=tmp, progress=False)
        >>> result.summary()["finished"].tolist()
        [3, 3]
    """
    name = task if isinstance(task, str) else name_of(task)
    recipes = [contender(label, thing) for label, thing in _labelled(optimizers)]
    execute = executor_named(executor, jobs=jobs, address=address, cpus=cpus, gpus=gpus)
    if execute is not in_process:
        _check_importable(name, recipes)
    place = Path(folder) if folder is not None else default_folder(name)
    with standings(terminal()) if progress else nullcontext(queue.unwatched) as watch:
        failures = queue.compare(
            place,
            task=name,
            models=[model] if model else (),
            optimizers=recipes,
            seeds=seeds,
            overrides=options,
            ranges=ranges,
            tune=_tuning(tune),
            lr_grid=lr_grid,
            measures=measures,
            every=every,
            data_dir=data_dir,
            command="adai.lab.compare",
            checkpoint_every=checkpoint_every,
            execute=execute,
            watch=watch,
            **settings,
        )
    for failure in failures:
        logger.warning("%s", failure)
    return replace(load(place), failures=failures)


def _labelled(optimizers: Mapping[str, Thing] | Sequence[str | Recipe]) -> list[tuple[str, Thing]]:
    if isinstance(optimizers, Mapping):
        return list(optimizers.items())
    if isinstance(optimizers, str):
        raise UserError(f"`optimizers` is {optimizers!r}; give a list, such as [{optimizers!r}]")
    return [split(each) if isinstance(each, str) else (each.name, each) for each in optimizers]


def _check_importable(task: str, recipes: Sequence[Recipe]) -> None:
    """See to it that other processes find the task and the optimizers.

    Raises:
        UserError: they do not.
    """
    here = [f"the task {task}"] if known_here_alone(task) else []
    here += [f"the optimizer {each.name}" for each in recipes if not importable(each.spec)]
    if here:
        raise UserError(
            f"other processes cannot import {' and '.join(here)}; define what they run in a module, not in a notebook, "
            "a script or another function, or leave `jobs` and `executor` out"
        )


def _tuning(trials: int) -> Any:
    if not trials:
        return None
    from adai.lab.queue.tuning import Tuning

    return Tuning(trials)
