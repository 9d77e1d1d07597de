"""The memory of tensors, for kernels that work on addresses."""

import inspect

import torch
from torch import Tensor

STATE_DTYPES = {
    torch.float32: torch.float32,
    torch.float64: torch.float64,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}
"""The dtype of the state for each dtype of a parameter that kernels take."""
COUNT_DTYPES = (torch.float32, torch.float64)
"""The dtypes of step counts that kernels take."""
# NOTE newer versions of torch can increment the versions of a list; one call for each tensor is slow.
_VERSIONS_OF_LISTS = "Iterable" in str(inspect.signature(torch.autograd.graph.increment_version))


def is_unreal(tensor: Tensor) -> bool:
    """Whether a tensor has a shape but no numbers: it is on the meta device, or one of torch's FakeTensors."""
    return tensor.is_meta or type(tensor).__name__ == "FakeTensor"


def same_layout(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same elements at the same offsets in memory, without gaps between elements."""
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
    """Increment the version counters of tensors that a kernel has written to, which torch cannot notice itself."""
    try:
        _count(tensors)
    except RuntimeError:  # inference tensors have no version counter
        _count([t for t in tensors if not t.is_inference()])


def _count(tensors: list[Tensor]) -> None:
    if _VERSIONS_OF_LISTS:
        torch.autograd.graph.increment_version(tensors)
        return
    for t in tensors:
        torch.autograd.graph.increment_version(t)
