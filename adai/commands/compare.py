"""`adai compare`: several optimizers on the same task over several seeds."""

import argparse
import logging
import shlex
import sys
from functools import partial

from adai.commands.options.training import checkpoints, listed, separated, settings, task
from adai.commands.pairs import overrides, ranges
from adai.commands.queue import GOES_ON, carry_out, executor
from adai.commands.report import show
from adai.commands.status import INTERRUPTED
from adai.errors import UserError
from adai.lab.host.boundary import traced
from adai.lab.host.terminal import terminal
from adai.lab.measure.table import MEASURES, asked
from adai.lab.optimizers.contenders import split
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, own_name
from adai.lab.queue.compare import compare
from adai.lab.results.folders import RunFolder, default_folder


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    name = task(options)
    folder = RunFolder(options.out or default_folder(name))
    names = separated(DEFAULT_OPTIMIZERS if options.optimizers is None else options.optimizers)
    if options.range and not options.tune:
        raise UserError("--range says what --tune searches; add --tune N, or leave --range out")
    if not names:
        raise UserError("--optimizers names none; give at least one, such as adai")
    labels = [label or own_name(spec) for label, spec in map(split, names)]
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
        overrides=overrides(labels, options.lr, options.weight_decay, options.option),
        ranges=ranges(labels, options.range),
        tune=options.tune,
        lr_grid=options.lr_grid,
        measures=[asked(n, every) for n in MEASURES if (every := getattr(options, n, None)) is not None],
        data_dir=options.data_dir,
        **checkpoints(options),
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
