"""One mean of v̂ for several optimizers, or for one that steps its parameters one by one."""

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adai.optim.hyper import Hyper
from adai.optim.rule import Mean, weight
from adai.optim.saving.state import step_counts
from adai.optim.shared.inertia import v_hats
from adai.optim.shared.mean import total


class Coupled(NamedTuple):
    """What a step needs to know of the other optimizers that share its mean."""

    mean: Mean | None
    """The mean of v̂ of the round before; None in the first round."""


class Coupling:
    r"""One mean of v̂ for several optimizers of one model.

    Adai's rule needs the mean of v̂ over all parameters of a model, but some tools make an optimizer for each parameter:
    torchao's CPU offload, or `torch.distributed.optim._apply_optimizer_in_backward`. Give the same ``Coupling`` to all
    of these optimizers, and together they train as one optimizer with ``mean="previous"`` does: they divide v̂ by the
    mean of the round before. A new round begins when a parameter is about to move a second time. The mean is over all
    parameters of all the optimizers that have taken a step. One that you freeze still counts, until you remove it from
    its optimizer's group.

    The first round has no round before it. It moves the parameters exactly all the same, because
    :math:`\hat m_1 = g_1` whatever the inertia is. When the second round begins, the mean of the first is known, and
    :math:`m_1` and :math:`1 - \mu_1` get their values.

    **When not to use it.** One optimizer over all parameters is the exact rule, and faster: here each round reads
    every v once more. To step one optimizer within the backward pass, use `adai.optim.in_backward`.

    It is not saved: after loading a checkpoint the mean follows from the state.

    Example:
        >>> coupling = Coupling()
        >>> options = {"lr": 1.0, "min_inertia": 0.9, "warmup_steps": 100}
        >>> optimizers = [Adai([p], **options, coupling=coupling) for p in model.parameters()]
    """

    def __init__(self) -> None:
        self._optimizers: weakref.WeakSet[Optimizer] = weakref.WeakSet()
        self._mean: Mean | None = None
        self._moved: set[int] | None = None
        """The ids of the parameters that have moved in this round; None before the first."""
        self._lock = threading.Lock()  # autograd calls hooks from one thread for each device

    def join(self, optimizer: Optimizer) -> None:
        """Let the mean be over the parameters of this optimizer too."""
        self._optimizers.add(optimizer)

    def enter(self, params: Sequence[Tensor]) -> Coupled:
        """Let these parameters take a step in this round or, where one of them has taken one already, in a new one."""
        moving = set(map(id, params))
        with self._lock:
            if self._moved is None or self._moved & moving:
                self._begin_round()
                self._moved = set()
            self._moved |= moving
            return Coupled(self._mean)

    def complete(self) -> None:
        """Give the state of the first round its values, once all have moved; later there is nothing to do."""
        with self._lock:
            if self._in_first_round():
                self._begin_round()

    def _in_first_round(self) -> bool:
        return max(step_counts([state["step"] for _, state in _states(self._optimizers)]), default=0) <= 1

    @torch.no_grad()
    def _begin_round(self) -> None:
        hats, elements, _ = v_hats(self._optimizers)
        v_mean = total(hats).item() / sum(elements) if hats else 0.0
        self._mean = Mean(v_mean) if v_mean else None
        if not self._in_first_round():
            return
        for hyper, state in _states(self._optimizers):
            if self._mean is None:
                _forget_step(state)
            else:
                _complete_first_step(hyper, state, self._mean)


def _states(optimizers: Iterable[Optimizer]) -> Iterator[tuple[Hyper, dict[str, Any]]]:
    """The state of every parameter that has one, with the numbers of its group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            hyper = Hyper.of(group)
            for param in group["params"]:
                state = optimizer.state.get(param, {})
                if "step" in state:
                    yield hyper, state


def _forget_step(state: dict[str, Any]) -> None:
    """Undo the step count of a first round in which every gradient was zero: such steps do not count."""
    state["step"].zero_()
    state["bias_correction"].zero_()


def _complete_first_step(hyper: Hyper, state: dict[str, Any], mean: Mean) -> None:
    """Set m_1 = w g and c_1 = w. The first round computed them with another mean, and so with another w.

    If they are right already, for example after loading a checkpoint of one optimizer, nothing changes.
    """
    m, v, c = (_wide(state[key]) for key in ("exp_avg", "exp_avg_sq", "bias_correction"))
    w = weight(
        v,
        count=hyper.count_at(1),
        mean=mean,
        beta0=hyper.beta0,
        eps=hyper.eps,
        min_inertia=hyper.min_inertia,
        dampening=1,
    )
    # c is 0 only where g is 0 and eps is 0: there m is 0 as well.
    m = m * (w / c.clamp_min(torch.finfo(c.dtype).tiny))
    for key, value in (("exp_avg", m), ("bias_correction", w)):
        kept = state[key]
        kept.copy_(torch.view_as_complex(value) if kept.is_complex() else value)


def _wide(tensor: Tensor) -> Tensor:
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
