"""`find_lr`: the learning-rate range test of a model of your own."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.measure.range_test.limit import limit_at
from adai.lab.measure.range_test.restored import generators, restored, trained
from adai.lab.measure.range_test.result import RangeTest, Rise, RunningMean
from adai.lab.training import tryout
from adai.lab.training.closure import Closure

LOWEST, HIGHEST, STEPS, SEEDS = 1e-6, 100.0, 200, 3
FEWEST_STEPS = 20

# Called after every step with the number of steps done and their largest possible number.
Progress = Callable[[int, int], None]


def find_lr(
    optimizer: Optimizer,
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    *,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    steps: int = STEPS,
    seeds: int = SEEDS,
    progress: Progress = lambda done, total: None,
) -> RangeTest:
    """Train while the learning rate rises exponentially, until the loss blows up; then restore everything.

    Use it to find the learning rate of an optimizer and a model. In step i = 0, …, steps − 1 the rate is
    lowest · (highest / lowest)^(i / (steps − 1)). A test ends when the loss has blown up (`RunningMean`). `RangeTest`
    explains the suggested rate and the role of a warm-up. Everything is restored, also after an exception: see
    `adai.lab.measure.range_test.restored`.

    **When not to use it.** It does not show how well a model trained at a rate generalises: for that compare whole
    runs (`adai.lab.compare` with ``tune``). It does not support gradient scalers or several processes.

    Args:
        optimizer: any optimizer. Its groups keep the ratios of their rates; the reported rate is that of the first
            group. ``warmup_steps`` of Adai is 0 during the test.
        model: is called with the inputs. If it is in evaluation mode, it is set to training mode for the test. If it is
            in training mode, its parts keep their modes, so layers that you have frozen with ``eval()`` stay frozen.
        loss: maps the model's outputs and the targets to a mean over the batch.
        data: batches of (inputs, targets): a `DataLoader`, or a list. It is iterated again whenever it ends. Tensors
            are moved to the device of the model.
        lowest: the first rate.
        highest: the last rate, if the loss does not blow up before.
        steps: the number of steps from the first rate to the last, at least 20.
        seeds: the number of tests. Each starts from the current model and state, with the global random generators and
            those of a `DataLoader` seeded 0, 1, …: order, dropout and augmentation vary, the first weights do not.
        progress: called after every step with the number of steps done and their largest possible number.

    Returns:
        All losses, the rate at which each test blew up, the limit by theory at the start, and the suggestion.

    Raises:
        TypeError: ``optimizer`` is not a `torch.optim.Optimizer`, or a batch is not a pair.
        ValueError: a number is out of range, the optimizer has no parameter of the model, or ``data`` has no batch.

    Source: L. N. Smith, Cyclical learning rates for training neural networks, arXiv 1506.01186; seeds and the limit
    at the start are this project's.

    Example:
        >>> import torch
        >>> from adai import Adai
        >>> from adai.lab import find_lr
        >>> x = torch.randn(64, 5)
        >>> model = torch.nn.Linear(5, 1)
        >>> test = find_lr(Adai(model.parameters()), model, torch.nn.functional.mse_loss, [(x, x.sum(1, keepdim=True))])
        >>> test.suggested < test.blow_up
        True
    """
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is {type(optimizer).__name__}; give a torch.optim.Optimizer")
    if not {*map(id, trained(optimizer))} & {*map(id, model.parameters())}:
        raise ValueError("the optimizer has no parameter of the model; make it with model.parameters()")
    if seeds < 1:
        raise ValueError(f"seeds = {seeds}; it has to be at least 1")
    rates = rising(lowest, highest, steps)
    modules = [module for module in (model, loss) if isinstance(module, nn.Module)]
    rises = []
    for seed in range(seeds):
        with restored(optimizer, *modules, data=data):
            random_state.seed(seed)
            for generator in generators(data):
                generator.manual_seed(seed)
            tell = after(seed * steps, seeds * steps, progress)
            rises.append(rise(optimizer, model, loss, data, rates, tell))
    return RangeTest.of(rates, rises)


def rising(lowest: float, highest: float, steps: int) -> NDArray[np.float64]:
    """The rates of a test, each the same factor above the one before.

    Raises:
        ValueError: a number is out of range.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"rates from {lowest:g} to {highest:g}; they have to rise, and the first to be above 0")
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps = {steps}; a range test takes at least {FEWEST_STEPS}")
    return np.geomspace(lowest, highest, steps)


