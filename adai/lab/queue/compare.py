"""Several optimizers on the same task over several seeds: a queue of runs, and folders that know how far it is."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.machine import about, device_named
from adai.lab.host.ranks import world_size
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.table import asked
from adai.lab.models.copies import copied
from adai.lab.optimizers.contenders import contender, labelled, split, together
from adai.lab.optimizers.named import importable
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, RECIPES, Range, Recipe, own_name, recipe
from adai.lab.queue.attempts import Failure
from adai.lab.queue.executors import Executor, elsewhere, in_process
from adai.lab.queue.jobs import Job, Watch
from adai.lab.results.folders import RunFolder, folder_at
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.task import checked
from adai.lab.training.checkpoints import EVERY
from adai.lab.training.tryout import needs_closure

if TYPE_CHECKING:  # it needs Optuna, and a comparison without tuning does not
    from adai.lab.queue.tuning import Tuning


logger = logging.getLogger(__name__)


def unwatched(jobs: Sequence[Job]) -> None:
    """No progress is shown."""


def compare(
    folder: RunFolder | Path | str,
    *,
    task: str = "digits",
    models: Sequence[str] = (),
    optimizers: Sequence[str | Recipe] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ranges: Mapping[str, Mapping[str, Range]] | None = None,
    tune: "Tuning | None" = None,
    lr_grid: Sequence[float] = (),
    measures: Sequence[Measure | Asked | str] = (),
    every: int = 0,
    data_dir: Path | str | None = None,
    command: str = "",
    checkpoint_every: float = EVERY,
    execute: Executor = in_process,
    watch: Watch = unwatched,
    **settings: Any,
) -> list[Failure]:
    """Train every optimizer with every seed, each in a folder of its own, as `adai.lab.training.train.train` does.

    What the folders hold is not done again, so the same call goes on after an interruption, in the middle of a run too.
    A run that diverges is over; the others go on. All optimizers have the same starts, data order, epochs and schedule.

    Args:
        folder: where the results go.
        task: a data set, or ``package.module:factory``.
        models: names from `adai.lab.models.MODELS`; default the task's. Each of several is a comparison of its own, in
            a folder of its name within `folder`; their runs are one queue.
        optimizers: names, such as ``adai``, ``torch:NAdam`` or ``mine=package.module:thing``, where ``mine`` is a
            label; or what `adai.lab.optimizers.contenders.contender` returns. Each has its runs in a folder of its
            label.
        seeds: how many; seed i is the same initial weights and data order for every optimizer.
        overrides: options other than the recipe's, by label.
        ranges: what ``tune`` searches beside learning rate and weight decay, or between other ends, by label.
        tune: chooses learning rate, weight decay and what else has a range, with so many trials for each optimizer; the
            runs compared are fresh ones.
        lr_grid: factors on each optimizer's own learning rate; all is run and measured at each of these too, in
            ``lr-grid/<factor>`` within `folder`. Factor 1 is always run, in `folder` itself.
        measures: what to measure of every run after its last epoch: names from `adai.lab.measure.table.MEASURES`,
            measures of your own, or `Asked`, which says how often and of which optimizers. Runs that are added to a
            folder are measured with the settings of those that are there. Optimizers that cannot be measured are left
            out, with a warning.
        every: measure after every so many epochs too, to compare runs along training; 0 does not.
        data_dir: where data sets lie by name.
        command: the command line, kept beside the results.
        checkpoint_every: seconds between two checkpoints of a run, as of `adai.lab.training.train.train`.
        execute: carries out the runs: `in_process`, `adai.lab.queue.executors.Processes` or
            `adai.lab.queue.on_ray.OnRay`.
        watch: called with the runs of the queue, or of a round of trials, about every second or epoch.
        settings: the other settings of every run, as `Settings.of` takes them.

    Returns:
        The runs that failed twice.

    Raises:
        UserError: an optimizer, a model, a data set, a measure or a device is not there, an optimizer does not take an
            option or cannot take a step, a folder is of no use, or none of the optimizers can be measured as asked.
        ModuleNotFoundError: an optimizer comes from a package that is not installed.
    """
    if world_size() > 1:
        raise UserError("a comparison runs in one process; start adai train under torchrun instead")
    if getattr(execute, "gpus", None) == 0 and settings.get("device") is None:
        settings["device"] = "cpu"  # runs on Ray see a GPU only if they ask for one
    folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
    data_dir = Path(data_dir) if data_dir else None
    recipes = together(_contenders(optimizers, overrides or {}, ranges or {}))
    if local := [name for name, own in recipes.items() if elsewhere(execute) and not importable(own.spec)]:
        raise UserError(
            f"{local[0]} cannot be imported by other processes; move it to a module, or run one job at a time"
        )
    if tune and lr_grid:
        raise UserError("`tune` and `lr_grid` both choose learning rates; leave one of them out")
    if without := [name for name, own in recipes.items() if lr_grid and "lr" not in own.options]:
        raise UserError(f"{without[0]} has no option lr, which `lr_grid` would change; leave one of them out")
    parts = [
        Part(
            RunFolder(folder.path / model) if model and len(models) > 1 else folder,
            {name: _settings_of(own, task, model=model, **settings) for name, own in recipes.items()},
            recipes,
        )
        for model in models or (None,)
    ]
    made = [part.checked(data_dir) for part in parts]
    wanted = [_measurable(asked(given, every), made[0]) for given in measures]
    common: dict[str, Any] = {
        "data_dir": data_dir and data_dir.absolute(),
        "command": command,
        "checkpoint_every": checkpoint_every,
    }
    if tune:
        parts = [part.tuned(tune, execute, watch, common) for part in parts]
    parts = [part.at(factor) for part in parts for factor in sorted({1.0, *map(float, lr_grid)})]
    for part in parts:
        part.open(seeds, tune.trials if tune else 0, command)
    alike = [[_alike(one, part.folder.path) for one in wanted] for part in parts]
    jobs = [
        job
        for seed in range(seeds)
        for part, measured in zip(parts, alike, strict=True)
        for job in part.jobs(seed, measured, **common)
    ]
    watch(jobs)
    # One run of each model is enough: what cannot be measured of it cannot be measured of the others.
    firsts = {job.settings.model: job for job in reversed(jobs) if job.measures and job.run.status == "unfinished"}
    for job in firsts.values():
        job.try_to_measure()
    return execute([job for job in jobs if job.to_do], lambda: watch(jobs))


def _alike(wanted: Asked, comparison: Path) -> Asked:
    """The measure with the settings that the runs of a folder were measured with so far."""
    return wanted._replace(measure=wanted.measure.like(comparison, along=wanted.every > 0))


def _contenders(
    optimizers: Sequence[str | Recipe],
    overrides: Mapping[str, Mapping[str, Any]],
    ranges: Mapping[str, Mapping[str, Range]],
) -> list[Recipe]:
    """Those that take part, with their options and ranges.

    Raises:
        UserError: one is not there, or options or ranges are given for one that does not take part.
    """
    named = [split(each) if isinstance(each, str) else (each.name, each) for each in optimizers]
    bases = [labelled(label, thing) for label, thing in named]
    labels = [each.name for each in bases]
    for given in (*overrides, *ranges):
        if given not in labels:
            raise UserError(f"no optimizer has the label {given!r}; those that run are {', '.join(labels)}")
    return [contender(each.name, each, overrides.get(each.name), ranges.get(each.name)) for each in bases]


def _settings_of(own: Recipe, task: str, **given: Any) -> Settings:
    """The settings of an optimizer's runs, but for the seed."""
    label = "" if own.name == own_name(own.spec) else own.name
    return Settings.of(task, optimizer=own.spec, label=label, options=own.options, **given)


