"""`adai curvature`: how flat the loss is around a net's parameters."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from adai.commands.report import say_flatness
from adai.commands.subject import about, bars, objectives, settle
from adai.errors import UserError
from adai.files import made
from adai.lab.curvature.eigenpairs import expected_products, top_eigenpairs
from adai.lab.curvature.kept import FlatnessSettings, measure_run
from adai.lab.curvature.measure import Curvature, Effort, measure
from adai.lab.machine import device_named
from adai.lab.noise.covariance import Directions, eigenbasis, projected
from adai.lab.objective import Objective, Progress
from adai.lab.run import writing_to
from adai.lab.stored import finished_runs, is_comparison
from adai.report import curvature as report
from adai.report import eq5 as eq5_report
from adai.report import flatness as flatness_report
from adai.report.comparison import read
from adai.report.summary import reference_of

INTERRUPTED = 130
EXACT = 8192  # parameters up to which the whole Hessian is taken for eq. 5


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status. Files hold all that is done after each set of parameters."""
    settle(options)
    console = Console()
    comparisons = [path for path in options.states if is_comparison(path)]
    try:
        if options.eq5:
            _eq5(options, console)
            return 0
        for path in comparisons:
            _comparison(path, options, console)
        if len(comparisons) < len(options.states) or not options.states:
            options.states = [path for path in options.states if path not in comparisons]
            _curvature(options, console)
    except KeyboardInterrupt:
        print("Interrupted. What was finished is written, and a comparison goes on from there.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _effort(options: argparse.Namespace) -> Effort:
    return Effort(top=options.top, rho=options.rho, surface_radius=options.radius, seed=options.seed)


def _curvature(options: argparse.Namespace, console: Console) -> None:
    """Sets of parameters side by side, with all that there is, into the folder ``--out``."""
    effort, folder = _effort(options), made(options.out)
    found: dict[str, Curvature] = {}
    told: dict[str, Any] = {}
    try:
        with bars(console) as named:
            for name, objective in objectives(options):
                _check_top(options, name, objective)
                told = {**about(options, objective), **effort._asdict()}
                found[name] = measure(objective, effort, named(name))
                rows = report.write(folder, found, told)
    finally:
        if found:
            console.print(report.as_table(rows))
            _say(console, told, f"Numbers and figures: {folder}/curvature.csv, curvature.json, …")


def _comparison(path: Path, options: argparse.Namespace, console: Console) -> None:
    """Every finished run of a comparison, kept in its folder, and a table by optimizer in the comparison's."""
    settings = FlatnessSettings(
        options.samples, options.batch, options.batch_norm, options.dtype, _effort(options)._replace(top=1)
    )
    device, runs = device_named(options.device), finished_runs(path)
    logging.basicConfig(format="%(message)s")  # warnings, such as a damaged checkpoint, are one line
    with bars(console) as named:
        overall = named(path.name)
        overall("runs", 0, len(runs))
        for run in runs:
            progress = named(f"{run.parent.name} {run.name}")
            measure_run(run, settings, device=device, data_dir=options.data_dir, progress=progress)
            overall("runs", 1, len(runs))
    comparison = read(path)
    measured = comparison.flatness
    with writing_to(path, "make it writable"):
        flatness_report.write(path, measured)
    console.print(flatness_report.as_table(measured))
    say_flatness(console, comparison, reference_of(comparison))
    console.print(
        f"The table: {path}/flatness.csv, .md, .json; adai report {path} puts it into the page.",
        highlight=False,
        soft_wrap=True,
    )


def _check_top(options: argparse.Namespace, name: str, objective: Objective) -> None:
    if options.top >= objective.size:
        raise UserError(f"--top {options.top}: {name} has {objective.size} parameters; ask for fewer")


def _eq5(options: argparse.Namespace, console: Console) -> None:
    """Gradient noise covariance against the Hessian."""
    folder = made(options.out)
    found: dict[str, Directions] = {}
    told: dict[str, Any] = {}
    try:
        with bars(console) as named:
            for name, objective in objectives(options):
                _check_top(options, name, objective)
                told = {**about(options, objective), **_effort(options)._asdict()}
                found[name] = _directions(objective, options, named(name))
                rows = eq5_report.write(folder, found, told)
    finally:
        if found:
            console.print(eq5_report.as_table(rows))
            _say(console, told, f"Numbers and figures: {folder}/eq5.csv, eq5.json, …")


def _directions(objective: Objective, options: argparse.Namespace, progress: Progress) -> Directions:
    """Every eigenvector of a small net; of a large one those of the eigenvalues largest in size, and random ones."""
    if objective.size <= EXACT:
        return eigenbasis(objective, progress=progress)
    expected = expected_products(options.top)
    pairs = top_eigenpairs(
        objective,
        options.top,
        which="LM",
        seed=options.seed,
        progress=lambda n: progress("eigenvalues", n, expected),
    )
    return projected(objective, pairs.vectors, seed=options.seed, progress=progress)


def _say(console: Console, told: dict[str, Any], where: str) -> None:
    console.print(f"Batch norm: {told['batch_norm']}; {told['samples']} samples.", highlight=False)
    console.print(where, highlight=False, soft_wrap=True)
