"""The range test of a run of the lab: its data set and net, or a task of your own, over several seeds."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from adai.lab.host import random_state
from adai.lab.host.machine import device_named
from adai.lab.host.ranks import Ranks
from adai.lab.measure.range_test.find import HIGHEST, LOWEST, SEEDS, STEPS, Progress, after, rise, rising
from adai.lab.measure.range_test.result import RangeTest
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.sources import Pair
from adai.lab.training.learner import Learner


def find_lr_of_run(
    settings: Settings,
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    seeds: int = SEEDS,
    data_dir: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> RangeTest:
    """The range test of `find_lr` at the start of a run: a seed has weights and an order of the examples of its own.

    Args:
        settings: of the run; its learning rate, schedule and epochs do not matter, its seed is the first.
        lowest: the first rate.
        highest: the last, if nothing blows up before it.
        steps: from the first rate to the last.
        seeds: how many, from that of the settings on.
        data_dir: where data sets lie by name; default the environment's ``ADAI_DATA_DIR``.
        progress: told after every step how many are done, and of how many at most.

    Raises:
        ValueError: a number is out of range.
        UserError: a device, a data set or a task is not there.
    """
    rates = rising(lowest, highest, steps)
    device = device_named(settings.device)
    factory = named_task(settings, device, data_dir)
    rises = []
    with random_state.untouched(device):
        for number in range(seeds):
            learner = Learner(replace(settings, seed=settings.seed + number), factory, device, Ranks())
            tell = after(number * steps, seeds * steps, progress)
            with closing(learner):
                rises.append(rise(learner.optimizer, learner.model, learner.loss, Epochs(learner), rates, tell))
    return RangeTest.of(rates, rises)


class Epochs:
    """The batches of one epoch after the other, each in an order of its own; a last batch with fewer is left out."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def __iter__(self) -> Iterator[Pair]:
        """One epoch."""
        learner = self._learner
        order = torch.randperm(len(learner.train), generator=learner.draws)
        batch = min(learner.settings.batch, len(order))
        whole = [places for places in order.split(batch) if len(places) == batch]
        return learner.train.batches(whole, learner.draws)