def after(before: int, total: int, progress: Progress) -> Callable[[int], None]:
    """The progress function of one of several tests; ``before`` is the number of steps of the tests before it."""
    return lambda done: progress(before + done, total)


def rise(
    optimizer: Optimizer,
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    data: Iterable[Any],
    rates: NDArray[np.float64],
    stepped: Callable[[int], None],
) -> Rise:
    """Run one test without restoring anything: train one step at each rate until the loss blows up.

    Args:
        optimizer: as for `find_lr`.
        model: as for `find_lr`.
        loss: as for `find_lr`.
        data: as for `find_lr`.
        rates: one per step.
        stepped: called after every step with the number of steps done.
    """
    set_rate = _Rate(optimizer)
    if not model.training:
        model.train()
    tryout.train(optimizer)
    device = next(model.parameters()).device
    batches = _without_end(data)
    limit: float | None = None
    mean, losses = RunningMean(), []
    for done, (rate, batch) in enumerate(zip(rates, batches, strict=False), start=1):
        inputs, targets = _pair(batch, device)
        set_rate(float(rate))
        if done == 1:
            limit = limit_at(optimizer, model, loss, (inputs, targets))
        losses.append(_step(optimizer, model, loss, inputs, targets))
        stepped(done)
        if mean.blown_up_by(losses[-1]):
            return Rise(losses, float(rate), limit)
    return Rise(losses, None, limit)


class _Rate:
    """Sets the learning rates of all groups and keeps their ratios.

    If there is a scheduler, the ratios are those of the rates that it started from, because its current rate may be 0.
    The optimizer's own warm-up, such as Adai's, is off: otherwise its steps would use less than the rate.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._groups = optimizer.param_groups
        if not all("lr" in group for group in self._groups):
            raise UserError(f"{type(optimizer).__name__} has no learning rate that could rise; take another optimizer")
        own = [float(group.get("initial_lr", group["lr"])) for group in self._groups]
        first = next((rate for rate in own if rate > 0), 0.0)
        self._ratios = [rate / first if first else 1.0 for rate in own]

    def __call__(self, rate: float) -> None:
        for group, ratio in zip(self._groups, self._ratios, strict=True):
            if "warmup_steps" in group:
                group["warmup_steps"] = 0
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * ratio)
            else:
                group["lr"] = rate * ratio


def _step(
    optimizer: Optimizer, model: nn.Module, loss: Callable[[Any, Any], Tensor], inputs: Any, targets: Any
) -> float:
    """Take one step, with a closure for the optimizers that need one. Returns the loss before the step."""
    parameters = list(dict.fromkeys([*model.parameters(), *trained(optimizer)]))

    def evaluate() -> Tensor:
        for param in parameters:
            param.grad = None  # not set to 0 in place: the gradients from before the test are restored later
        value = loss(model(inputs), targets)
        value.backward()
        return value

    closure = Closure(parameters, list(model.buffers()), evaluate)
    before = closure.evaluate().item()
    optimizer.step(closure)  # type: ignore[arg-type]  # torch's annotation: a closure returns a float
    return before


def _without_end(data: Iterable[Any]) -> Iterator[Any]:
    """The batches, repeated without end."""
    while True:
        empty = True
        for batch in data:
            empty = False
            yield batch
        if empty:
            raise ValueError(
                "data has no batch, or none is left; give a DataLoader or a list, which can be iterated again"
            )


def _pair(batch: Any, device: torch.device) -> tuple[Any, Any]:
    """Inputs and targets on the device."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"a batch is {type(batch).__name__}; give pairs of inputs and targets")
    inputs, targets = (part.to(device) if isinstance(part, Tensor) else part for part in batch)
    return inputs, targets
