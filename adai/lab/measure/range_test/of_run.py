"""The range test of a run of the lab, over several seeds: its data set and net, or a task of your own."""

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
from adai.lab.training.train import algorithms


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
    """The range test of `find_lr` at the start of a run. Each seed has its own weights and order of the examples.

    Args:
        settings: of the run. Its learning rate, schedule and epochs have no effect; its seed is the first seed.
        lowest: the first rate.
        highest: the last rate, if the loss does not blow up before.
        steps: the number of steps from the first rate to the last.
        seeds: the number of tests, with consecutive seeds.
        data_dir: the folder that contains the data sets; default the environment's ``ADAI_DATA_DIR``.
        progress: called after every step with the number of steps done and their largest possible number.

    Raises:
        ValueError: a number is out of range.
        UserError: the device, the data set or the task does not exist.
    """
    rates = rising(lowest, highest, steps)
    device = device_named(settings.device)
    factory = named_task(settings, device, data_dir)
    rises = []
    with random_state.untouched(device), algorithms(settings):
        for number in range(seeds):
            learner = Learner(replace(settings, seed=settings.seed + number), factory, device, Ranks())
            tell = after(number * steps, seeds * steps, progress)
            with closing(learner):
                rises.append(rise(learner.optimizer, learner.model, learner.loss, Epochs(learner), rates, tell))
    return RangeTest.of(rates, rises)


class Epochs:
    """The batches of one epoch; each epoch has a new order. A smaller last batch is left out."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def __iter__(self) -> Iterator[Pair]:
        """One epoch."""
        learner = self._learner
        order = torch.randperm(len(learner.train), generator=learner.draws)
        batch = min(learner.settings.batch, len(order))
        whole = [places for places in order.split(batch) if len(places) == batch]
        return learner.train.batches(whole, learner.draws)
