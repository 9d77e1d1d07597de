"""`adai saddle`: mean squared displacement from a strict saddle, per eigenvalue."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from adai.commands.kept import GOES_ON, kept_rows, refuse_others
from adai.commands.status import INTERRUPTED
from adai.errors import UserError
from adai.files import made
from adai.lab.host.progress import progress_bar
from adai.lab.host.terminal import terminal
from adai.lab.results.run import read_json
from adai.report import saddle as report
from adai.report.escape import LABELS
from adai.report.rows import write_csv, write_json
from adai.simulate import rules
from adai.simulate.escape import replica_seeds
from adai.simulate.rules import ADAI, SGD, Rule
from adai.simulate.saddle import Squares, displacements
from adai.theory.bounds import Array

CHUNKS = 20


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    folder: Path = made(options.out)
    magnitudes = np.array(options.H)
    H = np.concatenate([-magnitudes[::-1], magnitudes])
    every = _rules(options.lr)
    unknown = [name for name in options.optimizers or every if name not in every]
    if unknown:
        raise UserError(f"unknown optimizer {unknown[0]!r}; choose from {', '.join(every)}")
    chosen = {name: every[name] for name in options.optimizers or every}
    settings: dict[str, object] = {
        "T": options.T, "B": options.B, "replicas": options.replicas, "seed": options.seed, "H": H.tolist(),
        "optimizers": {name: rule._asdict() for name, rule in chosen.items()},
    }  # fmt: skip
    file = folder / "saddle.json"
    refuse_others(file, settings, "displacements")
    console = terminal()
    try:
        table = _simulated(file, chosen, H, settings, options, console)
    except KeyboardInterrupt:
        if not file.exists():
            raise
        print(GOES_ON, file=sys.stderr)
        return INTERRUPTED
    write_csv(folder / "saddle.csv", table)
    report.draw(folder / "saddle.png", table, options.T)
    for view in report.as_tables(table, options.T):
        console.print(view)
    console.print(f"Figure and numbers: {folder}/saddle.png, saddle.csv, saddle.json", soft_wrap=True)
    return 0


def _simulated(
    file: Path,
    chosen: Mapping[str, Rule],
    H: Array,
    settings: Mapping[str, object],
    options: argparse.Namespace,
    console: Console,
) -> list[report.Row]:
    """The rows of all optimizers. The file has them after each optimizer, so an interruption loses one at most."""
    table: list[report.Row] = kept_rows(read_json(file), report.Row, file) if file.exists() else []
    with progress_bar(console) as bars, _threads(options.threads or os.cpu_count()) as pool:
        bar = bars.add_task("starting", total=len(chosen) * CHUNKS)
        for name, rule in chosen.items():
            bars.update(bar, description=LABELS[name])
            if any(row.optimizer == name for row in table):
                bars.update(bar, advance=CHUNKS)
                continue
            seeds = np.array_split(replica_seeds(options.seed, f"saddle {name}", 0, options.replicas), CHUNKS)
            wait = _settling(rule)
            parts = []
            for part in pool.map(
                lambda some, rule=rule, wait=wait: displacements(
                    rule, H, some, B=options.B, T=options.T, settle=wait, coast=wait
                ),
                seeds,
            ):
                parts.append(part)
                bars.update(bar, advance=1)
            squares = Squares(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
            table += report.rows(name, rule, H, squares, B=options.B, T=options.T)
            write_json(file, table, settings)
    return table


@contextmanager
def _threads(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops work that has not started when the block ends early."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _rules(lr: float) -> dict[str, Rule]:
    """Every optimizer at learning rate ``lr``, but SGD-style momentum and Adam at a tenth of it."""
    return {
        "sgd": rules.sgd(lr),
        "momentum": rules.momentum(lr / 10),
        "ema": rules.ema(lr),
        "adam": rules.adam(lr / 10),
        "adai": rules.adai(lr),
    }


def _settling(rule: Rule) -> int:
    """Iterations after which the initial value of a rule's slowest average has decayed to e^-8."""
    if rule.kind == SGD:
        return 1
    slowest = rule.eps if rule.kind == ADAI else min(1 - rule.beta1, 1 - rule.beta2)
    return int(np.ceil(8 / slowest))
