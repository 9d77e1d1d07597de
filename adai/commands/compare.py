"""`adai compare`: several optimizers on the same task over several seeds."""

import argparse
import shlex
import sys
from pathlib import Path

from rich.console import Console

from adai.commands.progress import progress_bar
from adai.commands.report import show
from adai.lab.compare import compare
from adai.lab.optimizers import DEFAULT_OPTIMIZERS
from adai.lab.runs import RunFolder

INTERRUPTED = 130


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    folder = RunFolder(options.out or Path("runs") / Path(options.dataset).name)
    names = [name for given in options.optimizers or DEFAULT_OPTIMIZERS for name in given.split(",") if name]
    console = Console()
    status = 0
    with progress_bar(console) as bars:
        bar = bars.add_task("starting", total=len(set(names)) * options.seeds * options.epochs)
        try:
            compare(
                folder,
                optimizers=names,
                seeds=options.seeds,
                epochs=options.epochs,
                device=options.device,
                dataset=options.dataset,
                model=options.model,
                data_dir=options.data_dir,
                command=shlex.join(["adai", *options.arguments]),
                progress=lambda label, epochs: bars.update(bar, description=label, advance=epochs),
            )
        except KeyboardInterrupt:
            status = INTERRUPTED
    if (folder.path / "config.json").exists():  # else it was interrupted before anything began
        show(console, folder.path)
    if status == INTERRUPTED:
        print("Interrupted. Finished runs are kept; the same command goes on from there.", file=sys.stderr)
    return status
