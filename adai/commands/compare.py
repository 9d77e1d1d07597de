"""`adai compare`: several optimizers on the same task over several seeds."""

import argparse
import logging
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adai.commands.options.training import listed, settings, task
from adai.commands.queue import GOES_ON, carry_out, executor
from adai.commands.report import show
from adai.commands.status import INTERRUPTED
from adai.errors import UserError
from adai.lab.host.boundary import traced
from adai.lab.host.terminal import terminal
from adai.lab.measure.table import MEASURES, asked
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS
from adai.lab.queue.compare import compare
from adai.lab.results.folders import RunFolder

if TYPE_CHECKING:  # it needs Optuna
    from adai.lab.queue.tuning import Tuning


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    name = task(options)
    folder = RunFolder(options.out or Path("runs") / Path(name.replace(":", "-")).name)
    names = listed(DEFAULT_OPTIMIZERS if options.optimizers is None else options.optimizers)
    if not names:
        raise UserError("--optimizers names none; give at least one, such as adai")
    overrides = _overrides(names, {"lr": options.lr, "weight_decay": options.weight_decay})
    given = settings(options)
    models = listed([given.pop("model") or ""])
    console = terminal()
    comparison = partial(
        compare,
        folder,
        task=name,
        models=models,
        optimizers=names,
        seeds=options.seeds,
        overrides=overrides,
        tune=_tuning(options),
        lr_grid=options.lr_grid,
        measures=[asked(n, every) for n in MEASURES if (every := getattr(options, n, None)) is not None],
        data_dir=options.data_dir,
        command=shlex.join(["adai", *options.arguments]),
        **given,
    )
    with traced(folder.path):
        status = carry_out(console, [comparison], executor(options))
    for part in [folder.path / model for model in models] if len(models) > 1 else [folder.path]:
        if (part / "config.json").exists():  # else it was interrupted before anything began
            if len(models) > 1:
                console.print(f"{part.name}:", style="bold")
            show(console, part)
    if status == INTERRUPTED:
        print(GOES_ON, file=sys.stderr)
    return status


def _tuning(options: argparse.Namespace) -> "Tuning | None":
    if not options.tune:
        return None
    from adai.lab.queue.tuning import Tuning

    return Tuning(options.tune)


def _overrides(names: list[str], given: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    """What ``adam=3e-4`` says, by optimizer and option."""
    overrides: dict[str, dict[str, float]] = {}
    for option, texts in given.items():
        for text in texts:
            name, _, number = text.partition("=")
            try:
                value = float(number)
            except ValueError:
                value = -1.0
            known = 0 < value < float("inf") or (option == "weight_decay" and value == 0)
            if name not in names or not known:
                flag = option.replace("_", "-")
                number = "a number above 0" if option == "lr" else "a number, 0 or more"
                raise UserError(
                    f"--{flag} {text}: give one of the optimizers that run ({', '.join(names)}) and {number}, such as "
                    f"{names[0]}=3e-4"
                )
            overrides.setdefault(name, {})[option] = value
    return overrides
