"""What all parameters share: the mean of v̂ over them, the clipping by the norm of all gradients, the count of steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.engines.memory import is_unreal
from adai.optim.rule import Count, Mean, debias


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype in which sums over many elements are kept on a device: float64 wherever there is one."""
    return torch.float32 if device.type == "mps" else torch.float64


def total_hat(sums: Sequence[Tensor], counts: Sequence[Count]) -> Tensor:
    """Σ v̂ over several tensors, v̂ = v / (1 - beta2^t) with each tensor's own t, from the Σ v of each."""
    hats = torch._foreach_div(list(sums), [count.bias_correction2 for count in counts])
    return total(hats)


def total_before(vs: Sequence[Tensor], counts: Sequence[Count], beta2: float) -> Tensor:
    """Σ v̂ of the step before, from v as it left it, over the tensors that had one; 0-dim."""
    hats = [
        v.sum(dtype=accumulator(v.device)) / debias(beta2, count.t - 1)
        for v, count in zip(vs, counts, strict=True)
        if count.t > 1
    ]
    return total(hats) if hats else torch.zeros((), dtype=accumulator(vs[0].device), device=vs[0].device)


def total(numbers: Sequence[Tensor]) -> Tensor:
    """Sum of 0-dim tensors of several devices, on the first one's."""
    return torch.stack([number.to(numbers[0].device) for number in numbers]).sum()


def gated(v_mean: Tensor, *, wait: bool) -> Mean | None:
    """The mean as the rule wants it, or None where the host learns that no gradient has been other than zero.

    Args:
        v_mean: the mean of v̂, 0-dim.
        wait: whether the host may ask for the value. It costs nothing on the CPU; on a device it waits for the queue.
    """
    if wait:
        value = v_mean.item()
        return None if value == 0 else Mean(value)
    alive = v_mean != 0  # so that nan is alive, and spreads, as it does where the host decides
    return Mean(torch.where(alive, v_mean, 1), alive.to(v_mean.dtype))


def advance(steps: list[Tensor], mean: Mean) -> None:
    """Count the step, where it was one."""
    if mean.alive is None:
        # NOTE with a number the foreach operator would make a tensor of it for every step.
        torch._foreach_add_(steps, torch.tensor(1.0, device="cpu") if steps[0].is_cpu else 1)
        return
    for step in steps:
        step.add_(mean.alive if mean.alive.device == step.device else 1)


def clip_factor(norm: Tensor, max_grad_norm: float | None, unscale: Any = None) -> Any:
    """What `torch.nn.utils.clip_grad_norm_` multiplies gradients with, times ``unscale``; None for neither.

    A number where the norm is on the host (and not differentiated through), else a tensor.

    Args:
        norm: of all gradients as they are.
        max_grad_norm: what it is clipped to; None for no clipping.
        unscale: factor that takes the scale of a `torch.amp.GradScaler` from the gradients; None for none.
    """
    if max_grad_norm is None:
        return unscale
    if unscale is not None:
        norm = norm * unscale
    factor = (max_grad_norm / (norm + 1e-6)).clamp_max(1.0)
    on_host = factor.is_cpu and not factor.requires_grad and not torch.compiler.is_compiling() and not is_unreal(factor)
    number = factor.item() if on_host else factor
    return number if unscale is None else number * unscale
