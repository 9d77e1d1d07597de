"""`adai paper`: the paper's tables and figures, run and drawn."""

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console, Group, RenderableType

from adai.commands import escape
from adai.commands.options.training import checkpoints, listed, machine
from adai.commands.queue import GOES_ON, carry_out, executor
from adai.commands.status import INTERRUPTED
from adai.commands.subject import bars
from adai.errors import UserError
from adai.files import made
from adai.lab.host.machine import device_named
from adai.lab.host.terminal import terminal
from adai.lab.measure.base import Asked
from adai.lab.measure.curvature.kept import Flatness
from adai.lab.queue.compare import compare
from adai.lab.results.folders import RunFolder
from adai.lab.results.run import writing_to
from adai.paper import figure5, figure6, figure7, results
from adai.paper.claims import page as claims
from adai.paper.data import check
from adai.paper.experiments import SCALES, Experiment, Scale, remarked
from adai.paper.items import ITEMS, Item
from adai.report import eq5, noise

R = TypeVar("R", eq5.Row, noise.Row)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    console = terminal()
    if options.item == "results":
        console.print(f"Written: {results.write(options.folder)}", soft_wrap=True)
        return 0
    if options.item == "claims":
        console.print(f"Written: {claims.write(options.folder, options.out)}", soft_wrap=True)
        return 0
    scale = SCALES[options.scale]
    folder: Path = options.out or Path("runs") / (f"paper-{scale.name}" if scale.note else "paper")
    if options.item == "figure5":
        there = folder / f"escape-{figure5.SETTING}"
        return escape.carry_out(figure5.study(scale), there, threads=options.threads, remark=scale.note)
    if options.item in ITEMS:
        return _training(options, console, ITEMS[options.item], scale, folder)
    try:
        _measured(options, console, scale, folder / options.item)
    except KeyboardInterrupt:
        print(GOES_ON, file=sys.stderr)
        return INTERRUPTED
    return 0


def _training(options: argparse.Namespace, console: Console, item: Item, scale: Scale, folder: Path) -> int:
    """Train the missing runs, unless ``--draw-only`` is given, and draw."""
    status = 0
    if not options.draw_only:
        chosen = _chosen(item.at(scale), listed(options.only), listed(options.optimizers))
        check(chosen, scale, options.data_dir)
        given = {name: value for name, value in machine(options).items() if value is not None}
        comparisons = [
            partial(
                compare,
                RunFolder(folder / experiment.name),
                task=experiment.dataset,
                models=[experiment.model],
                optimizers=experiment.recipes(),
                seeds=options.seeds or scale.seeds,
                overrides=experiment.overrides,
                measures=[Asked(Flatness(), experiment.flatness_every, experiment.flatness_of)]
                if experiment.flatness_of
                else [],
                data_dir=options.data_dir,
                command=shlex.join(["adai", *options.arguments]),
                **{**experiment.given(scale), **given, **checkpoints(options)},
            )
            for experiment in chosen
        ]
        status = carry_out(console, comparisons, executor(options))
    with writing_to(made(folder), "give another folder with --out"):
        drawn = item.draw(folder, scale)
    if drawn.table:
        console.print(drawn.table)
    files = ", ".join(map(str, drawn.files))
    console.print(f"{remarked('Drawn', scale.note)}: {files}", soft_wrap=True)
    if status == INTERRUPTED:
        print(GOES_ON, file=sys.stderr)
    return status


def _chosen(experiments: Sequence[Experiment], models: list[str], optimizers: list[str]) -> list[Experiment]:
    """The experiments on these networks with these optimizers; without names on all networks, with all optimizers.

    Raises:
        UserError: a network or optimizer does not take part in the experiments.
    """
    for what, named, known in (
        ("network", models, [e.model for e in experiments]),
        ("optimizer", optimizers, [name for e in experiments for name in e.optimizers]),
    ):
        for name in named:
            if name not in known:
                raise UserError(f"{what} {name!r} takes no part; choose from {', '.join(dict.fromkeys(known))}")
    narrowed = [
        e._replace(optimizers=tuple(n for n in e.optimizers if not optimizers or n in optimizers))
        for e in experiments
        if not models or e.model in models
    ]
    return [e for e in narrowed if e.optimizers]


def _measured(options: argparse.Namespace, console: Console, scale: Scale, folder: Path) -> None:
    """Measure the nets of Figure 6 or 7, and draw."""
    view: RenderableType
    with bars(console) as named:
        given = {"data_dir": options.data_dir, "progress": named(options.item), "remark": scale.note}
        if options.item == "figure6":
            device = str(device_named(options.device))
            settings = figure6.settings_at(scale)._replace(device=device)
            rows = _plain(figure6.figure6(folder, settings, **given), scale)
            view = Group(noise.as_table(rows), *map(noise.sentence, rows))
        else:
            view = eq5.as_table(_plain(figure7.figure7(folder, figure7.settings_at(scale), **given), scale))
    console.print(view)
    console.print(f"{remarked('Drawn', scale.note)}: {folder}", soft_wrap=True)


def _plain(rows: list[R], scale: Scale) -> list[R]:
    """The rows without the remark in their names, because a terminal is too narrow; the last line shows it."""
    return [row._replace(parameters=row.parameters.removesuffix(remarked("", scale.note))) for row in rows]
