"""`adai curvature`: how flat the loss is around a net's parameters."""

import argparse
import logging
import sys
from pathlib import Path

from rich.console import Console

from adai.commands.kept import refuse_others
from adai.commands.status import FAILED, INTERRUPTED
from adai.commands.subject import ELSEWHERE, Told, about, bars, given, objectives, say_about, settle
from adai.errors import UserError
from adai.files import made
from adai.lab.host.boundary import explain, theirs, traced
from adai.lab.host.machine import device_named
from adai.lab.host.terminal import terminal
from adai.lab.measure.curvature.eigenpairs import expected_products, top_eigenpairs
from adai.lab.measure.curvature.kept import Flatness, FlatnessSettings
from adai.lab.measure.curvature.measure import Curvature, Effort, Row, measure
from adai.lab.measure.noise.covariance import Directions, eigenbasis, projected
from adai.lab.measure.objective import Objective, Progress
from adai.lab.measure.stored import finished_runs, is_comparison
from adai.lab.results.comparison import read
from adai.lab.results.flatness import after_last
from adai.lab.results.run import writing_to
from adai.lab.results.summary import reference_of
from adai.report import curvature as report
from adai.report import eq5 as eq5_report
from adai.report import flatness as flatness_report

SURFACE = 21  # points along each side
EXACT = 8192  # the largest number of parameters for which eq. 5 uses the whole Hessian


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status. The files are updated after each set of parameters."""
    comparisons = [] if options.eq5 else [path for path in options.states if is_comparison(path)]
    if comparisons and len(comparisons) == len(options.states) and options.out:
        raise UserError("the table of a comparison goes into its own folder; leave --out out")
    settle(options)
    console = terminal()
    try:
        if options.eq5:
            with traced(options.out):
                _eq5(options, console)
            return 0
        status = max([_comparison(path, options, console) for path in comparisons], default=0)
        if len(comparisons) < len(options.states) or not options.states:
            options.states = [path for path in options.states if path not in comparisons]
            with traced(options.out):
                _curvature(options, console)
    except KeyboardInterrupt:
        print("Interrupted. What was finished is written, and a comparison goes on from there.", file=sys.stderr)
        return INTERRUPTED
    return status


def _effort(options: argparse.Namespace) -> Effort:
    return Effort(top=options.top, rho=options.rho, surface_radius=options.radius, seed=options.seed)


def _curvature(options: argparse.Namespace, console: Console) -> None:
    """Measure everything for several sets of parameters, and write it to the folder ``--out``."""
    effort, folder = _effort(options)._replace(points=SURFACE), made(options.out)
    refuse_others(folder / "curvature.json", {**given(options), **effort._asdict()}, "the curvature")
    found: dict[str, Curvature] = {}
    told: Told = {}
    rows: list[Row] = []
    try:
        with bars(console) as named:
            for name, objective in objectives(options):
                _check_top(options, name, objective)
                with theirs(f"measuring {name}"):
                    found[name], told[name] = measure(objective, effort, named(name)), objective.about()
                with writing_to(folder, ELSEWHERE):
                    rows = report.write(folder, found, {**about(options, told), **effort._asdict()})
    finally:
        if rows:
            console.print(report.as_table(rows))
            say_about(console, told)
            _say_where(console, f"{folder}/curvature.csv, curvature.json, …")


def _comparison(path: Path, options: argparse.Namespace, console: Console) -> int:
    """Measure every finished run of a comparison, and write a table by optimizer into the comparison's folder.

    Returns:
        The exit status: 0, or `FAILED` if a run could not be measured.
    """
    flatness = Flatness(
        FlatnessSettings(
            options.samples, options.batch, options.batch_norm, options.dtype, _effort(options)._replace(top=1)
        )
    )
    device, runs = device_named(options.device), finished_runs(path)
    logging.basicConfig(format="%(message)s")  # warnings, such as a damaged checkpoint, are one line
    failures: list[str] = []
    with bars(console) as named:
        overall = named(path.name)
        overall("runs", 0, len(runs))
        for run in runs:
            name = f"{run.parent.name} {run.name}"
            try:
                flatness.keep(run, device=device, data_dir=options.data_dir, progress=named(name))
            except UserError as error:  # what is wrong with one run need not be with the next
                failures.append(f"{name}: {explain(run, error)}")
            overall("runs", 1, len(runs))
    if len(failures) == len(runs):
        raise UserError(failures[0])
    for failure in failures:
        console.print(failure, soft_wrap=True)
    comparison = read(path)
    measured = after_last(comparison)
    with writing_to(path, "make it writable"):
        flatness_report.write(path, measured)
    for said in flatness_report.said(comparison, reference_of(comparison)):
        console.print(said)
    console.print(
        f"The table: {path}/flatness.csv, .md, .json; adai report {path} puts it into the page.",
        soft_wrap=True,
    )
    return FAILED if failures else 0


def _check_top(options: argparse.Namespace, name: str, objective: Objective) -> None:
    if options.top >= objective.size:
        raise UserError(f"--top {options.top}: {name} has {objective.size} parameters; ask for fewer")


def _eq5(options: argparse.Namespace, console: Console) -> None:
    """Compare the gradient noise covariance with the Hessian."""
    folder = made(options.out)
    refuse_others(folder / "eq5.json", {**given(options), **_effort(options)._asdict()}, "eq. 5")
    found: dict[str, Directions] = {}
    told: Told = {}
    rows: list[eq5_report.Row] = []
    try:
        with bars(console) as named:
            for name, objective in objectives(options):
                _check_top(options, name, objective)
                if objective.samples <= min(eq5_report.BATCHES):
                    raise UserError(f"{name}: a minibatch of all {objective.samples} samples has no noise; take more")
                with theirs(f"measuring {name}"):
                    found[name], told[name] = _directions(objective, options, named(name)), objective.about()
                with writing_to(folder, ELSEWHERE):
                    rows = eq5_report.write(folder, found, {**about(options, told), **_effort(options)._asdict()})
    finally:
        if rows:
            console.print(eq5_report.as_table(rows))
            say_about(console, told)
            _say_where(console, f"{folder}/eq5.csv, eq5.json, …")


def _directions(objective: Objective, options: argparse.Namespace, progress: Progress) -> Directions:
    """All eigenvectors of a small net; for a large one those with the largest eigenvalues, and random directions."""
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


def _say_where(console: Console, files: str) -> None:
    console.print(f"Numbers and figures: {files}", soft_wrap=True)
