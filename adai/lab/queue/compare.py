"""Compares several optimizers on the same task over several seeds: a queue of runs that can be interrupted."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from adai.errors import UserError
from adai.files import removed_if_refused
from adai.lab.host import random_state
from adai.lab.host.extras import needed
from adai.lab.host.machine import about, device_named
from adai.lab.host.ranks import world_size
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.table import asked
from adai.lab.models.copies import copied
from adai.lab.optimizers.contenders import Ends, contender, labelled, split, together
from adai.lab.optimizers.named import importable, takes_model
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, RECIPES, Recipe, own_name, recipe
from adai.lab.queue.attempts import Failure
from adai.lab.queue.executors import Executor, elsewhere, in_process
from adai.lab.queue.jobs import Job, Watch
from adai.lab.results.folders import RunFolder, folder_at
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.task import checked, known_here_alone
from adai.lab.training.checkpoints import EVERY
from adai.lab.training.tryout import needs_closure

if TYPE_CHECKING:  # it needs Optuna; see `_tuning`
    from adai.lab.queue.tuning import Tuning


logger = logging.getLogger(__name__)


def unwatched(jobs: Sequence[Job]) -> None:
    """Show no progress."""


def compare(
    folder: RunFolder | Path | str,
    *,
    task: str = "digits",
    models: Sequence[str] = (),
    optimizers: Sequence[str | Recipe] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ranges: Mapping[str, Mapping[str, Ends]] | None = None,
    tune: int = 0,
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
    """Train every optimizer with every seed with `adai.lab.training.train.train`, each run in its own folder.

    After an interruption the same call continues, also in the middle of a run: nothing that the folders hold is done
    again. If a run diverges, the others continue. All optimizers have the same initial weights, data order, epochs and
    schedule.

    Args:
        folder: the folder of the results.
        task: a data set, or ``package.module:factory``.
        models: names from `adai.lab.models.MODELS`; default the task's. With several models, each is a comparison of
            its own, in a folder of that name within `folder`; their runs are in one queue.
        optimizers: names, such as ``adai``, ``torch:NAdam`` or ``mine=package.module:thing``, where ``mine`` is a
            label; or recipes from `adai.lab.optimizers.contenders.contender`. The runs of each are in a folder with its
            label.
        seeds: the number of seeds. Seed i gives every optimizer the same initial weights and data order.
        overrides: options that differ from the recipe's, by label.
        ranges: what ``tune`` searches beside learning rate and weight decay, or in place of their usual ranges, by
            label and option.
        tune: the number of trials for each optimizer that choose its learning rate, its weight decay and the options
            that have a range; 0 for none. The runs that are compared are new ones.
        lr_grid: factors by which each optimizer's own learning rate is multiplied. For each factor, all runs and
            measurements are repeated in ``lr-grid/<factor>`` within `folder`. Factor 1 always runs, in `folder` itself.
        measures: the measures of every run after its last epoch: names from `adai.lab.measure.table.MEASURES`, measures
            of your own, or `Asked`, which also determines how often and for which optimizers. Runs that are added to a
            folder are measured with the settings of the runs in it. Optimizers that cannot be measured are left out,
            with a warning.
        every: measure also along training, after each multiple of this number of epochs; 0 for the last epoch only.
        data_dir: the folder that contains the data sets.
        command: the command line, which is stored with the results.
        checkpoint_every: seconds between two checkpoints of a run, as for `adai.lab.training.train.train`.
        execute: carries out the runs: `in_process`, `adai.lab.queue.executors.Processes` or
            `adai.lab.queue.on_ray.OnRay`.
        watch: called about every second or after each epoch, with the runs of the queue or of a round of trials.
        settings: the other settings of every run, as for `Settings.of`.

    Returns:
        The runs that failed twice.

    Raises:
        UserError: an optimizer, a model, a data set, a measure or a device does not exist; an optimizer does not take
            an option or cannot take a step; other processes cannot import the task or an optimizer; the folder cannot
            be written or holds other results; none of the optimizers can be measured; or ``tune`` is given and Optuna
            is not installed.
        ModuleNotFoundError: an optimizer comes from a package that is not installed.
    """
    if world_size() > 1:
        raise UserError("a comparison does not run under torchrun; run adai train under torchrun instead")
    if getattr(execute, "gpus", None) == 0 and settings.get("device") is None:
        settings["device"] = "cpu"  # runs on Ray see a GPU only if they ask for one
    folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
    data_dir = Path(data_dir) if data_dir else None
    recipes = together(_contenders(optimizers, overrides or {}, ranges or {}))
    if elsewhere(execute):
        _check_importable(task, recipes)
    if tune and lr_grid:
        raise UserError("`tune` and `lr_grid` both choose learning rates; leave one of them out")
    tuning = _tuning(tune)
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
    _warn_of_two_warm_ups(made[0], parts[0].common.warmup_steps)
    wanted = [_measurable(asked(given, every), made[0]) for given in measures]
    common: dict[str, Any] = {
        "data_dir": data_dir and data_dir.absolute(),
        "command": command,
        "checkpoint_every": checkpoint_every,
    }
    if tuning:
        for part in parts:
            part.check_folder(tune)  # before the trials, which may take hours
        parts = [part.tuned(tuning, execute, watch, common) for part in parts]
    parts = [part.at(factor) for part in parts for factor in sorted({1.0, *map(float, lr_grid)})]
    with removed_if_refused(folder.path):
        for part in parts:
            part.open(seeds, tune, command)
        alike = [[_alike(one, part.folder.path) for one in wanted] for part in parts]
        jobs = [
            job
            for seed in range(seeds)
            for part, measured in zip(parts, alike, strict=True)
            for job in part.jobs(seed, measured, **common)
        ]
        watch(jobs)
        # One run of each model is enough: if it can be measured, the others can.
        firsts = {job.settings.model: job for job in reversed(jobs) if job.measures and job.run.status == "unfinished"}
        for job in firsts.values():
            job.try_to_measure()
    return execute([job for job in jobs if job.to_do], lambda: watch(jobs))


def _check_importable(task: str, recipes: Mapping[str, Recipe]) -> None:
    """Check that other processes can import the task and the optimizers.

    Raises:
        UserError: they cannot.
    """
    here = [f"the task {task}"] if known_here_alone(task) else []
    here += [f"the optimizer {name}" for name, own in recipes.items() if not importable(own.spec)]
    if here:
        raise UserError(
            f"other processes cannot import {' and '.join(here)}; define what they run in a module, not in a notebook, "
            "a script or another function, or leave `jobs` and `executor` out"
        )


def _tuning(trials: int) -> "Tuning | None":
    """What chooses the options; None without trials.

    Raises:
        UserError: Optuna is not installed.
    """
    if not trials:
        return None
    with needed("optuna", by="`tune`", install="'adai[tune]'"):
        from adai.lab.queue.tuning import Tuning
    return Tuning(trials)


def _alike(wanted: Asked, comparison: Path) -> Asked:
    """The measure with the settings that the runs of the folder have been measured with so far."""
    return wanted._replace(measure=wanted.measure.like(comparison, along=wanted.every > 0))


def _contenders(
    optimizers: Sequence[str | Recipe],
    overrides: Mapping[str, Mapping[str, Any]],
    ranges: Mapping[str, Mapping[str, Ends]],
) -> list[Recipe]:
    """The recipes of the optimizers that take part, with their options and ranges.

    Raises:
        UserError: an optimizer does not exist, or options or ranges are given for a label that no optimizer has.
    """
    named = [split(each) if isinstance(each, str) else (each.name, each) for each in optimizers]
    bases = [labelled(label, thing) for label, thing in named]
    labels = [each.name for each in bases]
    for given in (*overrides, *ranges):
        if given not in labels:
            raise UserError(f"no optimizer has the label {given!r}; those that run are {', '.join(labels)}")
    return [contender(each.name, each, overrides.get(each.name), ranges.get(each.name)) for each in bases]


def _settings_of(own: Recipe, task: str, **given: Any) -> Settings:
    """The settings of an optimizer's runs, without the seed."""
    label = "" if own.name == own_name(own.spec) else own.name
    settings = Settings.of(task, optimizer=own.spec, label=label, options=own.options, **given)
    return replace(settings, options=dict(own.options))  # which are complete: the recipe of that name may have more


