"""The `adai` command. Bad input gives one line on standard error and exit status 2; an interruption gives 130."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from adai import __version__
from adai.errors import UserError
from adai.theory.symbols import SYMBOLS

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser that says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Print the message with the way to help, and exit with status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments, argparse.Namespace(arguments=arguments))
    try:
        status: int = options.run(options)
    except UserError as error:
        print(f"adai {options.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "adai").partition(".")[0]
        if package == "adai":
            raise
        message = f"cannot run without {package} installed; pip install 'adai[lab]'"
        print(f"adai {options.command}: {message}", file=sys.stderr)
        return 2
    return status


def _parser() -> Parser:
    parser = Parser(prog="adai", description="Adaptive Inertia: compare optimizers.")
    parser.add_argument("--version", action="version", version=f"adai {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="train several optimizers on the same task over several seeds",
        description="Train several optimizers on scikit-learn's handwritten digits over several seeds and say who won. "
        "Run it again to go on after an interruption.",
    )
    compare.add_argument("--optimizers", nargs="+", metavar="NAME", help="which ones (default: all that there are)")
    compare.add_argument("--seeds", type=_positive, default=3, metavar="N", help="how many seeds each (default: 3)")
    compare.add_argument("--epochs", type=_positive, default=30, metavar="N", help="how many epochs (default: 30)")
    compare.add_argument("--out", type=Path, default=Path("runs/digits"), metavar="FOLDER", help="default: runs/digits")
    compare.add_argument("--device", default="cpu", help="cpu, cuda, mps, … (default: cpu)")
    compare.set_defaults(run=_compare)
    _add_theory(commands)
    return parser


def _add_theory(commands: "argparse._SubParsersAction[Parser]") -> None:
    theory = commands.add_parser(
        "theory",
        help="the paper's results: printed, corrected and exact",
        description="Print the table of the paper's results, or one of them (KEY) for inputs of your own: printed, "
        "corrected and exact, with the ratio.",
    )
    theory.add_argument("key", nargs="?", metavar="KEY", help="a result, such as thm3.1 (default: the table of all)")
    theory.add_argument("--check", type=Path, metavar="FILE", help="evaluate a fixtures file; status 1 on any failure")
    theory.add_argument("--docs", type=Path, metavar="FOLDER", help="write theory.md and its figures")
    inputs = theory.add_argument_group("inputs of a result")
    for name, symbol in SYMBOLS.items():
        if symbol.flag:
            text = f"{symbol.meaning}; {symbol.bound}"
            inputs.add_argument(f"--{symbol.flag}", dest=name, nargs="+", type=float, metavar="X", help=text)
    theory.set_defaults(run=_theory)


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _theory(options: argparse.Namespace) -> int:
    from adai.commands.theory import run

    return run(options)


def _compare(options: argparse.Namespace) -> int:
    # Imported here, so that --help and a wrong option answer at once, also where the lab is not installed.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from adai.lab.compare import compare
    from adai.lab.optimizers import RECIPES
    from adai.lab.runs import RunFolder
    from adai.report.curves import draw_curves
    from adai.report.summary import as_table, rows, verdict, write_csv

    folder = RunFolder(options.out)
    names = [name for given in options.optimizers or RECIPES for name in given.split(",") if name]
    console = Console()
    status = 0
    columns = (TextColumn("{task.description:30}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("starting", total=len(set(names)) * options.seeds * options.epochs)
        try:
            compare(
                folder,
                optimizers=names,
                seeds=options.seeds,
                epochs=options.epochs,
                device=options.device,
                command=shlex.join(["adai", *options.arguments]),
                progress=lambda label, epochs: bars.update(bar, description=label, advance=epochs),
            )
        except KeyboardInterrupt:
            status = INTERRUPTED
    table = rows(folder)
    if table:
        write_csv(folder.path / "summary.csv", table)
        draw_curves(folder, folder.path / "curves.png")
        console.print(as_table(table))
        console.print(verdict(table), highlight=False)
        console.print(f"Figures and numbers: {folder.path}/curves.png, {folder.path}/summary.csv", highlight=False)
    if status == INTERRUPTED:
        print("Interrupted. Finished runs are kept; the same command goes on from there.", file=sys.stderr)
    return status
