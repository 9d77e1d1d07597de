"""What a `torch.amp.GradScaler` tells the optimizer: the scale of the gradients, and whether to leave the step out."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.rule import Mean
from adai.optim.shared.mean import accumulator


class Scaled(NamedTuple):
    """The two attributes ``grad_scale`` and ``found_inf`` that the scaler sets for the duration of a step."""

    inverse: Any
    """1 / scale, a number where the scale is on the host; None where gradients are not scaled."""
    skip: bool | Tensor
    """Whether a gradient is infinite or nan; a tensor, other than 0 then, where the host shall not ask."""

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, *, on_device: bool) -> "Scaled":
        """Read them off; ``on_device`` keeps the host from asking whether to skip."""
        scale, found = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        inverse = None
        if scale is not None:
            inverse = 1 / scale.item() if scale.is_cpu else scale.to(accumulator(scale.device)).reciprocal()
        if found is None:
            return cls(inverse, False)
        return cls(inverse, found if on_device else bool(found.item()))

    def gated(self, mean: Mean) -> Mean:
        """The mean, not alive where the step is to be skipped."""
        if not isinstance(self.skip, Tensor):
            return mean
        go = (self.skip == 0).to(accumulator(self.skip.device))
        return Mean(mean.value, go if mean.alive is None else mean.alive * go.to(mean.alive.device))