def _warn_of_two_warm_ups(optimizers: Mapping[str, Optimizer], steps: int) -> None:
    """Warn of each optimizer that has a warm-up of its own, if the learning rate has one of this many steps too."""
    for name, optimizer in optimizers.items():
        own = max(group.get("warmup_steps") or 0 for group in optimizer.param_groups)
        if own and steps:
            logger.warning(
                "%s has a warm-up of its own (%d steps) besides that of the runs (%d steps), and the two multiply; set "
                "warmup_steps of one of them to 0", name, own, steps,
            )  # fmt: skip


def _measurable(wanted: Asked, optimizers: Mapping[str, Optimizer]) -> Asked:
    """Limit the measure to the optimizers that it can measure, with a warning for each of the others.

    Raises:
        UserError: it can measure none.
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
    """The comparison on one model.

    Attributes:
        folder: its folder.
        runs: the settings of the runs without the seed, by label.
        recipes: the recipes of the optimizers as they were asked for, by label.
        factor: the factor on each optimizer's own learning rate.
    """

    folder: RunFolder
    runs: dict[str, Settings]
    recipes: dict[str, Recipe]
    factor: float = 1.0

    def checked(self, data_dir: Path | None) -> dict[str, Optimizer]:
        """Make each optimizer once, so that errors show before hours of training; returns the optimizers by label."""
        device = device_named(self.common.device)
        factory = named_task(self.common, device, data_dir)
        of_a_recipe = {name: own.recipe for name, own in self.runs.items() if own.optimizer in RECIPES}
        made = {name: own.build([Parameter(torch.zeros(1))]) for name, own in of_a_recipe.items()}
        if made.keys() == self.runs.keys():
            return made
        with random_state.untouched(device):  # optimizers without a recipe need the model
            model = checked(factory, self.common.name).model.to(device)
        for name, own in self.runs.items():
            if name not in made:
                needs_closure(own.recipe, model, own.precision)
                made[name] = own.recipe.build(copied(model))
        return {name: made[name] for name in self.runs}

    @property
    def common(self) -> Settings:
        """The settings of the first optimizer, for the settings that all runs share."""
        return next(iter(self.runs.values()))

    def tuned(self, tuning: "Tuning", execute: Executor, watch: Watch, common: dict[str, Any]) -> "Part":
        """This comparison with the options that the tuning chose."""
        ranges = {name: own.ranges for name, own in self.recipes.items()}
        chosen = tuning(self.folder.path.absolute() / "tuning", self.runs, execute, watch, ranges=ranges, **common)
        runs = {n: replace(own, options={**own.options, **chosen[n]}) for n, own in self.runs.items()}
        return self._replace(runs=runs)

    def at(self, factor: float) -> "Part":
        """This comparison with each optimizer's learning rate multiplied by the factor."""
        if factor == 1:  # also if an optimizer has no learning rate
            return self
        runs = {
            name: replace(own, options={**own.options, "lr": _rounded(own.options["lr"] * factor)})
            if "lr" in own.options
            else own
            for name, own in self.runs.items()
        }
        return self._replace(folder=RunFolder(folder_at(self.folder.path, factor)), runs=runs, factor=factor)

    def open(self, seeds: int, trials: int, command: str) -> None:
        """Write the comparison's ``config.json``: the settings that all runs share, and the optimizers' options."""
        options = {name: own.options for name, own in self.runs.items()}
        config = {**self._shared(trials), "seeds": seeds, "optimizers": options}
        self.folder.open(config, about(device_named(self.common.device), command))

    def check_folder(self, trials: int) -> None:
        """Check that the folder can take the comparison, whatever options the trials are going to choose.

        Raises:
            UserError: it holds something else, or a comparison with other settings.
        """
        self.folder.check({**self._shared(trials), "seeds": 0, "optimizers": {}})

    def _shared(self, trials: int) -> dict[str, Any]:
        """What all runs share, and what the optimizers are."""
        shared = {k: v for k, v in self.common.as_dict().items() if k not in ("optimizer", "label", "options", "seed")}
        others = {name: self._said(own) for name, own in self.recipes.items() if name not in RECIPES}
        return {**shared, "trials": trials, **({"contenders": others} if others else {})}

    @staticmethod
    def _said(own: Recipe) -> dict[str, Any]:
        """The description of an optimizer for ``config.json``: its name, and which options differ from its defaults."""
        usual = recipe(own.spec).options
        given = [name for name, value in own.options.items() if usual.get(name) != value]
        return {"spec": own.spec, "given": given, **({"of_model": True} if takes_model(own.maker) else {})}

    def jobs(self, seed: int, measures: Sequence[Asked], **common: Any) -> list[Job]:
        """The jobs of one seed.

        Args:
            seed: the seed.
            measures: the measures, each of which may be limited to some optimizers.
            common: further arguments of each `Job`.
        """
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
    """Round to 12 digits, so that 3 * 0.1 is 0.3."""
    return float(f"{rate:.12g}")
