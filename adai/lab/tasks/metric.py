"""Metrics: the number by which optimizers are compared on a task, computed over all batches of a pass."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.functional import cross_entropy

from adai.lab.tasks.targets import IGNORED

# The total of a batch and its weight. Both are added up over batches and processes.
Sums = tuple[Tensor, Tensor | int]


def itself(mean: float) -> float:
    """The mean unchanged."""
    return mean


class Metric(NamedTuple):
    """A number for the quality of a model on a task.

    The metric of a data set is ``value(Σ totals / Σ weights)`` over its batches, so it does not depend on how the
    examples are split into batches or processes.

    Args:
        name: its name in sentences, such as ``error`` or ``RMSE``.
        unit: the unit of a value, such as ``%``; may be empty.
        sums: takes a batch's outputs and targets, and returns its total (0-dim) and its weight. A target that the
            task's loss ignores is −100, whatever the loss's ``ignore_index`` is: leave it out of both.
        value: maps the mean to the metric; ``math.sqrt`` for RMSE. It has to be increasing.
        lower_is_better: whether lower values are better.
        digits: the number of digits after the decimal point in tables.

    Example:
        >>> import torch
        >>> from adai.lab.tasks.metric import accuracy
        >>> total, weight = accuracy.sums(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
        >>> accuracy.value(float(total) / weight)
        50.0
    """

    name: str
    unit: str
    sums: Callable[[Any, Tensor], Sums]
    value: Callable[[float], float] = itself
    lower_is_better: bool = True
    digits: int = 2

    def about(self) -> dict[str, Any]:
        """The description of the metric that a run keeps, as JSON stores it."""
        return {
            "name": self.name,
            "unit": self.unit,
            "lower_is_better": self.lower_is_better,
            "digits": self.digits,
        }

    def over(self, total: float, weight: float) -> float | None:
        """The value from the sums over all batches; None if no target counts."""
        return self.value(total / weight) if weight else None


def _right(outputs: Tensor, targets: Tensor) -> Sums:
    return (outputs.argmax(dim=1) == targets).sum(), _count(targets)


def _wrong(outputs: Tensor, targets: Tensor) -> Sums:
    return ((outputs.argmax(dim=1) != targets) & (targets != IGNORED)).sum(), _count(targets)


def _nats(outputs: Tensor, targets: Tensor) -> Sums:
    return cross_entropy(outputs.float(), targets, reduction="sum", ignore_index=IGNORED), _count(targets)


def _count(targets: Tensor) -> Tensor:
    return (targets != IGNORED).sum()


def _squares(outputs: Tensor, targets: Tensor) -> Sums:
    return (outputs.float() - targets).square().sum(), targets.numel()


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700 else math.inf


def _percent(share: float) -> float:
    return 100 * share


def _bits(nats: float) -> float:
    return nats / math.log(2)


def _root(scale: float, mean: float) -> float:
    return scale * math.sqrt(mean)


error = Metric("error", "%", _wrong, _percent)
"""The share of targets that do not have the highest score: outputs (N, classes, …), targets (N, …)."""

accuracy = Metric("accuracy", "%", _right, _percent, lower_is_better=False)
"""The share of targets that have the highest score."""

bits = Metric("bits a token", "", _nats, _bits, digits=3)
"""The mean cross-entropy in bits: outputs (N, classes, …), targets (N, …)."""

perplexity = Metric("perplexity", "", _nats, _exp)
"""exp of the mean cross-entropy in nats."""


def rmse(scale: float = 1.0, unit: str = "") -> Metric:
    """The root of the mean squared difference between outputs and targets, which have the same shape.

    Args:
        scale: a factor; the standard deviation of the targets if they were divided by it.
        unit: the unit of the result.
    """
    return Metric("RMSE", unit, _squares, partial(_root, scale))
