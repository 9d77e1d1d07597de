"""The loss and gradients of a batch, for optimizers that evaluate them several times in a step: L-BFGS, SAM."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adai.lab.host import random_state


class Closure:
    """The closure that `torch.optim.Optimizer.step` takes.

    Create it before the first forward pass of the batch, and call `evaluate` first. Each later call by the optimizer
    returns the loss of the same batch at the current parameters, and sets the gradients to those at the current
    parameters. It uses the same random numbers, for example for dropout. If neither parameters nor gradients have
    changed since the last evaluation, as in the first call by L-BFGS, nothing is computed again. Buffers, such as the
    running statistics of batch norm, are updated only once for each batch.

    Args:
        parameters: the parameters that the loss depends on.
        buffers: the buffers that an evaluation writes to.
        evaluate: sets the gradients to those of the batch, and returns its mean loss, a tensor with one element.

    Attributes:
        evaluations: the number of evaluations so far.
    """

    def __init__(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], evaluate: Callable[[], Tensor]) -> None:
        self.evaluations = 0
        self._parameters, self._buffers, self._evaluate = parameters, buffers, evaluate
        self._device = parameters[0].device if parameters else torch.device("cpu")
        self._random = random_state.get(self._device)

    def evaluate(self) -> Tensor:
        """Evaluate the batch for the first time."""
        with torch.enable_grad():
            self._loss = self._evaluate().detach()
        self.evaluations += 1
        self._remember()
        return self._loss

    def __call__(self) -> Tensor:
        """Compute the loss of the batch at the current parameters, and set the gradients."""
        if not self._unchanged():
            buffers = [buffer.clone() for buffer in self._buffers]
            with random_state.untouched(self._device):
                random_state.put(self._random, self._device)
                self.evaluate()
            with torch.no_grad():
                for buffer, before in zip(self._buffers, buffers, strict=True):
                    buffer.copy_(before)
        return self._loss

    def _remember(self) -> None:
        self._at = [p.detach().clone() for p in self._parameters]
        self._gradients = [(p.grad, _version(p.grad)) for p in self._parameters]

    def _unchanged(self) -> bool:
        # Parameters are compared by value, because writing to ``p.data`` does not change the version.
        same = all(
            p.grad is grad and _version(grad) == version
            for p, (grad, version) in zip(self._parameters, self._gradients, strict=True)
        )
        return same and all(torch.equal(p, before) for p, before in zip(self._parameters, self._at, strict=True))


def _version(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor._version
