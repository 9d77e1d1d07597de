"""Does Adai train where SGD trains, put into the same script with nothing tuned?

Three optimizers at one effective rate: SGD with momentum 0.9 at rate 0.1, `Adai.from_sgd` of it, which README's first
snippet is too, and Adai as the paper has it, without a floor of inertia or a warm-up. Two tasks:

* MNIST: 20,000 normalised images, one epoch, batch 128; two convolutions with and without batch norm. Without a
  schedule, and with a linear warm-up of 100 steps by the user, on top of the optimizer's own;
* digits: `smallnet` with the lab's defaults, a warm-up of 100 steps among them; `Adai.from_sgd` alone.

A run is dead where its error is not a point below that of always answering the most frequent class. Prints a table,
with Wilson's 95 % intervals; goes on where it was interrupted::

    OMP_NUM_THREADS=1 python benchmarks/drop_in.py --jobs 2 --json benchmarks/results/drop_in.json
"""

import argparse
import functools
import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parameter import Parameter
from torch.optim.lr_scheduler import LambdaLR

from adai import Adai
from adai.files import write_whole
from adai.lab.host.machine import processor
from adai.lab.host.ranks import Ranks
from adai.lab.results.outcome import CHANCE, MARGIN
from adai.lab.settings import Settings
from adai.lab.tasks.data import load
from adai.lab.tasks.named import named_task
from adai.lab.training.learner import Learner

CPU = torch.device("cpu")
TRAIN, TEST, BATCH = 20_000, 4_000, 128
WARMUP = 100
FEWEST = 8  # runs that a row of the table has


def sgd(params: Iterable[Parameter]) -> torch.optim.SGD:
    """What was there before."""
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4)


def from_sgd(params: Iterable[Parameter]) -> Adai:
    """What takes its place."""
    return Adai.from_sgd(sgd(params))


def the_papers(params: Iterable[Parameter]) -> Adai:
    """Algorithm 2 at the same effective rate."""
    return Adai(params, lr=1.0, weight_decay=5e-4)


OPTIMIZERS: dict[str, Callable[[Iterable[Parameter]], torch.optim.Optimizer]] = {
    "SGD, momentum 0.9": sgd,
    "Adai.from_sgd": from_sgd,
    "Adai, the paper's": the_papers,
}


NETS = ("plain", "batch norm")  # on MNIST


class Run(NamedTuple):
    """One training run, by what decides it.

    Args:
        task: ``mnist`` or ``digits``.
        net: ``plain`` or ``batch norm`` on MNIST, ``smallnet`` on the digits.
        warmup: steps over which the user raises the learning rate; on the digits the lab does.
        optimizer: one of `OPTIMIZERS`.
        seed: of weights and order.
    """

    task: str
    net: str
    warmup: int
    optimizer: str
    seed: int


class Images(NamedTuple):
    """Normalised pixels (N, 1, 28, 28) and labels (N,), to learn from and to test on."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@functools.cache
def mnist() -> Images:
    """The same images at every call."""
    data = load("mnist", device=CPU)
    train, test = data.train.few(TRAIN), data.test.few(TEST)
    return Images(data.normalised(train.pixels), train.labels, data.normalised(test.pixels), test.labels)


def net(kind: str) -> nn.Module:
    """Two convolutions, ``plain`` or with ``batch norm``, and a linear layer."""

    def convolution(before: int, after: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(after)] if kind == "batch norm" else []
        return [nn.Conv2d(before, after, 5, padding=2), *norm, nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*convolution(1, 16), *convolution(16, 32), nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def error_on_mnist(run: Run) -> float:
    """Test error in percent after the epoch."""
    images = mnist()
    torch.manual_seed(run.seed)
    model = net(run.net)
    optimizer = OPTIMIZERS[run.optimizer](model.parameters())
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (run.warmup + 1)))
    for where in torch.randperm(TRAIN).split(BATCH):
        optimizer.zero_grad()
        cross_entropy(model(images.train[where]), images.train_labels[where]).backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(x).argmax(1) for x in images.test.split(500)])
    return 100 * (answers != images.test_labels).double().mean().item()


def error_on_digits(run: Run) -> float:
    """Test error in percent after the last epoch of the lab's run."""
    settings = Settings.of("digits", optimizer="adai", seed=run.seed, warmup_steps=run.warmup)
    learner = Learner(settings, named_task(settings, CPU, None), CPU, Ranks())
    learner.optimizer = OPTIMIZERS[run.optimizer](learner.model.parameters())  # its rate is that of the settings
    for epoch in range(settings.epochs):
        row = learner.epoch(epoch)
    error = row["test_error"]
    return math.nan if error is None else error


