"""What a kernel that works on addresses has to know of a tensor's memory."""

import inspect

import torch
from torch import Tensor

STATE_DTYPES = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
"""By the dtype of a parameter that of its state, for those that kernels take."""
COUNT_DTYPES = (torch.float32, torch.float64)
"""What a step count may be in, for kernels."""
# NOTE increment_version takes a list too in newer versions of torch; one by one it is slow.
_VERSIONS_OF_LISTS = "Iterable" in str(inspect.signature(torch.autograd.graph.increment_version))


def is_unreal(tensor: Tensor) -> bool:
    """Whether a tensor has no numbers, only a shape: on the meta device, or torch's FakeTensor."""
    return tensor.is_meta or type(tensor).__name__ == "FakeTensor"


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether the same offset in memory is the same element of both, and no memory lies between the elements."""
    if a.is_contiguous() and b.is_contiguous():
        return True
    return a.shape == b.shape and a.stride() == b.stride() and _dense(a)


def _dense(tensor: Tensor) -> bool:
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def written(tensors: list[Tensor]) -> None:
    """Tell torch, which cannot see the kernel write."""
    try:
        _count(tensors)
    except RuntimeError:  # inference tensors have no counter
        _count([t for t in tensors if not t.is_inference()])


def _count(tensors: list[Tensor]) -> None:
    if _VERSIONS_OF_LISTS:
        torch.autograd.graph.increment_version(tensors)
        return
    for t in tensors:
        torch.autograd.graph.increment_version(t)
