"""`adai curvature`: how flat the loss is around a net's parameters."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from rich.console import Console

from adai.commands.kept import refuse_others
from adai.commands.status import FAILED, INTERRUPTED
from adai.commands.subject import ELSEWHERE, Told, about, bars, given, measured, say_about, say_failed, settle
from adai.errors import UserError
from adai.files import made
from adai.lab.host.boundary import explain, traced
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
    parts: dict[Path, Callable[[], int]] = {path: partial(_comparison, path, options, console) for path in comparisons}
    if len(comparisons) < len(options.states) or not options.states:
        options.states = [path for path in options.states if path not in comparisons]
        parts[options.out] = partial(_eq5 if options.eq5 else _curvature, options, console)
    try:
        return _each(parts, console)
    except KeyboardInterrupt:
        print("Interrupted. What was finished is written, and a comparison goes on from there.", file=sys.stderr)
        return INTERRUPTED


def _each(parts: Mapping[Path, Callable[[], int]], console: Console) -> int:
    """Carry out the parts, by the folders of their results; what is wrong with one need not be with the next.

    Returns:
        The highest exit status, at least `FAILED` if one could not be carried out.
    """
    if len(parts) == 1:
        return next(iter(parts.values()))()
    status = 0
    for folder, part in parts.items():
        try:
            status = max(status, part())
        except UserError as error:
            console.print(f"{folder}: {error}", soft_wrap=True, highlight=False)
            status = max(status, FAILED)
    return status


def _effort(options: argparse.Namespace) -> Effort:
    return Effort(top=options.top, rho=options.rho, surface_radius=options.radius, seed=options.seed)


def _curvature(options: argparse.Namespace, console: Console) -> int:
    """Measure everything for several sets of parameters, and write it to the folder ``--out``.

    Returns:
        The exit status: 0, or `FAILED` if some could not be measured.
    """
    effort, folder = _effort(options)._replace(points=SURFACE), made(options.out)
    refuse_others(folder / "curvature.json", {**given(options), **effort._asdict()}, "the curvature")
    found: dict[str, Curvature] = {}
    told: Told = {}
    failed: dict[str, UserError] = {}
    rows: list[Row] = []
    try:
        with traced(folder), bars(console) as named:

            def at(name: str, objective: Objective) -> Curvature:
                _check_top(options, objective)
                return measure(objective, effort, named(name))

            for name, curvature, said in measured(options, at, failed):
                found[name], told[name] = curvature, said
                with writing_to(folder, ELSEWHERE):
                    rows = report.write(folder, found, {**about(options, told), **effort._asdict()})
    finally:
        if rows:
            console.print(report.as_table(rows))
            say_about(console, told)
            _say_where(console, f"{folder}/curvature.csv, curvature.json, …")
            say_failed(console, folder, failed)
    return FAILED if failed else 0


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
    with writing_to(path, "make it writable"):
        flatness_report.write(path, after_last(comparison))
    for said in flatness_report.said(comparison, reference_of(comparison)):
        console.print(said)
    console.print(
        f"The table: {path}/flatness.csv, .md, .json; adai report {path} puts it into the page.",
        soft_wrap=True,
    )
    return FAILED if failures else 0


def _check_top(options: argparse.Namespace, objective: Objective) -> None:
    if options.top >= objective.size:
        raise UserError(f"--top {options.top}: there are {objective.size} parameters; ask for fewer")


def _eq5(options: argparse.Namespace, console: Console) -> int:
    """Compare the gradient noise covariance with the Hessian; returns the exit status as `_curvature`."""
    folder = made(options.out)
    refuse_others(folder / "eq5.json", {**given(options), **_effort(options)._asdict()}, "eq. 5")
    found: dict[str, Directions] = {}
    told: Told = {}
    failed: dict[str, UserError] = {}
    rows: list[eq5_report.Row] = []
    try:
        with traced(folder), bars(console) as named:

            def at(name: str, objective: Objective) -> Directions:
                _check_top(options, objective)
                if objective.samples <= min(eq5_report.BATCHES):
                    raise UserError(f"a minibatch of all {objective.samples} samples has no noise; take more")
                return _directions(objective, options, named(name))

            for name, directions, said in measured(options, at, failed):
                found[name], told[name] = directions, said
                with writing_to(folder, ELSEWHERE):
                    rows = eq5_report.write(folder, found, {**about(options, told), **_effort(options)._asdict()})
    finally:
        if rows:
            console.print(eq5_report.as_table(rows))
            say_about(console, told)
            _say_where(console, f"{folder}/eq5.csv, eq5.json, …")
            say_failed(console, folder, failed)
    return FAILED if failed else 0


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
