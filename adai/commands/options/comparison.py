"""The options of `adai train`, `adai compare` and `adai report`."""

from argparse import ArgumentParser
from pathlib import Path

from adai.commands.options.later import Commands, later
from adai.commands.options.names import ONE_OPTION, OTHERS
from adai.commands.options.numbers import above_0, not_negative, positive, seed, whole
from adai.commands.options.training import add_training_options

_FURTHER = "amsgrad adabound padam yogi radam sgd-plain rmsprop ema adai-paper"
_OTHERS = f"adaiw sgd adam adamw {_FURTHER}"


def add_train(commands: Commands) -> None:
    """Add `adai train`."""
    train = commands.add_parser(
        "train",
        help="one training run",
        description="Train a model with one optimizer. Run it again to go on after an interruption, from the last "
        "checkpoint.",
    )
    train.add_argument(
        "--optimizer",
        default="adai",
        metavar="NAME",
        help=f"default: adai; there are also {_OTHERS}, and {OTHERS}",
    )
    train.add_argument(
        "--lr", type=above_0, metavar="X", help="default: the paper's for this optimizer on CIFAR, else its own"
    )
    train.add_argument("--weight-decay", type=not_negative, metavar="X", help="default: likewise")
    train.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", help=ONE_OPTION)
    train.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    add_training_options(train)
    train.add_argument(
        "--out", type=Path, metavar="FOLDER", help="default: runs/<dataset>-<model>-<optimizer>-seed<seed>"
    )
    train.add_argument("--tensorboard", action="store_true", help="write <out>/tensorboard too")
    train.set_defaults(run=later("train"))


def add_compare(commands: Commands) -> None:
    """Add `adai compare`."""
    compare = commands.add_parser(
        "compare",
        help="train several optimizers on the same task over several seeds",
        description="Train several optimizers on the same task over several seeds and say who won. "
        "Run it again to go on after an interruption.",
    )
    compare.add_argument(
        "--optimizers",
        nargs="+",
        metavar="[LABEL=]NAME",
        help=f"default: adai adaiw sgd adam adamw; there are also {_FURTHER}, and {OTHERS}. With a label the same "
        "optimizer may run several times: fast=adai slow=adai",
    )
    add_contest(compare)
    compare.add_argument(
        "--lr-grid",
        nargs="+",
        type=above_0,
        default=[],
        metavar="X",
        help="run every optimizer at X times its learning rate too, and compare each at its best: 0.1 0.3 1 3 10",
    )
    compare.add_argument(
        "--flatness",
        nargs="?",
        type=positive,
        const=0,
        metavar="N",
        help="measure how flat the minima are, on 500 training samples (more: adai curvature RUNS); with N, after "
        "every N epochs too, and compare at equal loss",
    )
    compare.add_argument(
        "--stability",
        nargs="?",
        type=positive,
        const=0,
        metavar="N",
        help="measure how close each run is to its edge of stability, on 500 training samples (more: adai stability "
        "RUNS); with N, after every N epochs too",
    )
    add_executors(compare)
    add_training_options(compare)
    compare.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/<dataset>")
    compare.set_defaults(run=later("compare"))


def add_contest(compare: ArgumentParser) -> None:
    """Add those that say with what options the optimizers run, how many seeds, and how settings are chosen."""
    compare.add_argument("--lr", nargs="+", default=[], metavar="LABEL=X", help="other learning rates: adam=3e-4")
    compare.add_argument("--weight-decay", nargs="+", default=[], metavar="LABEL=X", help="likewise: adam=0")
    compare.add_argument(
        "--option",
        nargs="+",
        default=[],
        metavar="LABEL.KEY=VALUE",
        help='other options of any kind: mine.beta=0.8 "adam.betas=(0.8, 0.99)"',
    )
    compare.add_argument("--seeds", type=positive, default=3, metavar="N", help="how many seeds each (default: 3)")
    compare.add_argument(
        "--tune",
        type=whole,
        default=0,
        metavar="N",
        help="choose lr and weight decay by N trials for each optimizer, on held-out training images (default: 0)",
    )
    compare.add_argument(
        "--range",
        nargs="+",
        default=[],
        metavar="LABEL.KEY=LOW:HIGH[:log]",
        help="options that --tune searches too: mine.beta=0.5:0.99 mine.eps=1e-8:1e-3:log",
    )


def add_executors(compare: ArgumentParser) -> None:
    """Add those that say where the runs of a comparison are carried out."""
    where = compare.add_argument_group("where")
    where.add_argument("--executor", choices=("local", "ray"), default="local", help="default: local")
    where.add_argument("--jobs", type=positive, metavar="N", help="local: runs at a time (default: 1)")
    where.add_argument("--address", metavar="ADDRESS", help="ray: of the cluster (default: the one that is found)")
    where.add_argument("--cpus", type=positive, metavar="N", help="ray: for each run (default: 1)")
    where.add_argument("--gpus", type=not_negative, metavar="X", help="ray: for each run (default: 0)")


def add_report(commands: Commands) -> None:
    """Add `adai report`."""
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
    report.set_defaults(run=later("report"))
