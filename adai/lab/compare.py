"""Several optimizers on the same task over several seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from adai.errors import UserError
from adai.lab.distributed import world_size
from adai.lab.machine import about, device_named
from adai.lab.optimizers import DEFAULT_OPTIMIZERS, recipe
from adai.lab.run import Row
from adai.lab.runs import RunFolder
from adai.lab.settings import Settings
from adai.lab.train import named_task, train

# Called with the label of the run at hand and how many epochs have just been done, or were there already.
Progress = Callable[[str, int], None]


def compare(
    folder: RunFolder,
    *,
    task: str = "digits",
    optimizers: Sequence[str] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    data_dir: Path | None = None,
    command: str = "",
    progress: Progress = lambda label, epochs: None,
    **settings: Any,
) -> None:
    """Train every optimizer with every seed, each in a folder of its own, as `adai.lab.train.train` does.

    What the folder holds is not done again, so the same call goes on after an interruption, in the middle of a run too.
    A run that diverges is over; the others go on.

    Args:
        folder: where the results go.
        task: a data set, or ``package.module:factory``.
        optimizers: names from `adai.lab.optimizers.RECIPES`.
        seeds: how many; seed i is the same initial weights and data order for every optimizer.
        overrides: ``lr`` and ``weight_decay`` other than the recipe's, by optimizer.
        data_dir: where data sets lie by name.
        command: the command line, kept beside the results.
        progress: called with the label of the run at hand and how many epochs have just been done.
        settings: the other settings of every run, as `Settings.of` takes them.

    Raises:
        UserError: an optimizer, a model, a data set or a device is not there, or the folder is of no use.
        ModuleNotFoundError: an optimizer comes from a package that is not installed.
    """
    if world_size() > 1:
        raise UserError("a comparison runs in one process; start adai train under torchrun instead")
    runs = {
        name: Settings.of(task, optimizer=name, **settings, **(overrides or {}).get(name, {})) for name in optimizers
    }
    for name, own in runs.items():
        # A package that is missing shows now, not after hours of training.
        recipe(name)._replace(options=own.options).build([Parameter(torch.zeros(1))])
    common = next(iter(runs.values()))
    device = device_named(common.device)
    factory = named_task(common, device, data_dir)
    folder.open(_config(common, seeds, {name: own.options for name, own in runs.items()}), about(device, command))
    for seed in range(seeds):
        for name, own in runs.items():
            report = _Report(f"{recipe(name).label}, seed {seed}", common.epochs, progress)
            train(
                replace(own, seed=seed),
                folder.run(name, seed).path,
                factory=factory,
                command=command,
                progress=report.rows,
            )
            report.over()


def _config(common: Settings, seeds: int, optimizers: dict[str, Any]) -> dict[str, Any]:
    """The settings of the whole: what all runs share, and the two things in which they differ."""
    shared = {k: v for k, v in common.as_dict().items() if k not in ("optimizer", "options", "seed")}
    return {**shared, "seeds": seeds, "optimizers": optimizers}


class _Report:
    """Tells how many epochs have been done since it last told."""

    def __init__(self, label: str, epochs: int, progress: Progress) -> None:
        self.label = label
        self.epochs = epochs
        self.progress = progress
        self.told = 0

    def rows(self, rows: list[Row]) -> None:
        """Take in the rows that there are now."""
        self._tell(len(rows))

    def over(self) -> None:
        """A run that diverged leaves the rest undone."""
        if self.told < self.epochs:
            self._tell(self.epochs)

    def _tell(self, done: int) -> None:
        self.progress(self.label, done - self.told)
        self.told = done
