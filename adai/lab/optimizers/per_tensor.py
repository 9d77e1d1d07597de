"""The base of the optimizers that are written here: a rule that updates each tensor by itself."""

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class PerTensorOptimizer(Optimizer):
    """An optimizer with L2 weight decay. A subclass defines the state in `_start` and the update in `_move`.

    It is for baselines of a comparison: it has no foreach, and takes no sparse or complex gradients.
    """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Perform a single optimization step.

        Args:
            closure: reevaluates the model and returns the loss; it runs with gradients enabled.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state.update(self._start(p, group))
                self._move(p, p.grad.add(p, alpha=group["weight_decay"]), state, group)
        return loss

    def _start(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        raise NotImplementedError

    def _move(self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Update p and its state in place; g is the gradient of the loss and the penalty, not the tensor ``p.grad``."""
        raise NotImplementedError
