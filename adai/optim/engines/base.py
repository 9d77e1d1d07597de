"""The interface of the engines."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from adai.optim.engines.batch import Batch
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean


class Engine(Protocol):
    """An implementation of the rule for the tensors of one group.

    Each step calls `prepare`, then `squares`, and `factor` of one of the engines, if gradients are clipped, then
    `accumulate`, then `mean` of one of the engines, then `update`. With ``mean="previous"`` it calls `mean_before` of
    one of the engines or, if that cannot decide, `total_before` of each; and then `accumulate` only if the engine is
    not `one_pass`. All these calls get the same ``batch`` and ``hyper``. ``counts`` contains the count of each tensor,
    and ``clip`` is the factor that clips the gradients, or None. An engine may keep anything from one step to the next,
    except gradients.
    """

    on_device: bool
    """Whether the step counts, and whether to skip the step, are read on the device. Valid after `prepare`.

    If so, ``counts`` may be empty, and `Mean.alive` may tell the engine to skip the step.
    """

    one_pass: bool
    """Whether `update` also updates v, so that `accumulate` is only needed for the sum that it returns."""
    ts: list[float] | None
    """The count of each tensor in this step, if the engine has a fast way to know it. Valid after `prepare`."""
    elements: int | None
    """The number of elements of the batch, likewise."""

    def prepare(self, batch: Batch, owners: Batch, hyper: Hyper, /) -> str | None:
        """Prepare a step; return None, or the reason why this engine cannot work on these tensors.

        Args:
            batch: the tensors. The engine may replace gradients in it by copies.
            owners: the same tensors as the optimizer has them, of which those of the batch may be views or the parts
                on this process; ``batch`` itself if they are neither.
            hyper: the group's numbers.

        Raises:
            RuntimeError: a gradient or a state tensor has another shape than its parameter.
        """
        ...

    def squares(self, batch: Batch, hyper: Hyper, /) -> Tensor:
        """Numbers, 0-dim or 1-dim, whose sum is Σ g² of the raw gradients."""
        ...

    def factor(self, squares: Sequence[Tensor], limit: float, unscale: Any, /) -> Tensor | None:
        """The factor of clipping, computed on the device in a single operation; None if this engine cannot do that.

        Args:
            squares: the results of `squares` for all batches, including those of other engines.
            limit: the norm to clip to.
            unscale: the factor that removes the scale of a `torch.amp.GradScaler` from the gradients, or None.
        """
        ...

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], /) -> Tensor:
        """Σ v̂ of the step before, 0-dim, over those tensors of the batch that took part in it."""
        ...

    def mean_before(self, engines: "Sequence[Engine]", clips: Sequence[Any], /) -> Mean | None:
        """The mean of v̂ of the step before, or of this step if that is 0 or there was none, decided on the device.

        It is None if this engine cannot do that together with the others.

        Args:
            engines: all engines that take part in this step.
            clips: the factor on the gradients of each.
        """
        ...

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, /) -> Tensor:
        """Read the gradients; return numbers, 0-dim or 1-dim, whose sum is Σ v̂ of this step over the batch."""
        ...

    def mean(self, hats: Sequence[Tensor], elements: int, /) -> Mean | None:
        """The mean of v̂, computed on the device in a single operation; None if this engine cannot do that.

        Args:
            hats: the results of `accumulate` for all batches, including those of other engines.
            elements: the number of elements of all batches.
        """
        ...

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean, /) -> None:
        """Update every parameter of the batch with the mean of v̂, and count the step."""
        ...
