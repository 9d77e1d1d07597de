"""Comparisons from Python: a function that does what `adai compare` does, and returns the comparison."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.lab.host.terminal import terminal
from adai.lab.measure.base import Asked, Measure
from adai.lab.optimizers.contenders import Ends, Thing, contender, split
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, Recipe
from adai.lab.queue import compare as queue
from adai.lab.queue.standings import standings
from adai.lab.queue.where import executor_named
from adai.lab.results.comparison import Comparison
from adai.lab.results.folders import default_folder
from adai.lab.results.learning_rates import load
from adai.lab.settings import see_that_known
from adai.lab.tasks.task import Task, name_of
from adai.lab.training.checkpoints import EVERY

logger = logging.getLogger(__name__)


def compare(
    task: str | Callable[[], Task] = "digits",
    *,
    optimizers: Mapping[str, Thing] | Sequence[str | Recipe] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    folder: Path | str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    ranges: Mapping[str, Mapping[str, Ends]] | None = None,
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
    """Compare optimizers: train each on the same task with several seeds.

    All optimizers have the same initial weights, order of the examples, epochs and schedule. The results are in a
    folder, the same as those of `adai compare`. After an interruption the same call continues, and so does the command.

    **When not to use it.** To train one model once, use `adai.lab.train`.

    Args:
        task: the name of a data set; a function that creates a model and returns a `Task`; or the name of such a
            function, ``package.module:function``.
        optimizers: the optimizers by label: each is a class of optimizers, a function that takes the model and returns
            an optimizer, a name such as ``adai`` or ``torch:NAdam``, or a `Recipe`. Or a list of names and recipes.
        seeds: the number of seeds. With fewer than three there is no verdict.
        folder: the folder of the results; default ``runs/<task>``.
        options: options of the optimizers, by label: ``{"mine": {"lr": 0.1}}``. Other options have the values of the
            recipe, or the optimizer's own defaults.
        ranges: the ranges that ``tune`` searches besides learning rate and weight decay, by label and option:
            ``{"mine": {"beta": (0.5, 0.99)}}``, or a `Range` for a logarithmic scale.
        tune: the number of trials for each optimizer that choose its learning rate, its weight decay and the options
            that have a range; 0 for none. It needs Optuna.
        lr_grid: factors by which each optimizer's own learning rate is multiplied. The optimizers run at each of these
            rates, and are compared at their best.
        measures: measures of every run: ``flatness``, ``stability``, or a `Measure` of your own.
        every: measure also along training, after each multiple of this number of epochs; 0 for the last epoch only.
        data_dir: the folder that contains the data sets; default the environment variable ``ADAI_DATA_DIR``.
        checkpoint_every: seconds between two checkpoints of a run, which are written at the ends of epochs; 0 for one
            after each epoch.
        executor: ``local`` or ``ray``.
        jobs: for ``local``: the number of runs at a time, each in a child process; default one, in this process.
        address: for ``ray``: the address of the cluster; default the one that is found.
        cpus: for ``ray``: the number of CPUs of each run; default 1.
        gpus: for ``ray``: the number of GPUs of each run; default 0.
        progress: whether to show a progress bar and a table.
        model: the name of a network, if ``task`` is the name of a data set; default the data set's own.
        settings: the other settings of every run, as for `Settings.of`: ``epochs``, ``batch``, ``schedule``, …

    Returns:
        The comparison. Runs that failed are in its ``failures``.

    Raises:
        UserError: an optimizer, a data set, a measure, a device or a setting does not exist; an optimizer does not take
            an option; the folder holds a comparison with other settings; other processes cannot import the task or an
            optimizer; or a package that ``tune`` or ``executor`` needs is not installed.
        ModuleNotFoundError: an optimizer is from a package that is not installed.

    Example:
        >>> from adai.lab import compare
        >>> result = compare("digits", optimizers=["adai", "sgd"], seeds=3, epochs=1, folder=tmp, progress=False)
        >>> result.summary()["finished"].tolist()
        [3, 3]
    """
    _check(settings)
    name = task if isinstance(task, str) else name_of(task)
    recipes = [contender(label, thing) for label, thing in _labelled(optimizers)]
    execute = executor_named(executor, jobs=jobs, address=address, cpus=cpus, gpus=gpus)
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
            tune=tune,
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


# Settings of a single run, and the arguments of a comparison in their place.
_OF_ONE_RUN = {"seed": "seeds", "optimizer": "optimizers", "label": "optimizers"}


def _check(settings: Iterable[str]) -> None:
    """Refuse unknown settings, and those of a single run."""
    for name in settings:
        if name in _OF_ONE_RUN:
            raise UserError(f"{name!r} is a setting of a single run; in a comparison use {_OF_ONE_RUN[name]}=")
    see_that_known(settings, signature(compare).parameters)


def _labelled(optimizers: Mapping[str, Thing] | Sequence[str | Recipe]) -> list[tuple[str, Thing]]:
    if isinstance(optimizers, Mapping):
        return list(optimizers.items())
    if isinstance(optimizers, str):
        raise UserError(f"`optimizers` is {optimizers!r}; give a list, such as [{optimizers!r}]")
    return [split(each) if isinstance(each, str) else (each.name, each) for each in optimizers]
