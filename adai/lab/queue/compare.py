"""Several optimizers on the same task over several seeds: a queue of runs, and folders that know how far it is."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import Parameter

from adai.errors import UserError
from adai.lab.host.machine import about, device_named
from adai.lab.host.ranks import world_size
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.table import asked
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, recipe
from adai.lab.queue.attempts import Failure
from adai.lab.queue.executors import Executor, in_process
from adai.lab.queue.jobs import Job, Watch
from adai.lab.results.folders import RunFolder, folder_at
from adai.lab.settings import Settings
from adai.lab.training.train import named_task

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
    optimizers: Sequence[str] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    tune: "Tuning | None" = None,
    lr_grid: Sequence[float] = (),
    measures: Sequence[Measure | Asked | str] = (),
    every: int = 0,
    data_dir: Path | str | None = None,
    command: str = "",
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
        optimizers: names from `adai.lab.optimizers.recipes.RECIPES`.
        seeds: how many; seed i is the same initial weights and data order for every optimizer.
        overrides: ``lr`` and ``weight_decay`` other than the recipe's, by optimizer.
        tune: chooses them instead, with so many trials for each optimizer; the runs compared are fresh ones.
        lr_grid: factors on each optimizer's own learning rate; all is run and measured at each of these too, in
            ``lr-grid/<factor>`` within `folder`. Factor 1 is always run, in `folder` itself.
        measures: what to measure of every run after its last epoch: names from `adai.lab.measure.table.MEASURES`,
            measures of your own, or `Asked`, which says how often and of which optimizers. Runs that are added to a
            folder are measured with the settings of those that are there. Optimizers that cannot be measured are left
            out, with a warning.
        every: measure after every so many epochs too, to compare runs along training; 0 does not.
        data_dir: where data sets lie by name.
        command: the command line, kept beside the results.
        execute: carries out the runs: `in_process`, `adai.lab.queue.executors.Processes` or
            `adai.lab.queue.on_ray.OnRay`.
        watch: called with the runs of the queue, or of a round of trials, about every second or epoch.
        settings: the other settings of every run, as `Settings.of` takes them.

    Returns:
        The runs that failed twice.

    Raises:
        UserError: an optimizer, a model, a data set, a measure or a device is not there, a folder is of no use, or none
            of the optimizers can be measured as asked.
        ModuleNotFoundError: an optimizer comes from a package that is not installed.
    """
    if world_size() > 1:
        raise UserError("a comparison runs in one process; start adai train under torchrun instead")
    folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
    data_dir = Path(data_dir) if data_dir else None
    overrides = overrides or {}
    if tune and lr_grid:
        raise UserError("`tune` and `lr_grid` both choose learning rates; leave one of them out")
    parts = [
        Part(
            RunFolder(folder.path / model) if model and len(models) > 1 else folder,
            {n: Settings.of(task, model=model, optimizer=n, **settings, **overrides.get(n, {})) for n in optimizers},
        )
        for model in models or (None,)
    ]
    for part in parts:
        part.check(data_dir)
    wanted = [_measurable(asked(given, every), parts[0].runs) for given in measures]
    common: dict[str, Any] = {"data_dir": data_dir and data_dir.absolute(), "command": command}
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
    return execute([job for job in jobs if job.to_do], lambda: watch(jobs))


def _alike(wanted: Asked, comparison: Path) -> Asked:
    """The measure with the settings that the runs of a folder were measured with so far."""
    return wanted._replace(measure=wanted.measure.like(comparison, along=wanted.every > 0))


def _measurable(wanted: Asked, runs: Mapping[str, Settings]) -> Asked:
    """The measure, for those of the optimizers that can be measured; what is wrong with the others is logged.

    Raises:
        UserError: none can.
    """
    why = {}
    names = [name for name in runs if wanted.of is None or name in wanted.of]
    for name in names:
        try:
            wanted.measure.check(recipe(name)._replace(options=runs[name].options).build([Parameter(torch.zeros(1))]))
        except UserError as error:
            why[name] = str(error)
    if why and len(why) == len(names):
        raise UserError(next(iter(why.values())))
    for reason in why.values():
        logger.warning("%s", reason)
    return wanted._replace(of=[name for name in names if name not in why])


class Part(NamedTuple):
    """The comparison on one model: its folder, and for each optimizer the settings of its runs, but for the seed.

    ``factor`` is that on each optimizer's own learning rate.
    """

    folder: RunFolder
    runs: dict[str, Settings]
    factor: float = 1.0

    def check(self, data_dir: Path | None) -> None:
        """See to it that what is missing shows now, not after hours of training."""
        for name, own in self.runs.items():
            recipe(name)._replace(options=own.options).build([Parameter(torch.zeros(1))])
        named_task(self.common, device_named(self.common.device), data_dir)

    @property
    def common(self) -> Settings:
        """What all runs share, and more."""
        return next(iter(self.runs.values()))

    def tuned(self, tune: "Tuning", execute: Executor, watch: Watch, common: dict[str, Any]) -> "Part":
        """The same with the options that came out best."""
        chosen = tune(self.folder.path.absolute() / "tuning", self.runs, execute, watch, **common)
        runs = {n: replace(own, options={**own.options, **chosen[n]}) for n, own in self.runs.items()}
        return self._replace(runs=runs)

    def at(self, factor: float) -> "Part":
        """The same at so many times each optimizer's learning rate."""
        runs = {
            name: replace(own, options={**own.options, "lr": _rounded(own.options["lr"] * factor)})
            for name, own in self.runs.items()
        }
        return Part(RunFolder(folder_at(self.folder.path, factor)), runs, factor) if factor != 1 else self

    def open(self, seeds: int, trials: int, command: str) -> None:
        """Say in the folder what all runs share, and the two things in which they differ."""
        shared = {k: v for k, v in self.common.as_dict().items() if k not in ("optimizer", "options", "seed")}
        options = {name: own.options for name, own in self.runs.items()}
        device = device_named(self.common.device)
        self.folder.open({**shared, "trials": trials, "seeds": seeds, "optimizers": options}, about(device, command))

    def jobs(self, seed: int, measures: Sequence[Asked], **common: Any) -> list[Job]:
        """The runs of one seed, and what is measured of each; what else they share goes to `Job` as it is."""
        model = f"{self.common.model}, " if self.common.model else ""
        rate = "" if self.factor == 1 else f", {self.factor:g} times its learning rate"
        return [
            Job(
                f"{model}{recipe(name).label}{rate}, seed {seed}",
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
