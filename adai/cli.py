"""The `adai` command. Bad input gives one line on standard error and exit status 2; an interruption gives 130."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from adai import __version__
from adai.commands.numbers import above_0, above_1, not_negative, positive, whole
from adai.commands.training import add_training_options
from adai.errors import UserError
from adai.theory.symbols import SYMBOLS

_OTHERS = "adaiw sgd adam adamw amsgrad adabound padam yogi radam sgd-plain rmsprop"


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
    _add_train(commands)
    _add_compare(commands)
    _add_report(commands)
    _add_theory(commands)
    _add_escape(commands)
    _add_saddle(commands)
    return parser


def _add_train(commands: "argparse._SubParsersAction[Parser]") -> None:
    train = commands.add_parser(
        "train",
        help="one training run",
        description="Train a model with one optimizer. Run it again to go on after an interruption, at the epoch that "
        "was not finished.",
    )
    train.add_argument("--optimizer", default="adai", metavar="NAME", help=f"default: adai; there are also {_OTHERS}")
    train.add_argument("--lr", type=above_0, metavar="X", help="default: the paper's for this optimizer on CIFAR")
    train.add_argument("--weight-decay", type=not_negative, metavar="X", help="default: likewise")
    train.add_argument("--seed", type=whole, default=0, metavar="N", help="default: 0")
    add_training_options(train)
    train.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: runs/<dataset>-<model>-<optimizer>-seed<seed>"
    )
    train.add_argument("--tensorboard", action="store_true", help="write <out>/tensorboard too")
    train.set_defaults(run=_train)


def _add_compare(commands: "argparse._SubParsersAction[Parser]") -> None:
    compare = commands.add_parser(
        "compare",
        help="train several optimizers on the same task over several seeds",
        description="Train several optimizers on the same images over several seeds and say who won. "
        "Run it again to go on after an interruption.",
    )
    compare.add_argument(
        "--optimizers",
        nargs="+",
        metavar="NAME",
        help="default: adai adaiw sgd adam adamw; there are also amsgrad adabound padam yogi radam sgd-plain rmsprop",
    )
    compare.add_argument("--lr", nargs="+", default=[], metavar="NAME=X", help="other learning rates: adam=3e-4")
    compare.add_argument("--weight-decay", nargs="+", default=[], metavar="NAME=X", help="likewise: adam=0")
    compare.add_argument("--seeds", type=positive, default=3, metavar="N", help="how many seeds each (default: 3)")
    compare.add_argument(
        "--tune",
        type=whole,
        default=0,
        metavar="N",
        help="choose lr and weight decay by N trials for each optimizer, on held-out training images (default: 0)",
    )
    _add_executors(compare)
    add_training_options(compare)
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/<dataset>")
    compare.set_defaults(run=_compare)


def _add_executors(compare: Parser) -> None:
    where = compare.add_argument_group("where")
    where.add_argument("--executor", choices=("local", "ray"), default="local", help="default: local")
    where.add_argument("--jobs", type=positive, default=1, metavar="N", help="local: runs at a time (default: 1)")
    where.add_argument("--address", metavar="ADDRESS", help="ray: of the cluster (default: the one that is found)")
    where.add_argument("--cpus", type=positive, default=1, metavar="N", help="ray: for each run (default: 1)")
    where.add_argument("--gpus", type=not_negative, default=0.0, metavar="X", help="ray: for each run (default: 0)")


def _add_report(commands: "argparse._SubParsersAction[Parser]") -> None:
    report = commands.add_parser(
        "report",
        help="draw the report of a comparison: one HTML page, figures, tables",
        description="Say what a comparison on disk comes to, and draw report.html, figures/ and summary.csv, .md and "
        ".tex in its folder. adai compare does this at its end.",
    )
    report.add_argument("runs", type=Path, metavar="RUNS", help="the folder of a comparison: runs/<dataset>")
    report.add_argument(
        "--reference", metavar="NAME", help="what the others are compared with (default: adai, else the first)"
    )
    report.set_defaults(run=_report)


def _add_saddle(commands: "argparse._SubParsersAction[Parser]") -> None:
    saddle = commands.add_parser(
        "saddle",
        help="mean squared displacement from a strict saddle",
        description="Simulate how far optimizers get from a strict saddle along each eigenvector, beside what the "
        "paper prints and what is exact.",
    )
    saddle.add_argument("--optimizers", nargs="+", metavar="NAME", help="sgd, momentum, ema, adam, adai (default: all)")
    saddle.add_argument(
        "--H",
        nargs="+",
        type=above_0,
        default=[1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        metavar="H",
        help="|H| of the eigenvalues; each is there with both signs (default: 1e-4 to 1)",
    )
    saddle.add_argument("--lr", type=above_0, default=0.01, help="of a plain average (default: 0.01)")
    saddle.add_argument("--B", type=above_0, default=1.0, help="batch size (default: 1)")
    saddle.add_argument("--T", type=positive, default=100, metavar="N", help="iterations (default: 100)")
    saddle.add_argument("--replicas", type=above_1, default=2000, metavar="N", help="default: 2000")
    saddle.add_argument("--seed", type=whole, default=0, metavar="N", help="default: 0")
    saddle.add_argument(
        "--threads", type=positive, metavar="N", help="default: one a core; results do not depend on it"
    )
    saddle.add_argument("--out", type=Path, default=Path("runs/saddle"), metavar="FOLDER", help="default: runs/saddle")
    saddle.set_defaults(run=_saddle)


def _add_escape(commands: "argparse._SubParsersAction[Parser]") -> None:
    escape = commands.add_parser(
        "escape",
        help="mean escape time against sharpness (Figure 5, and beyond)",
        description="Time how long optimizers stay in a valley of sharpness k, with the theory beside it where one "
        "applies. Run it again to go on after an interruption, or with more replicas.",
    )
    escape.add_argument(
        "--setting",
        choices=("paper", "double-well", "matched"),
        default="paper",
        help="Appendix E as printed (default), the same with a true double well, or parabolas that meet the theory",
    )
    escape.add_argument("--optimizers", nargs="+", metavar="NAME", help="adai, momentum, ema, adam, sgd, adaiw")
    escape.add_argument("--k", nargs="+", type=above_0, metavar="K", help="sharpnesses (default: ten in the range)")
    escape.add_argument("--lr", nargs="+", default=[], metavar="NAME=LR", help="other learning rates: adam=0.03")
    escape.add_argument("--replicas", type=positive, default=1000, metavar="N", help="default: 1000")
    escape.add_argument("--cap", type=positive, default=10**7, metavar="N", help="give a replica up (default: 10^7)")
    escape.add_argument("--seed", type=whole, default=0, metavar="N", help="default: 0")
    escape.add_argument(
        "--threads", type=positive, metavar="N", help="default: one a core; results do not depend on it"
    )
    escape.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/escape-<setting>")
    escape.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    escape.set_defaults(run=_escape)


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


# Each command's module is imported when it runs: --help and a wrong option answer at once, also without the lab.


def _theory(options: argparse.Namespace) -> int:
    from adai.commands.theory import run

    return run(options)


def _train(options: argparse.Namespace) -> int:
    from adai.commands.train import run

    return run(options)


def _compare(options: argparse.Namespace) -> int:
    from adai.commands.compare import run

    return run(options)


def _report(options: argparse.Namespace) -> int:
    from adai.commands.report import run

    return run(options)


def _escape(options: argparse.Namespace) -> int:
    from adai.commands.escape import run

    return run(options)


def _saddle(options: argparse.Namespace) -> int:
    from adai.commands.saddle import run

    return run(options)
