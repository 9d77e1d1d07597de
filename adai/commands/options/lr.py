"""The options of `adai lr`."""

from pathlib import Path

from adai.commands.options.later import Commands, later
from adai.commands.options.names import ONE_OPTION
from adai.commands.options.numbers import above_0, not_negative, positive, seed


def add_lr(commands: Commands) -> None:
    """Add `adai lr`."""
    lr = commands.add_parser(
        "lr",
        help="which learning rate? a range test over several seeds",
        description="Train while the learning rate rises exponentially until the loss blows up, with several seeds, "
        "and suggest a learning rate, with a warm-up and without.",
    )
    lr.add_argument("--optimizer", default="adai", metavar="NAME", help="as for adai train (default: adai)")
    lr.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", help=ONE_OPTION)
    lr.add_argument("--weight-decay", type=not_negative, metavar="X", help="as for adai train")
    lr.add_argument("--dataset", metavar="NAME", help="as for adai train (default: digits)")
    lr.add_argument("--target", metavar="COLUMN", help="as for adai train")
    lr.add_argument("--model", metavar="NAME", help="as for adai train")
    lr.add_argument(
        "--task", metavar="MODULE:FUNCTION", help="your own model and data instead: a function that returns a Task"
    )
    lr.add_argument("--batch", type=positive, metavar="N", help="as for adai train")
    lr.add_argument("--limit", type=positive, metavar="N", help="use at most N training and N test images")
    lr.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
    lr.add_argument("--seeds", type=positive, default=3, metavar="N", help="number of tests (default: 3)")
    lr.add_argument("--seed", type=seed, default=0, metavar="N", help="the first seed (default: 0)")
    lr.add_argument(
        "--steps", type=positive, default=200, metavar="N", help="from --lowest to --highest (default: 200)"
    )
    lr.add_argument("--lowest", type=above_0, default=1e-6, metavar="X", help="the first rate (default: 1e-6)")
    lr.add_argument("--highest", type=above_0, default=100.0, metavar="X", help="the last rate (default: 100)")
    lr.add_argument("--device", help="cpu, cuda, mps, … (default: cuda if there is a GPU, else cpu)")
    lr.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/lr-<dataset>-<model>-<optimizer>")
    lr.set_defaults(run=later("lr"))
