"""Which targets a loss counts, and with which weight. A mean over several batches needs these weights."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, nll_loss

from adai.errors import UserError

Loss = Callable[[Any, Tensor], Tensor]

IGNORED = -100
"""The default ``ignore_index`` of torch's cross_entropy and nll_loss; the target that no metric counts."""


class Counted:
    """A loss that is a mean over a batch, L = Σ w_i l_i / Σ w_i, and the weights w_i of the targets in it.

    For `torch.nn.functional.cross_entropy` and ``nll_loss``, their modules, and `functools.partial` of them, w_i is the
    class's weight, 1 by default, and 0 if the target is ``ignore_index``. A loss of your own with an attribute
    ``ignore_index`` ignores these targets too. For every other loss w_i is 1 for each example.

    Args:
        loss: of a batch's outputs and targets.

    Raises:
        UserError: the loss is a sum over the batch, or has one number for each example.
    """

    def __init__(self, loss: Loss) -> None:
        told = loss.keywords if isinstance(loss, partial) else {}
        function = loss.func if isinstance(loss, partial) else loss
        self.of_classes = function in (cross_entropy, nll_loss) or isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
        self.scored = True
        """Whether errors are counted if outputs look like scores of classes and targets like their indices."""
        usual = IGNORED if function in (cross_entropy, nll_loss) else None
        self.loss = loss
        self.ignored: int | None = told.get("ignore_index", getattr(function, "ignore_index", usual))
        weight = told.get("weight", getattr(loss, "weight", None)) if self.of_classes else None
        self.weights: Tensor | None = weight
        reduction = told.get("reduction", getattr(loss, "reduction", "mean"))
        if reduction != "mean" and (self.of_classes or isinstance(loss, nn.modules.loss._Loss)):
            raise UserError(f"the loss has reduction={reduction!r}; it has to be the mean over the batch")

    def counts(self, targets: Tensor) -> Tensor:
        """A mask of the targets that count, in the targets' shape."""
        if self.ignored is None or targets.is_floating_point():
            return torch.ones_like(targets, dtype=torch.bool)
        return targets != self.ignored

    def marked(self, targets: Tensor) -> Tensor:
        """The targets, with `IGNORED` in place of those that do not count."""
        if self.ignored in (None, IGNORED) or targets.is_floating_point():
            return targets
        return targets.masked_fill(targets == self.ignored, IGNORED)

    def weight(self, targets: Tensor) -> Tensor | int:
        """Σ w_i over the targets: the weight of their mean loss in a mean over several batches.

        It is a plain number if it depends only on the number of targets.
        """
        if targets.is_floating_point() or (self.ignored is None and self.weights is None):
            return len(targets)
        counts = self.counts(targets)
        if self.weights is None:
            return counts.sum()
        weights = self.weights.to(targets.device)
        return (weights[targets.masked_fill(~counts, 0)] * counts).sum()

    def may_leave_out(self, targets: Tensor | None) -> bool:
        """Whether the targets may have different weights; give None if the targets are not known yet."""
        if self.weights is not None or self.ignored is None or targets is None:
            return self.weights is not None or self.ignored is not None
        return not bool(self.counts(targets).all())

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        """The mean. If no target counts it is 0, with a gradient of 0, while torch's losses give nan."""
        if not self.of_classes or targets.is_floating_point():
            return self.loss(outputs, targets)
        return self._sum(outputs, targets) / torch.as_tensor(self.weight(targets)).clamp_min(_TINY)

    def _sum(self, outputs: Any, targets: Tensor) -> Tensor:
        if isinstance(self.loss, nn.Module):
            loss = copy.copy(self.loss)
            cast(Any, loss).reduction = "sum"
            return cast(Tensor, loss(outputs, targets))
        return cast(Any, self.loss)(outputs, targets, reduction="sum")  # type: ignore[no-any-return]

    def check(self, outputs: Any, targets: Tensor) -> None:
        """Check that the targets are classes that the outputs score.

        On a GPU a wrong target would end the process. With a loss of your own the targets may be something other than
        classes; then no errors are counted.

        Raises:
            UserError: a target is not a class, and the loss is one of torch's losses for classes.
        """
        if not is_classification(outputs, targets):
            return
        classes = outputs.shape[1]
        wrong = targets[self.counts(targets) & ((targets < 0) | (targets >= classes))]
        if len(wrong) and not self.of_classes:
            self.scored = False
        elif len(wrong):
            raise UserError(
                f"{len(wrong)} of {targets.numel()} targets are not classes, such as {wrong[0].item()}: the model "
                f"scores the {classes} classes 0 to {classes - 1}, and the loss ignores {self.ignored}"
            )


_TINY = 1e-30


def is_classification(outputs: Any, targets: Tensor) -> bool:
    """Whether the outputs (N, classes, …) are scores for integer targets (N, …)."""
    return isinstance(outputs, Tensor) and outputs.dim() == targets.dim() + 1 and not targets.is_floating_point()
