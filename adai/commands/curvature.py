"""`adai curvature`: how flat the loss is around a net's parameters."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from adai.commands.subject import about, bars, objectives
from adai.errors import UserError
from adai.files import made
from adai.lab.curvature.eigenpairs import top_eigenpairs
from adai.lab.curvature.measure import Curvature, Effort, measure
from adai.lab.noise.covariance import Directions, eigenbasis, projected
from adai.lab.objective import Objective, Progress
from adai.report import curvature as report
from adai.report import eq5 as eq5_report

INTERRUPTED = 130
EXACT = 8192  # parameters up to which the whole Hessian is taken for eq. 5


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status. Files hold all that is done after each set of parameters."""
    console = Console()
    effort = Effort(top=options.top, rho=options.rho, surface_radius=options.radius, seed=options.seed)
    folder = made(options.out)
    found: dict[str, Curvature] = {}
    directions: dict[str, Directions] = {}
    status = 0
    with bars(console) as named:
        try:
            for name, objective in objectives(options):
                told = {**about(options, objective), **effort._asdict()}
                if options.top >= objective.size:
                    raise UserError(f"--top {options.top}: {name} has {objective.size} parameters; ask for fewer")
                if options.eq5:
                    directions[name] = _directions(objective, options, named(name))
                    eq5_rows = eq5_report.write(folder, directions, told)
                else:
                    found[name] = measure(objective, effort, named(name))
                    rows = report.write(folder, found, told)
        except KeyboardInterrupt:
            status = INTERRUPTED
    if found:
        console.print(report.as_table(rows))
    if directions:
        console.print(eq5_report.as_table(eq5_rows))
    if found or directions:
        console.print(f"Batch norm: {told['batch_norm']}; {told['samples']} samples.", highlight=False)
        _say_where(console, folder, "curvature" if found else "eq5")
    if status == INTERRUPTED:
        print("Interrupted. What was finished is written.", file=sys.stderr)
    return status


def _directions(objective: Objective, options: argparse.Namespace, progress: Progress) -> Directions:
    """Every eigenvector of a small net; of a large one those of the eigenvalues largest in size, and random ones."""
    if objective.size <= EXACT:
        return eigenbasis(objective, progress=progress)
    expected = 3 * max(2 * options.top + 1, 20)
    pairs = top_eigenpairs(
        objective,
        options.top,
        which="LM",
        seed=options.seed,
        progress=lambda n: progress("eigenvalues", n, expected),
    )
    return projected(objective, pairs.vectors, seed=options.seed, progress=progress)


def _say_where(console: Console, folder: Path, stem: str) -> None:
    console.print(f"Numbers and figures: {folder}/{stem}.csv, {stem}.json, …", highlight=False, soft_wrap=True)
