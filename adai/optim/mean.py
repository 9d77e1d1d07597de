"""The one global number of Algorithm 2: the mean of v̂ over every parameter."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.rule import Mean


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype in which sums over many elements are kept on a device: float64 wherever there is one."""
    return torch.float32 if device.type == "mps" else torch.float64


def second_moment_mean(sums: Sequence[Tensor], bias_corrections2: Sequence[Any], elements: int) -> Tensor:
    """Mean of v̂ = v / (1 - beta2^t) over all tensors, each with its own t, as a 0-dim tensor.

    Args:
        sums: Σ v of each tensor, 0-dim, on the tensor's device.
        bias_corrections2: 1 - beta2^t of each tensor, numbers or 0-dim tensors.
        elements: how many elements the tensors have together.
    """
    device = sums[0].device
    hats = torch._foreach_div(list(sums), list(bias_corrections2))
    total = torch.stack([hat.to(device) for hat in hats]).sum()
    return total / max(elements, 1)  # tensors without elements have the sum 0: nothing moves


def gated(v_mean: Tensor, *, wait: bool) -> Mean | None:
    """The mean as the rule wants it, or None where the host learns that no gradient has been other than zero.

    Args:
        v_mean: what `second_moment_mean` returned.
        wait: whether the host may ask for the value. It costs nothing on the CPU; on a device it waits for the queue.
    """
    if wait:
        value = v_mean.item()
        return None if value == 0 else Mean(value)
    return Mean(torch.where(v_mean > 0, v_mean, 1), (v_mean > 0).to(v_mean.dtype))
