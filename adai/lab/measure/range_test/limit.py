"""The largest stable learning rate at the start of training, by theory."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from adai.errors import UserError
from adai.lab.measure.stability.margin import stability
from adai.optim import Adai

# Optimizers whose first steps are those of gradient descent. Adam and similar optimizers divide the first step by the
# gradient itself: the limit with that preconditioner is far below rates that train, because the next step has another
# preconditioner.
_PLAIN_AT_FIRST = (Adai, SGD)


def limit_at(
    optimizer: Optimizer, model: nn.Module, loss: Callable[[Any, Any], Tensor], batch: tuple[Any, Any]
) -> float | None:
    """The largest stable rate of the next step on this batch, if the optimizer starts like gradient descent.

    It is None for other optimizers, and if the curvature cannot be computed: the inputs are not a tensor, or the loss
    has no second derivatives.
    """
    if not isinstance(optimizer, _PLAIN_AT_FIRST):
        return None
    try:
        return stability(optimizer, model, loss, batch).largest_lr
    except (UserError, ValueError, RuntimeError):
        return None
