"""The metrics of a run: loss and errors over a pass, the norm of the gradient, and numbers of the optimizer's state."""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from adai.lab.host.ranks import Ranks
from adai.lab.results.run import Row
from adai.lab.tasks.metric import Metric
from adai.lab.tasks.targets import Counted, is_classification
from adai.optim import Adai
from adai.optim.shared.mean import accumulator

TOP = 5
SAMPLE = 100_000  # the number of elements for the quantiles of the inertia
QUANTILES = {"01": 0.01, "10": 0.1, "50": 0.5, "90": 0.9, "99": 0.99}

PLAIN = Counted(cross_entropy)


class Means(NamedTuple):
    """The results of a pass: number of examples, mean loss, errors in percent, and the task's metric.

    Errors are None if the targets are not classes; the metric is None if the task has none.
    """

    examples: float
    loss: float
    error: float | None
    error_top: float | None
    metric: float | None = None


class Tally:
    """Sums of loss and errors over a pass, on the device, so that the host waits only at the end.

    Args:
        device: the device of the outputs.
        top: whether to count also how often the right class is not among the five most likely ones.
        counted: the loss, which determines the targets that count. The others are neither right nor wrong.
        metric: the task's own metric, or None.
    """

    def __init__(
        self, device: torch.device, *, top: bool = False, counted: Counted = PLAIN, metric: Metric | None = None
    ) -> None:
        # 0 examples, 1 loss, 2 its weight, 3 answers, 4 wrong, 5 not among the five, 6 metric, 7 its weight
        self.sums = torch.zeros(8, device=device, dtype=accumulator(device))
        self.metric = metric
        self.top = top
        self.counted = counted

    def clear(self) -> None:
        """Begin a new pass, with the same tensors."""
        self.sums.zero_()

    @torch.no_grad()
    def add(self, loss: Tensor, outputs: Any, targets: Tensor) -> None:
        """Add a batch: its mean loss, the model's outputs and the targets."""
        weight = self.counted.weight(targets)
        self.sums[0] += len(targets)
        self.sums[1] += loss * weight
        self.sums[2] += weight
        if self.counted.scored and is_classification(outputs, targets):
            counts = self.counted.counts(targets)
            self.sums[3] += counts.sum()
            self.sums[4] += ((outputs.argmax(dim=1) != targets) & counts).sum()
            if self.top:
                likeliest = outputs.topk(min(TOP, outputs.shape[1]), dim=1).indices
                self.sums[5] += ((likeliest != targets.unsqueeze(1)).all(dim=1) & counts).sum()
        if self.metric:
            total, of = self.metric.sums(outputs, self.counted.marked(targets))
            self.sums[6] += total
            self.sums[7] += of

    def means(self, ranks: Ranks) -> Means:
        """The means over all processes; the loss is nan if no target counts."""
        examples, loss, weight, answers, wrong, wrong_top, *own = ranks.total(self.sums).tolist()
        mean = loss / weight if weight else math.nan
        metric = self.metric.over(*own) if self.metric else None
        if answers == 0:
            return Means(examples, mean, None, None, metric)
        return Means(examples, mean, 100 * wrong / answers, 100 * wrong_top / answers, metric)


class Frequencies:
    """The frequency of each class among the targets, counted on the device.

    Args:
        counted: the loss, which determines the targets that count.
    """

    def __init__(self, counted: Counted) -> None:
        self.counted = counted
        self.counts: Tensor | None = None

    @torch.no_grad()
    def add(self, outputs: Any, targets: Tensor) -> None:
        """Add a batch."""
        if self.counted.scored and is_classification(outputs, targets):
            classes = outputs.shape[1]
            inside = self.counted.counts(targets) & (targets >= 0) & (targets < classes)
            counts = torch.bincount(targets[inside].flatten(), minlength=classes)
            self.counts = counts if self.counts is None else self.counts + counts

    def chance_error(self, ranks: Ranks) -> float | None:
        """The error of always answering the most frequent class, in percent, over all processes; None if no classes."""
        # A process that had no examples does not know the classes.
        parts = [part for part in ranks.gathered(self.counts.tolist() if self.counts is not None else None) if part]
        counts = [sum(column) for column in zip(*parts, strict=True)]
        return 100 * (1 - max(counts) / sum(counts)) if any(counts) else None


def gradient_norm(parameters: Iterable[Parameter]) -> Tensor:
    """The norm of the gradient over all parameters, 0-dim, without waiting for the device."""
    norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
    norm: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return norm


def state_bytes(optimizer: Optimizer) -> int:
    """The memory of the optimizer's state, in bytes."""
    return sum(
        tensor.numel() * tensor.element_size() for state in optimizer.state.values() for tensor in _tensors(state)
    )


def _tensors(state: Any) -> Iterator[Tensor]:
    """The tensors of a state, also those in containers: L-BFGS keeps lists."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping):
        yield from chain.from_iterable(map(_tensors, state.values()))
    elif isinstance(state, list | tuple):
        yield from chain.from_iterable(map(_tensors, state))


def inertia(optimizer: Optimizer) -> Row:
    """The mean of v̂ and quantiles of the inertia μ over all elements, for Adai and AdaiW; empty for other optimizers.

    If there are more than 100,000 elements, the quantiles are over 100,000 of them, which are drawn with a fixed seed
    and are the same in each call.
    """
    if not isinstance(optimizer, Adai):
        return {}
    params = [p for p, state in optimizer.state.items() if state.get("step", 0)]
    if not params:
        return {}
    mean = optimizer.v_mean()
    mu = torch.cat([optimizer.inertia(p, mean).flatten() for p in params])
    elements = len(mu)
    if elements > SAMPLE:
        some = torch.randint(elements, (SAMPLE,), generator=torch.Generator().manual_seed(0))
        mu = mu[some.to(mu.device)]
    at = torch.quantile(mu, torch.tensor(list(QUANTILES.values()), dtype=mu.dtype, device=mu.device)).tolist()
    return {"v_hat_mean": mean} | {f"inertia_{name}": q for name, q in zip(QUANTILES, at, strict=True)}
