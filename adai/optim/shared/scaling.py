"""What a `torch.amp.GradScaler` tells the optimizer: the scale of the gradients, and whether to skip the step."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.rule import Mean
from adai.optim.shared.mean import accumulator


class Scaled(NamedTuple):
    """The values of ``grad_scale`` and ``found_inf``, which the scaler sets on the optimizer during a step."""

    inverse: Any
    """1 / scale, as a number if the scale is on the host; None if gradients are not scaled."""
    skip: bool | Tensor
    """Whether a gradient is infinite or nan. If the host must not read it: a tensor, which is not 0 in that case."""

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, *, on_device: bool) -> "Scaled":
        """Read the attributes of the optimizer. With ``on_device`` the host does not read whether to skip."""
        scale, found = getattr(optimizer, "grad_scale", None), getattr(optimizer, "found_inf", None)
        inverse = None
        if scale is not None:
            inverse = 1 / scale.item() if scale.is_cpu else scale.to(accumulator(scale.device)).reciprocal()
        if found is None:
            return cls(inverse, False)
        return cls(inverse, found if on_device else bool(found.item()))

    def gated(self, mean: Mean) -> Mean:
        """The mean, with `Mean.alive` 0 if the step is to be skipped."""
        if not isinstance(self.skip, Tensor):
            return mean
        go = (self.skip == 0).to(accumulator(self.skip.device))
        return Mean(mean.value, go if mean.alive is None else mean.alive * go.to(mean.alive.device))
