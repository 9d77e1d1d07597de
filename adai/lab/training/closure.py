"""The loss and gradient of one batch, for optimizers that evaluate them several times in a step: L-BFGS, SAM."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adai.lab.host import random_state


class Closure:
    """What `torch.optim.Optimizer.step` takes. Make it before the batch goes through the model for the first time.

    Call `evaluate` first. Then each call by the optimizer gives the loss, and leaves the gradients, of the same batch
    with the same random numbers (dropout, for example) at the parameters as they are at that moment. A call is free
    where neither parameters nor gradients have changed since the last evaluation, which is how L-BFGS begins a step.
    Buffers, such as batch norm's running statistics, take the batch in once.

    Args:
        parameters: those that the evaluation depends on.
        buffers: those that it writes to.
        evaluate: sets the gradients to those of the batch, and returns its mean loss, a tensor with one element.

    Attributes:
        evaluations: how many there have been.
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
        """The loss of the batch at the parameters as they are, whose gradients are then in place."""
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
        # Parameters are compared by value: whoever writes to ``p.data`` leaves the version as it was.
        same = all(
            p.grad is grad and _version(grad) == version
            for p, (grad, version) in zip(self._parameters, self._gradients, strict=True)
        )
        return same and all(torch.equal(p, before) for p, before in zip(self._parameters, self._at, strict=True))


def _version(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor._version
