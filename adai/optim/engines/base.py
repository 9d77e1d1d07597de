"""What an engine is: the one contract that all of them keep."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from adai.optim.engines.batch import Batch
from adai.optim.hyper import Hyper
from adai.optim.rule import Count, Mean


class Engine(Protocol):
    """A way to carry out the rule for the tensors of one group.

    In each step `prepare` is called first, then `squares` if gradients are clipped, then `accumulate` and `update`.
    With ``mean="previous"`` `total_before` is called before `accumulate`, and `accumulate` only where not `one_pass`.
    All of them get the same ``batch`` and ``hyper``. ``counts`` holds the count of each tensor, and ``clip`` the factor
    of clipping, None for none. An engine may keep whatever it likes from step to step, but no gradient.
    """

    on_device: bool
    """Whether, after `prepare`, the step count and whether to step at all are read on the device.

    ``counts`` may be empty then, and `Mean.alive` may say that the step is to be left out.
    """

    one_pass: bool
    """Whether `update` takes the gradients in, so that `accumulate` is needed for its sum alone."""

    def prepare(self, batch: Batch, states: Sequence[dict[str, Any]], hyper: Hyper, /) -> str | None:
        """Get ready for a step; returns why these tensors cannot be stepped by this engine, or None.

        Args:
            batch: the tensors; gradients may be replaced by copies that suit the engine.
            states: the parameters' state dicts in the batch's order; empty under `torch.compile`.
            hyper: the group's numbers.

        Raises:
            RuntimeError: a gradient or the state has another shape than its parameter.
        """
        ...

    def squares(self, batch: Batch, hyper: Hyper, /) -> Tensor:
        """Σ g² of the gradients as they are, 0-dim."""
        ...

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], /) -> Tensor:
        """Σ v̂ of the step before, 0-dim, over the tensors of the batch that had one."""
        ...

    def accumulate(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, /) -> Tensor:
        """Take the gradients in; returns Σ v̂ of this step over the batch, 0-dim."""
        ...

    def update(self, batch: Batch, hyper: Hyper, counts: Sequence[Count], clip: Any, mean: Mean, /) -> None:
        """Move every parameter of the batch, given the mean of v̂, and count the step."""
        ...
