"""The options of `adai theory`, `adai escape` and `adai saddle`."""

import argparse
import re
from pathlib import Path
from typing import Any

from adai.commands.options.later import Commands, later
from adai.commands.options.numbers import above_0, above_1, positive, seed
from adai.theory.symbols import LISTS, SYMBOLS


def add_theory(commands: Commands) -> None:
    """Add `adai theory`."""
    theory = commands.add_parser(
        "theory",
        help="the paper's results: printed, corrected and exact",
        description="Print the table of the paper's results, or one of them (KEY) for your own inputs: printed, "
        "corrected and exact, with the ratio. Results that are not in the paper have kind N: stability gives the "
        "largest stable learning rate for a Hessian H and an inertia mu, for Adai and other optimizers.",
    )
    theory.add_argument("key", nargs="?", metavar="KEY", help="a result, such as thm3.1 (default: the table of all)")
    theory.add_argument("--check", type=Path, metavar="FILE", help="evaluate a fixtures file; status 1 on any failure")
    theory.add_argument("--docs", type=Path, metavar="FOLDER", help="write theory.md and its figures")
    inputs = theory.add_argument_group("inputs of a result")
    for name, symbol in SYMBOLS.items():
        if symbol.flag:
            text = f"{symbol.meaning}; {symbol.bound}"
            kind = number_or_matrix if name == "H" else float
            several: dict[str, Any] = {"nargs": "+"} if name in LISTS else {}
            inputs.add_argument(f"--{symbol.flag}", dest=name, type=kind, metavar="X", help=text, **several)
    # argparse treats text that matches this as a negative number, not an option; its default excludes -1e-3 and -1,2
    theory._negative_number_matcher = re.compile(r"-[\d.]")
    theory.set_defaults(run=later("theory"))


def number_or_matrix(text: str) -> float | tuple[tuple[float, ...], ...]:
    """'2' is a number, '2 .5; .5 1' a square matrix of two rows."""
    rows = [row.replace(",", " ").split() for row in text.split(";")]
    if len(rows) == 1 and len(rows[0]) == 1:
        return _float(text)
    if any(len(row) != len(rows) for row in rows):
        raise argparse.ArgumentTypeError(
            f"a matrix has to be square, rows with ; between them ('2 .5; .5 1'), but {text!r} has "
            f"{len(rows)} row{'s'[: len(rows) != 1]} of {', '.join(str(len(row)) for row in rows)} numbers"
        )
    return tuple(tuple(_float(entry) for entry in row) for row in rows)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}") from None


def add_escape(commands: Commands) -> None:
    """Add `adai escape`."""
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
        help="Appendix E as printed (default), the same with a real double well, or parabolas that fulfil the theory",
    )
    escape.add_argument("--optimizers", nargs="+", metavar="NAME", help="adai, momentum, ema, adam, sgd, adaiw")
    escape.add_argument("--k", nargs="+", type=above_0, metavar="K", help="sharpnesses (default: ten in the range)")
    escape.add_argument("--lr", nargs="+", default=[], metavar="NAME=LR", help="other learning rates: adam=0.03")
    escape.add_argument("--replicas", type=positive, default=1000, metavar="N", help="default: 1000")
    escape.add_argument(
        "--cap", type=positive, default=10**7, metavar="N", help="iterations of a replica at most (default: 10^7)"
    )
    escape.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    escape.add_argument(
        "--threads", type=positive, metavar="N", help="default: one a core; results do not depend on it"
    )
    escape.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/escape-<setting>")
    escape.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    escape.add_argument("--draw-only", action="store_true", help="run nothing: draw the numbers in the folder again")
    escape.set_defaults(run=later("escape"))


def add_saddle(commands: Commands) -> None:
    """Add `adai saddle`."""
    saddle = commands.add_parser(
        "saddle",
        help="mean squared displacement from a strict saddle",
        description="Simulate how far optimizers move from a strict saddle along each eigenvector, and compare with "
        "the paper's formulas and the exact values.",
    )
    saddle.add_argument("--optimizers", nargs="+", metavar="NAME", help="sgd, momentum, ema, adam, adai (default: all)")
    saddle.add_argument(
        "--H",
        nargs="+",
        type=above_0,
        default=[1e-4, 1e-3, 1e-2, 1e-1, 1.0],
        metavar="H",
        help="|H| of the eigenvalues; each is used with both signs (default: 1e-4 to 1)",
    )
    saddle.add_argument("--lr", type=above_0, default=0.01, help="of a plain average (default: 0.01)")
    saddle.add_argument("--B", type=above_0, default=1.0, help="batch size (default: 1)")
    saddle.add_argument("--T", type=positive, default=100, metavar="N", help="iterations (default: 100)")
    saddle.add_argument("--replicas", type=above_1, default=2000, metavar="N", help="default: 2000")
    saddle.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    saddle.add_argument(
        "--threads", type=positive, metavar="N", help="default: one a core; results do not depend on it"
    )
    saddle.add_argument("--out", type=Path, default=Path("runs/saddle"), metavar="FOLDER", help="default: runs/saddle")
    saddle.set_defaults(run=later("saddle"))
