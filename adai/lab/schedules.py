"""The learning rate over a run, as a factor on the recipe's: warm-up, then the paper's milestones, a cosine or 1."""

import math
from typing import NamedTuple


class Schedule(NamedTuple):
    """A whole training run: its epochs, its batch, and the epochs before which the learning rate is divided by 10."""

    epochs: int
    batch: int
    milestones: tuple[int, ...]

    def factor(self, epoch: int) -> float:
        """The factor on the learning rate in an epoch, counted from 0: milestone 80 takes effect in the 81st epoch."""
        return float(10.0 ** -sum(epoch >= milestone for milestone in self.milestones))

    def scaled(self, epochs: int) -> "Schedule":
        """The schedule for a run of another length: milestones at the same fractions, rounded up to the next epoch."""
        milestones = tuple(-(-milestone * epochs // self.epochs) for milestone in self.milestones)
        return self._replace(epochs=epochs, milestones=milestones)


# Xie et al., arXiv 2006.15815, Appendix D.1, with 200 epochs. For ImageNet the paper prints the batch, 256, and no
# milestones.
PAPER_SCHEDULES = {
    "cifar10": Schedule(epochs=200, batch=128, milestones=(80, 160)),
    "cifar100": Schedule(epochs=200, batch=128, milestones=(100, 150)),
}

KINDS = ("paper", "cosine", "constant")


def factor(step: int, *, kind: str, task: str, epochs: int, steps: int, warmup: int) -> float:
    """The factor on the learning rate in a step; steps count from 0.

    It rises linearly over the warm-up, which lasts at most half of the run. Then it follows the paper's milestones for
    the task (``paper``), a cosine to 0 at the end (``cosine``), or stays 1.

    Args:
        step: from 0.
        kind: one of `KINDS`.
        task: the data set's name, for ``paper``.
        epochs: of the whole run.
        steps: of the whole run.
        warmup: steps of the warm-up.
    """
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "paper":
        return PAPER_SCHEDULES[task].scaled(epochs).factor(step // (steps // epochs))
    if kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))
    return 1.0
