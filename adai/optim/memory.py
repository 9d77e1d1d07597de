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
# NOTE increment_version takes a list too in newer versions of torch; one by one it is slow.
_VERSIONS_OF_LISTS = "Iterable" in str(inspect.signature(torch.autograd.graph.increment_version))


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


def written(params: list[Tensor]) -> None:
    """Tell autograd, which cannot see the kernel write."""
    if _VERSIONS_OF_LISTS:
        torch.autograd.graph.increment_version(params)
        return
    for p in params:
        torch.autograd.graph.increment_version(p)
