"""`adai compare`: several optimizers on the same task over several seeds."""

import argparse
import logging
import shlex
import sys
from pathlib import Path

from rich.console import Console

from adai.commands.progress import progress_bar
from adai.commands.training import settings, task
from adai.errors import UserError
from adai.lab.compare import compare
from adai.lab.optimizers import DEFAULT_OPTIMIZERS
from adai.lab.runs import RunFolder
from adai.lab.settings import Settings
from adai.report.curves import draw_curves
from adai.report.summary import as_table, rows, verdict, write_csv

INTERRUPTED = 130


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    name = task(options)
    folder = RunFolder(options.out or Path("runs") / Path(name.replace(":", "-")).name)
    names = list(dict.fromkeys(n for given in options.optimizers or DEFAULT_OPTIMIZERS for n in given.split(",") if n))
    overrides = _overrides(names, {"lr": options.lr, "weight_decay": options.weight_decay})
    epochs = Settings.of(name, **settings(options)).epochs
    console = Console()
    status = 0
    with progress_bar(console) as bars:
        bar = bars.add_task("starting", total=len(names) * options.seeds * epochs)
        try:
            compare(
                folder,
                task=name,
                optimizers=names,
                seeds=options.seeds,
                overrides=overrides,
                data_dir=options.data_dir,
                command=shlex.join(["adai", *options.arguments]),
                progress=lambda label, epochs: bars.update(bar, description=label, advance=epochs),
                **settings(options),
            )
        except KeyboardInterrupt:
            status = INTERRUPTED
    table = rows(folder)
    if table:
        write_csv(folder.path / "summary.csv", table)
        draw_curves(folder, folder.path / "curves.png")
        console.print(as_table(table))
        console.print(verdict(table), highlight=False)
        console.print(
            f"Figures and numbers: {folder.path}/curves.png, {folder.path}/summary.csv", highlight=False, soft_wrap=True
        )
    for optimizer in names:
        seeds = [str(seed) for seed in range(options.seeds) if folder.run(optimizer, seed).status == "diverged"]
        if seeds:
            console.print(f"Diverged, and not in the table: {optimizer}, seed {', '.join(seeds)}", highlight=False)
    if status == INTERRUPTED:
        print("Interrupted. Finished epochs are kept; the same command goes on from there.", file=sys.stderr)
    return status


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
            if name not in names or not 0 <= value < float("inf"):
                flag = option.replace("_", "-")
                raise UserError(f"--{flag} {text}: give an optimizer that runs and a number, such as adam=3e-4")
            overrides.setdefault(name, {})[option] = value
    return overrides
