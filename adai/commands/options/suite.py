"""The options of `adai suite`."""

from pathlib import Path

from adai.commands.options.comparison import add_contest, add_executors
from adai.commands.options.later import Commands, later
from adai.commands.options.names import OTHERS
from adai.commands.options.numbers import positive
from adai.commands.options.training import add_machine_options

DEFAULT = ("adai", "adai-paper", "sgd", "adamw", "ema")


def add_suite(commands: Commands) -> None:
    """Add `adai suite`."""
    suite = commands.add_parser(
        "suite",
        help="compare optimizers on several tasks with equal budgets",
        description="Compare optimizers on tasks of images, text and tables with the same number of trials for each, "
        "and draw one page. Run it again to go on after an interruption.",
    )
    suite.add_argument(
        "--tasks",
        nargs="+",
        metavar="NAME",
        help="of digits, mnist, cifar10, cifar100, shakespeare and housing (default: all)",
    )
    suite.add_argument(
        "--optimizers",
        nargs="+",
        default=DEFAULT,
        metavar="[LABEL=]NAME",
        help=f"default: {' '.join(DEFAULT)}; all that adai compare takes, {OTHERS} among them",
    )
    suite.add_argument("--scale", choices=("laptop", "gpu"), default="laptop", help="default: laptop")
    add_contest(suite)
    suite.add_argument("--epochs", type=positive, metavar="N", help="of every task (default: the task's)")
    suite.add_argument("--limit", type=positive, metavar="N", help="so many images at most, for quick tries")
    suite.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
    suite.add_argument("--reference", metavar="NAME", help="what the others are compared with (default: adai)")
    suite.add_argument(
        "--against", type=Path, metavar="FOLDER", help="of another suite, whose optimizers stand beside these"
    )
    suite.add_argument("--draw-only", action="store_true", help="run nothing: draw what is on disk")
    add_executors(suite)
    add_machine_options(suite)
    suite.add_argument("--out", type=Path, default=Path("runs/suite"), metavar="FOLDER", help="default: runs/suite")
    suite.set_defaults(run=later("suite"))
