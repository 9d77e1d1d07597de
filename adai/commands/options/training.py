"""The options that `adai train` and `adai compare` share: all that decides how a run goes."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adai.commands.options.numbers import above_0, not_negative, positive, share, whole
from adai.errors import UserError

# Option by option what `adai.lab.settings.Settings.of` takes under the same name.
SETTINGS = (
    "model", "target", "epochs", "batch", "schedule", "warmup_steps", "precision", "accumulate", "clip_norm", "augment",
    "image_size", "limit", "validation",
)  # fmt: skip
MACHINE = ("device", "channels_last", "compile", "graph", "deterministic", "workers")


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add them; what is not given is None, and `Settings.of` then takes what suits the data set."""
    what = parser.add_argument_group("what is learnt")
    what.add_argument(
        "--dataset",
        metavar="NAME",
        help="images: digits (default), mnist, cifar10, cifar100, imagenet, a name on the Hugging Face hub, or a "
        "folder of parquet files or of images in class folders; text: shakespeare, or FILE.txt; tables: housing, or "
        "FILE.csv",
    )
    what.add_argument("--target", metavar="COLUMN", help="of a table, the column to predict (default: the last)")
    what.add_argument(
        "--model",
        metavar="NAME",
        help="smallnet, convnet, plainnet, fc3, fc3-10, fc3-4, resnet8, resnet20, resnet18, resnet34, resnet50, vgg16, "
        "densenet121, googlenet "
        "(default: smallnet; mnist convnet, cifar10 resnet18, cifar100 resnet34, imagenet resnet50); text transformer; "
        "tables mlp",
    )
    what.add_argument(
        "--task", metavar="MODULE:FUNCTION", help="your own model and data instead: a function that returns a Task"
    )
    what.add_argument("--data-dir", type=Path, metavar="FOLDER", help="has data sets by name (or set ADAI_DATA_DIR)")
    what.add_argument("--limit", type=positive, metavar="N", help="so many training and test images at most")
    what.add_argument(
        "--validation",
        type=share,
        metavar="X",
        help="hold out this share of the training examples, and take them in place of the test examples",
    )
    what.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help="random crops and flips (default: for CIFAR and imagenet)",
    )
    what.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="read images of any size as they are needed, cut to N x N (default: imagenet 224)",
    )

    how = parser.add_argument_group("how")
    how.add_argument("--epochs", type=positive, metavar="N", help="default: 30; mnist 10, CIFAR 200, imagenet 90")
    how.add_argument("--batch", type=positive, metavar="N", help="images a step (default: 64; what the paper has)")
    how.add_argument(
        "--schedule",
        metavar="NAME",
        help="paper (default for CIFAR; milestones scaled to --epochs), cosine (default for the rest) or constant",
    )
    how.add_argument(
        "--warmup-steps", type=whole, metavar="N", help="linear warm-up (default: 100; none with the paper's schedule)"
    )
    how.add_argument("--accumulate", type=positive, metavar="N", help="cut a batch into N parts, to save memory")
    how.add_argument("--clip-norm", type=above_0, metavar="X", help="clip the gradient to this norm")
    how.add_argument("--precision", metavar="NAME", help="fp32 (default), tf32, bf16 or fp16")
    add_machine_options(parser)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add those of them that say on what a run is done, and leave its results what they are but for rounding."""
    on_what = parser.add_argument_group("on what")
    on_what.add_argument("--device", help="cpu, cuda, mps, … (default: cuda if there is a GPU, else cpu)")
    on_what.add_argument("--channels-last", action="store_true", default=None, help="images as (N, H, W, C) in memory")
    on_what.add_argument("--compile", action="store_true", default=None, help="run the model through torch.compile")
    on_what.add_argument("--graph", action="store_true", default=None, help="run full batches as a CUDA graph")
    on_what.add_argument("--deterministic", action="store_true", default=None, help="deterministic algorithms alone")
    on_what.add_argument(
        "--workers", type=whole, metavar="N", help="processes that read what memory does not hold (default: 2)"
    )
    on_what.add_argument(
        "--checkpoint-every",
        type=not_negative,
        metavar="SECONDS",
        help="so many seconds between two checkpoints, at the ends of epochs (default: 60; 0: after each epoch)",
    )


def task(options: argparse.Namespace) -> str:
    """The data set, or the function, that was asked for."""
    if options.task is None:
        return str(options.dataset or "digits")
    named = [f"--{name}" for name in ("dataset", "model", "target") if getattr(options, name) is not None]
    if named:
        raise UserError(f"--task brings its own data and net; leave out {' and '.join(named)}")
    if ":" not in options.task:
        raise UserError(f"the task {options.task!r} names no function; give package.module:factory")
    return str(options.task)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the settings."""
    return {name: getattr(options, name) for name in (*SETTINGS, *MACHINE)}


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of those that say on what a run is done."""
    return {name: getattr(options, name) for name in MACHINE}


def checkpoints(options: argparse.Namespace) -> dict[str, Any]:
    """How often there is a checkpoint, if that was given."""
    return {} if options.checkpoint_every is None else {"checkpoint_every": options.checkpoint_every}


def separated(given: Sequence[str]) -> list[str]:
    """What was given, with spaces or commas between."""
    return [name for text in given for name in text.split(",") if name]


def listed(given: Sequence[str]) -> list[str]:
    """What was given, with spaces or commas between; each once."""
    return list(dict.fromkeys(separated(given)))