def _measurable(wanted: Asked, optimizers: Mapping[str, Optimizer]) -> Asked:
    """The measure, for those of the optimizers that can be measured; what is wrong with the others is logged.

    Raises:
        UserError: none can.
    """
    why = {}
    names = [name for name in optimizers if wanted.of is None or name in wanted.of]
    for name in names:
        try:
            wanted.measure.check(optimizers[name])
        except UserError as error:
            why[name] = str(error)
    if why and len(why) == len(names):
        raise UserError(next(iter(why.values())))
    for reason in why.values():
        logger.warning("%s", reason)
    return wanted._replace(of=[name for name in names if name not in why])


class Part(NamedTuple):
    """The comparison on one model: its folder, and for each optimizer the settings of its runs, but for the seed.

    ``recipes`` are theirs as they were asked for. ``factor`` is that on each optimizer's own learning rate.
    """

    folder: RunFolder
    runs: dict[str, Settings]
    recipes: dict[str, Recipe]
    factor: float = 1.0

    def checked(self, data_dir: Path | None) -> dict[str, Optimizer]:
        """An optimizer of each kind. So what is missing or does not fit shows now, not after hours of training."""
        device = device_named(self.common.device)
        factory = named_task(self.common, device, data_dir)
        of_a_recipe = {name: own.recipe for name, own in self.runs.items() if own.optimizer in RECIPES}
        made = {name: own.build([Parameter(torch.zeros(1))]) for name, own in of_a_recipe.items()}
        if made.keys() == self.runs.keys():
            return made
        with random_state.untouched(device):  # others need the model itself
            model = checked(factory, self.common.name).model.to(device)
        for name, own in self.runs.items():
            if name not in made:
                needs_closure(own.recipe, model, own.precision)
                made[name] = own.recipe.build(copied(model))
        return {name: made[name] for name in self.runs}

    @property
    def common(self) -> Settings:
        """What all runs share, and more."""
        return next(iter(self.runs.values()))

    def tuned(self, tune: "Tuning", execute: Executor, watch: Watch, common: dict[str, Any]) -> "Part":
        """The same with the options that came out best."""
        ranges = {name: own.ranges for name, own in self.recipes.items()}
        chosen = tune(self.folder.path.absolute() / "tuning", self.runs, execute, watch, ranges=ranges, **common)
        runs = {n: replace(own, options={**own.options, **chosen[n]}) for n, own in self.runs.items()}
        return self._replace(runs=runs)

    def at(self, factor: float) -> "Part":
        """The same at so many times each optimizer's learning rate."""
        if factor == 1:  # also of optimizers that have none
            return self
        runs = {
            name: replace(own, options={**own.options, "lr": _rounded(own.options["lr"] * factor)})
            if "lr" in own.options
            else own
            for name, own in self.runs.items()
        }
        return self._replace(folder=RunFolder(folder_at(self.folder.path, factor)), runs=runs, factor=factor)

    def open(self, seeds: int, trials: int, command: str) -> None:
        """Say in the folder what all runs share, and the two things in which they differ."""
        shared = {k: v for k, v in self.common.as_dict().items() if k not in ("optimizer", "label", "options", "seed")}
        options = {name: own.options for name, own in self.runs.items()}
        others = {name: self._said(own) for name, own in self.recipes.items() if name not in RECIPES}
        device = device_named(self.common.device)
        config = {**shared, "trials": trials, "seeds": seeds, "optimizers": options}
        self.folder.open({**config, "contenders": others} if others else config, about(device, command))

    @staticmethod
    def _said(own: Recipe) -> dict[str, Any]:
        """What an optimizer is, beside the options it runs with: they are its own but for those that were given."""
        usual = recipe(own.spec).options
        return {"spec": own.spec, "given": [name for name, value in own.options.items() if usual.get(name) != value]}

    def jobs(self, seed: int, measures: Sequence[Asked], **common: Any) -> list[Job]:
        """The runs of one seed, and what is measured of each; what else they share goes to `Job` as it is."""
        model = f"{self.common.model}, " if self.common.model else ""
        rate = "" if self.factor == 1 else f", {self.factor:g} times its learning rate"
        return [
            Job(
                f"{model}{own.contender_label}{rate}, seed {seed}",
                replace(own, seed=seed),
                self.folder.run(name, seed).path.absolute(),
                measures=tuple(one for one in measures if one.of is None or name in one.of),
                **common,
            )
            for name, own in self.runs.items()
        ]


def _rounded(rate: float) -> float:
    """A product without the last digits of its rounding: three times 0.1 is 0.3."""
    return float(f"{rate:.12g}")