def error_of(run: Run) -> float:
    """Train it."""
    torch.set_num_threads(1)
    return error_on_mnist(run) if run.task == "mnist" else error_on_digits(run)


def plan(seeds: int, digits_seeds: int) -> list[Run]:
    """All runs, the most telling ones first."""

    def on_mnist(*kinds: tuple[str, int]) -> list[Run]:
        return [
            Run("mnist", kind, warmup, optimizer, seed)
            for seed in range(seeds)
            for optimizer, warmup in kinds
            for kind in NETS
        ]

    before, after, papers = OPTIMIZERS
    return [
        *on_mnist((before, 0), (after, 0), (after, WARMUP)),
        *(Run("digits", "smallnet", WARMUP, after, seed) for seed in range(digits_seeds)),
        *on_mnist((papers, 0), (papers, WARMUP), (before, WARMUP)),
    ]


def chance(task: str) -> float:
    """The error, in percent, of always answering the most frequent class of the test images."""
    if task == "digits":
        return CHANCE["digits"]
    labels = mnist().test_labels
    return 100 * (1 - labels.bincount().max().item() / len(labels))


def row_of(title: str, optimizer: str, errors: Sequence[float], guessing: float) -> str:
    """A row of the table."""
    dead = sum(not error <= guessing - MARGIN for error in errors)
    interval = binomtest(dead, len(errors)).proportion_ci(method="wilson")
    return (
        f"| {title} | {optimizer} "
        f"| {dead} of {len(errors)} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %) "
        f"| {statistics.median(errors):.2f} | {max(errors):.2f} |"
    )


def table(errors: dict[Run, float]) -> str:
    """What was found, for people."""
    lines = [
        "| task | optimizer | dead | median error (%) | highest error (%) |",
        "|---|---|---|---|---|",
    ]
    kinds = [
        ("MNIST, no warm-up by the user", "mnist", 0),
        ("MNIST, 100 steps of warm-up by the user", "mnist", WARMUP),
        ("digits, the lab's defaults", "digits", WARMUP),
    ]
    for title, task, warmup in kinds:
        for optimizer in OPTIMIZERS:
            of_these = [
                error
                for run, error in errors.items()
                if (run.task, run.warmup, run.optimizer) == (task, warmup, optimizer)
            ]
            if len(of_these) >= FEWEST:
                lines.append(row_of(title, optimizer, of_these, chance(task)))
    return "\n".join(lines)


def kept(path: Path | None) -> dict[Run, float]:
    """The runs of an earlier call."""
    if path is None or not path.exists():
        return {}
    rows: list[dict[str, Any]] = json.loads(path.read_text())["runs"]
    return {Run(**{name: row[name] for name in Run._fields}): row["test_error"] for row in rows}


def save(path: Path, errors: dict[Run, float]) -> None:
    """Write what there is so far."""
    about = {"torch": torch.__version__, "machine": processor(), "train": TRAIN, "test": TEST, "batch": BATCH}
    found = {**about, "runs": [{**run._asdict(), "test_error": error} for run, error in sorted(errors.items())]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: part.write_text(json.dumps(found, indent=1) + "\n"))


def main() -> None:
    """Train what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=12, help="of each net on MNIST (default: %(default)s)")
    parser.add_argument("--digits-seeds", type=int, default=30, help="on the digits (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="keeps the runs, and goes on from those that it holds")
    parser.add_argument("--show", action="store_true", help="only print the table of what FILE of --json holds")
    options = parser.parse_args()
    errors = kept(options.json)
    if options.show:
        print(table(errors))
        return
    missing = [run for run in plan(options.seeds, options.digits_seeds) if run not in errors]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        training = {pool.submit(error_of, run): run for run in missing}
        for count, done in enumerate(as_completed(training), start=1):
            run = training[done]
            errors[run] = done.result()
            print(
                f"{count}/{len(missing)} {', '.join(map(str, run))}: {errors[run]:.2f} %", file=sys.stderr, flush=True
            )
            if options.json:
                save(options.json, errors)
    print(table(errors))


if __name__ == "__main__":
    main()
