"""The numbers that couple all parameters: the mean of v̂ and the factor of clipping; and the counting of steps."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from adai.optim.engines.memory import is_unreal
from adai.optim.rule import Count, Mean, debias

T = TypeVar("T")


def accumulator(device: torch.device) -> torch.dtype:
    """The dtype of sums over many elements on a device: float64 if the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


LARGE = 1000
"""The number of elements of a float32 tensor on a CPU from which on it is summed in `_pieces`."""
PIECE = 65_536
"""Elements of a piece: few enough to stay in the cache."""


def sum_of(v: Tensor) -> Tensor:
    """Σ v over the elements, 0-dim, in the `accumulator` dtype of the device."""
    if _is_large(v):
        return torch.stack([piece.sum() for piece in _pieces(v)]).sum()
    return v.sum(dtype=accumulator(v.device))


def sums_of(vs: list[Tensor]) -> list[Tensor]:
    """`sum_of` each tensor, for tensors on one device and of one dtype whose elements are not negative."""
    if torch.compiler.is_compiling():  # which fuses sums into other kernels
        return [sum_of(v) for v in vs]
    small = [v for v in vs if not _is_large(v)]
    # Σ v is the norm of order 1, and one operator takes it of all small tensors.
    norms = iter(torch._foreach_norm(small, 1, dtype=accumulator(vs[0].device)) if small else ())
    return [sum_of(v) if _is_large(v) else next(norms) for v in vs]


def squares_of(gs: list[Tensor]) -> Tensor:
    """Σ g² over all elements of tensors on one device and of one dtype, 0-dim, in the device's `accumulator` dtype."""
    small = [g for g in gs if not _is_large(g)]
    squares = [torch.dot(piece, piece) for g in gs if _is_large(g) for piece in _pieces(g)]
    if small:
        squares.append(torch.stack(torch._foreach_norm(small, 2, dtype=accumulator(gs[0].device))).square().sum())
    return torch.stack(squares).sum()


def _is_large(v: Tensor) -> bool:
    return v.numel() >= LARGE and v.is_cpu and v.dtype == torch.float32 and _can_be_read(v)


def _can_be_read(v: Tensor) -> bool:
    return not torch.compiler.is_compiling() and not v.requires_grad and not is_unreal(v)


def _pieces(v: Tensor) -> Iterator[Tensor]:
    """The elements in float64, piece by piece, in one and the same tensor.

    NOTE torch (2.13) sums float32 in float64 about twenty times more slowly than it converts a piece and sums that.
    """
    piece = torch.empty(min(v.numel(), PIECE), dtype=torch.float64, device="cpu")
    in_memory_order = v.permute(sorted(range(v.ndim), key=v.stride, reverse=True))
    for part in in_memory_order.reshape(-1).split(PIECE):
        yield piece[: part.numel()].copy_(part)


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
    if len(numbers) == 1:
        return numbers[0]
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


def distinct(counts: list[T]) -> list[T]:
    """The first of these counts alone if all are equal, as they usually are; else all of them."""
    return counts[:1] if counts and counts.count(counts[0]) == len(counts) else counts


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
