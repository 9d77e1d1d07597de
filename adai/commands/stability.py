"""`adai stability`: how close runs are to the largest stable learning rate."""

import argparse
import logging
import sys
from pathlib import Path

from rich.console import Console

from adai.commands.status import FAILED, INTERRUPTED
from adai.commands.subject import ELSEWHERE, bars, names_of
from adai.errors import UserError
from adai.files import made
from adai.lab.host.machine import device_named
from adai.lab.measure.stability.kept import Stability, StabilitySettings
from adai.lab.measure.stored import is_comparison, trained_runs
from adai.lab.results.measured import Measured
from adai.lab.results.run import writing_to
from adai.report import margins as report


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status. The files are updated after each run."""
    logging.basicConfig(format="%(message)s")  # warnings, such as a damaged checkpoint, are one line
    stability = Stability(
        StabilitySettings(
            samples=options.samples,
            batch=options.batch,
            batch_norm=options.batch_norm,
            dtype=options.dtype,
            seed=options.seed,
        )
    )
    places = _places(options.runs)
    device, folder, console = device_named(options.device), made(options.out), Console()
    found: dict[str, Measured] = {}
    failures: list[str] = []
    status = 0
    try:
        with bars(console) as named:
            for name, place in zip(names_of(places), places, strict=True):
                try:
                    found[name] = stability.at(place, device=device, data_dir=options.data_dir, progress=named(name))
                except UserError as error:  # the other runs may be fine
                    failures.append(f"{name}: {error}")
                    continue
                with writing_to(folder, ELSEWHERE):
                    report.write(folder, found)
    except KeyboardInterrupt:
        print("Interrupted. What was finished is written.", file=sys.stderr)
        status = INTERRUPTED
    if not found and failures:
        raise UserError(failures[0])
    if found:
        console.print(report.as_table(found))
        console.print(report.about(found), highlight=False, soft_wrap=True)
        console.print(f"Numbers: {folder}/stability.csv, stability.json", highlight=False, soft_wrap=True)
    for failure in failures:
        console.print(failure, highlight=False, soft_wrap=True)
    return status or (FAILED if failures else 0)


def _places(runs: list[Path]) -> list[Path]:
    """The runs to measure: of a comparison all that have a checkpoint, including those that blew up."""
    places = [run for given in runs for run in (trained_runs(given) if is_comparison(given) else [given])]
    return list(dict.fromkeys(places))
