"""The `adai` command. Bad input gives one line on standard error and exit status 2; an interruption gives 130."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from adai import __version__
from adai.errors import UserError
from adai.theory.symbols import SYMBOLS


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
        description="Train several optimizers on the same images over several seeds and say who won. "
        "Run it again to go on after an interruption.",
    )
    compare.add_argument(
        "--optimizers",
        nargs="+",
        metavar="NAME",
        help="default: adai adaiw sgd adam adamw; there are also amsgrad adabound padam yogi radam sgd-plain rmsprop",
    )
    compare.add_argument("--seeds", type=_positive, default=3, metavar="N", help="how many seeds each (default: 3)")
    compare.add_argument("--epochs", type=_positive, default=30, metavar="N", help="how many epochs (default: 30)")
    compare.add_argument(
        "--dataset",
        default="digits",
        metavar="NAME",
        help="digits (default), mnist, cifar10, cifar100, a name on the Hugging Face hub, or a folder of parquet files "
        "or of images in class folders",
    )
    compare.add_argument(
        "--model",
        default="smallnet",
        metavar="NAME",
        help="smallnet (default), fc3, resnet18, resnet34, resnet50, vgg16, densenet121, googlenet",
    )
    compare.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/<dataset>")
    compare.add_argument("--device", default="cpu", help="cpu, cuda, mps, … (default: cpu)")
    compare.set_defaults(run=_compare)
    _add_theory(commands)
    _add_escape(commands)
    _add_saddle(commands)
    _add_curvature(commands)
    _add_noise(commands)
    return parser


def _add_curvature(commands: "argparse._SubParsersAction[Parser]") -> None:
    curvature = commands.add_parser(
        "curvature",
        help="how flat the loss is around a net's parameters; eq. 5 and Figure 7",
        description="Hessian eigenvalues, trace and spectral density, sharpness, and the loss along the top two "
        "eigenvectors, of one or several nets side by side.",
    )
    _add_subject(curvature, out="runs/curvature", samples=1000)
    curvature.add_argument("--top", type=_positive, default=5, metavar="K", help="largest eigenvalues (default: 5)")
    curvature.add_argument("--rho", type=_above_0, default=0.05, help="radius of SAM's ball (default: 0.05)")
    curvature.add_argument("--radius", type=_above_0, default=0.5, help="how far the loss is drawn (default: 0.5)")
    curvature.add_argument(
        "--eq5",
        action="store_true",
        help="instead: gradient noise covariance against the Hessian; exact up to 8,192 parameters, best with "
        "--dtype float64",
    )
    curvature.set_defaults(run=_curvature)


def _add_noise(commands: "argparse._SubParsersAction[Parser]") -> None:
    noise = commands.add_parser(
        "noise",
        help="is gradient noise Gaussian? Figure 6",
        description="Noise of one minibatch across parameters against noise of parameters across minibatches: fits, "
        "tail indices, tests of normality, gradient-noise scale.",
    )
    _add_subject(noise, out="runs/noise", samples=None)
    noise.add_argument("--B", type=_positive, default=128, metavar="N", help="batch size (default: 128)")
    noise.add_argument("--minibatches", type=_above_1, default=1000, metavar="N", help="default: 1000")
    noise.add_argument(
        "--parameters", type=_positive, default=500, metavar="N", help="how many to follow (default: 500)"
    )
    noise.set_defaults(run=_noise)


def _add_subject(parser: Parser, *, out: str, samples: int | None) -> None:
    """Which parameters, on what data, and how the loss is taken."""
    parser.add_argument(
        "states",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="parameters: torch.save(model.state_dict(), FILE) (default: random initialisation)",
    )
    parser.add_argument("--dataset", default="digits", metavar="NAME", help="as for adai compare (default: digits)")
    parser.add_argument("--model", default="smallnet", metavar="NAME", help="as for adai compare (default: smallnet)")
    parser.add_argument(
        "--task",
        metavar="MODULE:FUNCTION",
        help="your own instead: a function that returns something with model, train (a data set) and perhaps loss",
    )
    number = "all" if samples is None else str(samples)
    parser.add_argument("--samples", type=_positive, default=samples, metavar="N", help=f"default: {number}")
    parser.add_argument("--batch", type=_positive, default=256, metavar="N", help="samples at a time (default: 256)")
    parser.add_argument(
        "--batch-norm",
        choices=("running", "batch"),
        default="running",
        help="its statistics: gathered in training (default), or those of each --batch samples",
    )
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default: float32")
    parser.add_argument("--seed", type=_whole, default=0, metavar="N", help="default: 0")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, … (default: cpu)")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
    parser.add_argument("--out", type=Path, default=Path(out), metavar="FOLDER", help=f"default: {out}")


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
        type=_above_0,
        default=[1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        metavar="H",
        help="|H| of the eigenvalues; each is there with both signs (default: 1e-4 to 1)",
    )
    saddle.add_argument("--lr", type=_above_0, default=0.01, help="of a plain average (default: 0.01)")
    saddle.add_argument("--B", type=_above_0, default=1.0, help="batch size (default: 1)")
    saddle.add_argument("--T", type=_positive, default=100, metavar="N", help="iterations (default: 100)")
    saddle.add_argument("--replicas", type=_above_1, default=2000, metavar="N", help="default: 2000")
    saddle.add_argument("--seed", type=_whole, default=0, metavar="N", help="default: 0")
    saddle.add_argument(
        "--threads", type=_positive, metavar="N", help="default: one a core; results do not depend on it"
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
    escape.add_argument("--k", nargs="+", type=_above_0, metavar="K", help="sharpnesses (default: ten in the range)")
    escape.add_argument("--lr", nargs="+", default=[], metavar="NAME=LR", help="other learning rates: adam=0.03")
    escape.add_argument("--replicas", type=_positive, default=1000, metavar="N", help="default: 1000")
    escape.add_argument("--cap", type=_positive, default=10**7, metavar="N", help="give a replica up (default: 10^7)")
    escape.add_argument("--seed", type=_whole, default=0, metavar="N", help="default: 0")
    escape.add_argument(
        "--threads", type=_positive, metavar="N", help="default: one a core; results do not depend on it"
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


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


# Each command's module is imported when it runs: --help and a wrong option answer at once, also without the lab.


def _above_1(text: str) -> int:
    number = _whole(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 1")
    return number


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)


def _above_0(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _theory(options: argparse.Namespace) -> int:
    from adai.commands.theory import run

    return run(options)


def _compare(options: argparse.Namespace) -> int:
    from adai.commands.compare import run

    return run(options)


def _escape(options: argparse.Namespace) -> int:
    from adai.commands.escape import run

    return run(options)


def _saddle(options: argparse.Namespace) -> int:
    from adai.commands.saddle import run

    return run(options)


def _curvature(options: argparse.Namespace) -> int:
    from adai.commands.curvature import run

    return run(options)


def _noise(options: argparse.Namespace) -> int:
    from adai.commands.noise import run

    return run(options)
