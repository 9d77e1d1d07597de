"""The options of `adai paper`."""

from argparse import ArgumentParser
from pathlib import Path

from adai.commands.options.comparison import add_executors
from adai.commands.options.later import Commands, later
from adai.commands.options.numbers import positive
from adai.commands.options.training import add_machine_options

TRAINING = {
    "table1": "test error of nine optimizers on CIFAR-10 and CIFAR-100, five networks; ours beside the paper's",
    "figure1": "learning curves and final epochs, ResNet18 on CIFAR-10 and ResNet34 on CIFAR-100",
    "figure2": "VGG16 on CIFAR-10 for 1000 epochs with a fixed learning rate, Adai against Adam",
    "figure3": "ResNet50 on ImageNet, which has to be on this machine",
    "figure4": "test and training curves of SGD with momentum, Adai and Adam on four networks",
}
OTHERS = {
    "figure5": "mean escape time against sharpness, as adai escape",
    "figure6": "gradient noise across parameters and across minibatches, ResNet18 on CIFAR-10 (quick: fc3 on MNIST)",
    "figure7": "gradient noise covariance against the Hessian, three layers on MNIST",
}

SMALL = ("table1", "figure1", "figure2", "figure4", "figure6")


def add_paper(commands: Commands) -> None:
    """Add `adai paper`."""
    paper = commands.add_parser(
        "paper",
        help="the paper's tables and figures: run and draw",
        description="Train the missing runs of a table or figure of the paper, and draw it. Run the same command again "
        "to resume after an interruption.",
    )
    items = paper.add_subparsers(dest="item", required=True, metavar="ITEM")
    for name, text in TRAINING.items():
        _add_training(_item(items, name, text))
    for name, text in OTHERS.items():
        item = _item(items, name, text)
        if name == "figure5":
            item.add_argument("--threads", type=positive, metavar="N", help="default: one a core")
        else:
            _add_data_dir(item)
        if name == "figure6":
            item.add_argument("--device", default="cpu", help="cpu, cuda, mps, … (default: cpu)")
    results = items.add_parser(
        "results",
        help="README.md of a folder of kept runs",
        description="Write README.md for a folder of kept runs, with tables and figures in the same folder.",
    )
    results.add_argument("folder", nargs="?", type=Path, default=Path("results"), metavar="FOLDER", help="results")
    results.set_defaults(run=later("paper"))
    claims = items.add_parser(
        "claims",
        help="which of the paper's claims hold, from a folder of kept runs",
        description="Draw docs/claims.md: each claim of the paper with a verdict and our numbers.",
    )
    claims.add_argument("folder", nargs="?", type=Path, default=Path("results"), metavar="FOLDER", help="results")
    claims.add_argument(
        "--out", type=Path, default=Path("docs/claims.md"), metavar="FILE", help="default: docs/claims.md"
    )
    claims.set_defaults(run=later("paper"))


def _item(items: Commands, name: str, text: str) -> ArgumentParser:
    item: ArgumentParser = items.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    item.add_argument(
        "--scale",
        choices=("full", "small", "quick") if name in SMALL else ("full", "quick"),
        default="full",
        help="the paper's experiment (default)"
        + (", one with small nets in hours on two cores" if name in SMALL else "")
        + ", or a test of a few minutes on two cores that everything works",
    )
    item.add_argument("--out", type=Path, metavar="FOLDER", help="default: runs/paper, or runs/paper-<scale>")
    item.set_defaults(run=later("paper"))
    return item


def _add_training(item: ArgumentParser) -> None:
    item.add_argument("--draw-only", action="store_true", help="train nothing; draw the runs that are on disk")
    item.add_argument("--only", nargs="+", default=[], metavar="MODEL", help="run only these networks")
    item.add_argument("--optimizers", nargs="+", default=[], metavar="NAME", help="run only these optimizers")
    item.add_argument("--seeds", type=positive, metavar="N", help="seeds of each (default: 3; quick: 1)")
    _add_data_dir(item)
    add_executors(item)
    add_machine_options(item)


def _add_data_dir(item: ArgumentParser) -> None:
    item.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
