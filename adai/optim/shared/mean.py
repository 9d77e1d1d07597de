"""The numbers that couple all parameters: the mean of v̂ and the factor of clipping; and the counting of steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.engines.memory import is_unreal
from adai.optim.rule import Count, Mean, debias


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype of sums over many elements on a device: float64 if the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


_LARGE = 1000
"""Elements from which on a float32 sum is the faster one on CPUs, although each then is an operator of its own."""


def sum_of(v: Tensor) -> Tensor:
    """Σ of the elements, none of which is negative, 0-dim and in the device's `accumulator` dtype.

    NOTE on CPUs torch (2.13) adds float32 up in float64 fifty times as slowly as in float32. There it adds pairwise,
    good to 1e-7 where all have one sign, unlike `torch.linalg.vector_norm`, which can be off by 1e-3.
    """
    dtype = accumulator(v.device)
    if not _is_large(v) or torch.compiler.is_compiling() or is_unreal(v):
        return v.sum(dtype=dtype)
    quick = v.sum()
    return quick.to(dtype) if quick.isfinite() else v.sum(dtype=dtype)


def sums_of(vs: list[Tensor]) -> list[Tensor]:
    """`sum_of` each of some tensors on one device and of one dtype; with few operators where they are small."""
    if torch.compiler.is_compiling():  # each sum becomes a part of other kernels
        return [sum_of(v) for v in vs]
    small = [v for v in vs if not _is_large(v)]
    # Σ v is the norm of order 1.
    norms = iter(torch._foreach_norm(small, 1, dtype=accumulator(vs[0].device)) if small else ())
    return [sum_of(v) if _is_large(v) else next(norms) for v in vs]


def squares_of(gs: list[Tensor]) -> Tensor:
    """Σ g² over tensors on one device and of one dtype, 0-dim and in the device's `accumulator` dtype."""
    dtype = accumulator(gs[0].device)
    quick = [_quick_square(g) for g in gs]
    slow = [g for g, square in zip(gs, quick, strict=True) if square is None]
    squares = [square.to(dtype) for square in quick if square is not None]
    if slow:
        squares.append(torch.stack(torch._foreach_norm(slow, 2, dtype=dtype)).square().sum())
    return total(squares)


def _quick_square(g: Tensor) -> Tensor | None:
    """Σ g² in float32, as `sum_of` adds up; None where that would not be faster, or where squares leave its range."""
    if not _is_large(g):
        return None
    square = g.square().sum()
    return square if g.numel() * 1e-30 < square < torch.inf else None


def _is_large(v: Tensor) -> bool:
    return v.is_cpu and v.dtype == torch.float32 and v.numel() >= _LARGE


def total_hat(sums: Sequence[Tensor], counts: Sequence[Count]) -> Tensor:
    """Σ v̂ over several tensors, from Σ v of each. v̂ = v / (1 - beta2^t), where each tensor has its own t."""
    if not isinstance(counts[0].t, Tensor) and all(count is counts[0] for count in counts):
        of_all: Tensor = total(sums) / counts[0].bias_correction2
        return of_all
    hats = torch._foreach_div(list(sums), [count.bias_correction2 for count in counts])
    return total(hats)


def total_before(vs: Sequence[Tensor], counts: Sequence[Count], beta2: float) -> Tensor:
    """Σ v̂ of the step before, from the v that it left, over the tensors that took part in it; 0-dim."""
    hats = [sum_of(v) / debias(beta2, count.t - 1) for v, count in zip(vs, counts, strict=True) if count.t > 1]
    return total(hats) if hats else torch.zeros((), dtype=accumulator(vs[0].device), device=vs[0].device)


def total(numbers: Sequence[Tensor]) -> Tensor:
    """The sum of 0-dim tensors that may be on several devices, on the device of the first."""
    return torch.stack([number.to(numbers[0].device) for number in numbers]).sum()


def gated(v_mean: Tensor, *, wait: bool) -> Mean | None:
    """The mean in the form that the rule takes; None if the host finds that all gradients have been zero so far.

    Args:
        v_mean: the mean of v̂, 0-dim.
        wait: whether the host may read the value. This is free on the CPU; on other devices the host waits for it.
    """
    if wait:
        value = v_mean.item()
        return None if value == 0 else Mean(value)
    alive = v_mean != 0  # so nan is alive and spreads to all parameters, as it does if the host decides
    return Mean(torch.where(alive, v_mean, 1), alive.to(v_mean.dtype))


def advance(steps: list[Tensor], mean: Mean) -> None:
    """Count the step, unless `Mean.alive` says that it was skipped."""
    if mean.alive is None:
        # NOTE if it is given a number, the foreach operator creates a tensor from it for every step count.
        torch._foreach_add_(steps, torch.tensor(1.0, device="cpu") if steps[0].is_cpu else 1)
        return
    # NOTE the operator may read the number from the tensor. This breaks a compiled graph, and fake tensors have none.
    has_number = not torch.compiler.is_compiling() and type(mean.alive) is Tensor
    if has_number and len({(step.device, step.dtype) for step in steps}) == 1:
        here = mean.alive.device == steps[0].device
        one = mean.alive.to(steps[0].dtype) if here else torch.tensor(1.0, device="cpu")
        torch._foreach_add_(steps, one)
        return
    for step in steps:
        step.add_(mean.alive if mean.alive.device == step.device else 1)


def clip_factor(norm: Tensor, max_grad_norm: float | None, unscale: Any = None) -> Any:
    """The factor by which `torch.nn.utils.clip_grad_norm_` multiplies gradients, times ``unscale``.

    Args:
        norm: the norm of all raw gradients.
        max_grad_norm: the norm to clip to; None for no clipping.
        unscale: the factor that removes the scale of a `torch.amp.GradScaler` from the gradients, or None.

    Returns:
        A number if the norm is on the host and is not differentiated through, else a tensor; None if there is neither
        clipping nor ``unscale``.
    """
    if max_grad_norm is None:
        return unscale
    if unscale is not None:
        norm = norm * unscale
    factor = (max_grad_norm / (norm + 1e-6)).clamp_max(1.0)
    on_host = factor.is_cpu and not factor.requires_grad and not torch.compiler.is_compiling() and not is_unreal(factor)
    number = factor.item() if on_host else factor
    return number if unscale is None else number * unscale
