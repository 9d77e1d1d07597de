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
    """Σ v̂ over several tensors, v̂ = v / (1 - beta2^t) with each tensor's own t, from the Σ v of each."""
    if not isinstance(counts[0].t, Tensor) and all(count is counts[0] for count in counts):
        of_all: Tensor = total(sums) / counts[0].bias_correction2
        return of_all
    hats = torch._foreach_div(list(sums), [count.bias_correction2 for count in counts])
    return total(hats)


def total_before(vs: Sequence[Tensor], counts: Sequence[Count], beta2: float) -> Tensor:
    """Σ v̂ of the step before, from v as it left it, over the tensors that had one; 0-dim."""
    hats = [sum_of(v) / debias(beta2, count.t - 1) for v, count in zip(vs, counts, strict=True) if count.t > 1]
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
    # NOTE the operator may ask for the number in the tensor, which breaks a compiled graph, and fake tensors have none.
    has_number = not torch.compiler.is_compiling() and type(mean.alive) is Tensor
    if has_number and len({(step.device, step.dtype) for step in steps}) == 1:
        here = mean.alive.device == steps[0].device
        one = mean.alive.to(steps[0].dtype) if here else torch.tensor(1.0, device="cpu")
        torch._foreach_add_(steps, one)
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
