"""Draws the stability margin of Adai step by step, in runs that blow up and in runs that do not.

The script trains as `adai train` does (the digits, smallnet, lr 1, the defaults), and between steps measures the margin
on 256 training images (`adai.lab.measure.stability`)::

    python benchmarks/edge.py --csv benchmarks/results/edge.csv --figure docs/edge.png
"""

import argparse
import csv
import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.host import random_state
from adai.lab.host.machine import processor
from adai.lab.host.ranks import Ranks
from adai.lab.measure.stability.margin import measure
from adai.lab.measure.subject import Subject
from adai.lab.optimizers.recipes import recipe
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.training.learner import Learner
from adai.report.picture import RC
from adai.report.rows import write_csv


class Point(NamedTuple):
    """The numbers after a step of a run; empty if the loss is not finite."""

    seed: int
    step: int
    lr: float
    loss: float | None
    margin: float | None


def margins(settings: Settings, *, first: int, last: int, every: int, samples: int) -> list[Point]:
    """Train like the run up to step ``last``, and measure from step ``first`` on, after every ``every`` steps."""
    cpu = torch.device("cpu")
    learner = Learner(settings, named_task(settings, cpu, None), cpu, Ranks())
    subject = Subject(learner.model, learner.train, learner.loss)
    points: list[Point] = []
    step = 0

    def after_a_step() -> None:
        nonlocal step
        step += 1
        if not first <= step <= last or (step - first) % every:
            return
        lr = float(learner.optimizer.param_groups[0]["lr"])
        try:
            with random_state.untouched(cpu):
                objective = subject.objective(samples=samples, batch=settings.batch, batch_norm="batch")
                found = measure(objective, learner.optimizer, learner.model)
            points.append(Point(settings.seed, step, lr, found.loss, found.margin))
        except UserError:  # it has blown up
            points.append(Point(settings.seed, step, lr, None, None))
        print(*points[-1], flush=True)

    for epoch in range(math.ceil(last / learner.steps)):
        learner.epoch(epoch, after_a_step)
    return points


def draw(points: Sequence[Point], about: str) -> Figure:
    """Draw margin and loss by step, with a column of axes for each run."""
    runs = [(seed, list(of_seed)) for seed, of_seed in groupby(points, key=lambda point: point.seed)]
    figure = Figure(figsize=(2.6 * len(runs) + 0.6, 4.2), layout="constrained")
    axes = figure.subplots(2, len(runs), sharex=True, sharey="row", squeeze=False)
    for (above, below), (seed, run) in zip(axes.T, runs, strict=True):
        steps = [point.step for point in run]
        above.plot(steps, [point.margin for point in run], lw=1.2, color="#0b62a8")
        above.axhline(1, color="#22211f", lw=0.9, ls=":")
        below.plot(steps, [point.loss for point in run], lw=1.2, color="#b84a00")
        above.set(yscale="log", title=f"seed {seed}")
        below.set(yscale="log", xlabel="step")
        for ax in (above, below):
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[0, 0].set_ylabel("stability margin")
    axes[1, 0].set_ylabel("loss (nats)")
    figure.suptitle(about, fontsize=10)
    return figure


def read(file: Path) -> list[Point]:
    """The measurements in a CSV file."""
    with file.open() as lines:
        return [
            Point(int(seed), int(step), float(lr), *(float(x) if x else None for x in (loss, margin)))
            for seed, step, lr, loss, margin in list(csv.reader(lines))[1:]
        ]


def main() -> None:
    """Measure and draw, or only draw existing measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 6, 7, 0], help="default: 3 6 7 0")
    parser.add_argument("--optimizer", default="adai-paper")
    parser.add_argument("--lr", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=70, help="the first step to measure after (default: %(default)s)")
    parser.add_argument("--last", type=int, default=130, help="the last step to measure after (default: %(default)s)")
    parser.add_argument("--every", type=int, default=2, help="steps between measurements (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--draw", action="store_true", help="only draw the CSV")
    options = parser.parse_args()
    points = read(options.csv) if options.draw else []
    for seed in [] if options.draw else options.seeds:
        settings = Settings.of("digits", optimizer=options.optimizer, lr=options.lr, seed=seed)
        points += margins(
            settings, first=options.first, last=options.last, every=options.every, samples=options.samples
        )
        write_csv(options.csv, points)
    print(f"{processor()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if options.figure:
        with rc_context(RC):
            figure = draw(points, f"{recipe(options.optimizer).label}, learning rate {options.lr:g}, digits")
        write_whole(options.figure, lambda part: figure.savefig(part, dpi=150))


if __name__ == "__main__":
    main()
