"""All private names of torch that adai uses, each with a fallback for versions of torch without it.

The operators `torch._foreach_*` are not here, because torch's documentation recommends them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.optim import optimizer as torchs
from torch.optim.optimizer import Optimizer

T = TypeVar("T")
P = ParamSpec("P")


def _first(owner: Any, *names: str, otherwise: T) -> T:
    """The first of these attributes that exists, else the fallback."""
    found: T = next((getattr(owner, name) for name in names if hasattr(owner, name)), otherwise)
    return found


def _grad_if_differentiable(step: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(step)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        optimizer: Any = args[0]
        with torch.set_grad_enabled(optimizer.defaults["differentiable"]):
            return step(*args, **kwargs)

    return wrapped


def _check_capture(optimizer: Optimizer) -> None:
    if torch.compiler.is_compiling() or not torch.cuda.is_available():
        return
    if torch.cuda.is_current_stream_capturing() and not all(group["capturable"] for group in optimizer.param_groups):
        raise RuntimeError(
            f"a CUDA graph cannot capture a step of {type(optimizer).__name__} without capturable=True in every group"
        )


def _fused_or_foreach(params: Sequence[Tensor], differentiable: bool, use_fused: bool = False) -> tuple[bool, bool]:
    del use_fused
    on_gpu = all(type(p) in (Tensor, torch.nn.Parameter) and p.device.type == "cuda" for p in params)
    return False, on_gpu and not differentiable


def _no_backward() -> int:
    return -1


use_grad_for_differentiable = _first(torchs, "_use_grad_for_differentiable", otherwise=_grad_if_differentiable)
"""Decorator of ``step`` that enables gradients if the optimizer is ``differentiable``, and else disables them."""

check_capture = _first(
    Optimizer,
    "_accelerator_graph_capture_health_check",  # its name since torch 2.10
    "_cuda_graph_capture_health_check",
    otherwise=_check_capture,
)
"""Raise if a CUDA graph captures a step of the optimizer and a group is not ``capturable``."""

_choose = _first(torchs, "_default_to_fused_or_foreach", otherwise=_fused_or_foreach)

current_backward = _first(torch._C, "_current_graph_task_id", otherwise=_no_backward)
"""Return a number that identifies the running backward pass; -1 if none runs, or if torch cannot tell."""


_Guards = _first(getattr(getattr(torch._C, "_dynamo", None), "guards", None), "TensorGuards", otherwise=None)


def _never(*_: Tensor) -> bool:
    return False


def looks_like(tensors: Sequence[Tensor]) -> Callable[..., bool]:
    """A fast test whether tensors, its arguments, have the types, dtypes, devices, shapes and strides of these.

    If they do, it may still say no: always if torch has no such test, and where they differ in something else that
    concerns `torch.compile`. It keeps no tensor alive.
    """
    if _Guards is None:
        return _never
    try:
        test: Callable[..., bool] = _Guards(
            *tensors,
            dynamic_dims_sizes=[list(t.shape) for t in tensors],
            dynamic_dims_strides=[list(t.stride()) for t in tensors],
        ).check
    except (TypeError, RuntimeError):  # some other version's, or tensors without strides
        return _never
    return test


def foreach_by_default(params: Sequence[Tensor], *, differentiable: bool) -> bool:
    """Whether torch.optim would use its foreach implementation for these parameters."""
    _, foreach = _choose(list(params), differentiable, use_fused=False)
    return foreach
