"""Whether tensors are what they were: what has been derived from them is good only as long as they are."""

from collections.abc import Sequence
from operator import call, is_
from typing import NamedTuple
from weakref import ref

from torch import Tensor


class _Seen(NamedTuple):
    owners: "list[ref[Tensor]]"
    outer: list[float]
    inner: list[float]


class Watch:
    """Remembers tensors as a step left them, and tells whether anything has written to or replaced one since.

    It goes by identity and by torch's version counters, which count changes of shape and strides too, and keeps no
    tensor alive. It does not see writes that torch does not count: through ``.data`` or NumPy, and those of a CUDA
    graph.
    """

    def __init__(self) -> None:
        self._now = self._left = _Seen([], [], [])

    def unchanged(self, owners: Sequence[Tensor], tensors: Sequence[Tensor]) -> bool:
        """Whether every tensor is as the last step left it; to be asked once in each step.

        Args:
            owners: the tensors of the state.
            tensors: the same, or other tensors on the same memory.
        """
        left = self._left
        same = len(owners) == len(left.owners) and all(map(is_, map(call, left.owners), owners))
        # A DTensor and the tensor within it have a counter each.
        outer = [] if all(map(is_, owners, tensors)) else _versions(owners)
        self._now = now = _Seen(left.owners if same else [ref(t) for t in owners], outer, _versions(tensors))
        return same and now.outer == left.outer and now.inner == left.inner

    def leave(self, tensors: Sequence[Tensor]) -> None:
        """The step has been made."""
        self._left = self._now._replace(inner=_versions(tensors))


def _versions(tensors: Sequence[Tensor]) -> list[float]:
    try:
        return [t._version for t in tensors]
    except RuntimeError:
        # Inference tensors are not counted: nan, so that they never are as they were. A new one each time, because
        # lists take the same object for equal.
        return [float("nan") if t.is_inference() else t._version for t in tensors]
