"""Notices changes of tensors, after which numbers that were computed from them are no longer valid."""

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
    """Remembers tensors as a step left them, and notices if one has been written to or replaced since.

    It compares identities and torch's version counters, which also count changes of shape and strides. It keeps no
    tensor alive. It does not notice writes that torch does not count: through ``.data`` or NumPy, or by a CUDA graph.
    """

    def __init__(self) -> None:
        self._now = self._left = _Seen([], [], [])

    def unchanged(self, owners: Sequence[Tensor], tensors: Sequence[Tensor]) -> bool:
        """Whether every tensor is as the last step left it. Call this once in each step.

        Args:
            owners: the tensors of the state.
            tensors: the same list, or one of the same tensors or of other tensors on the same memory.
        """
        left = self._left
        same = len(owners) == len(left.owners) and all(map(is_, map(call, left.owners), owners))
        # A DTensor and its local tensor have separate counters.
        outer = [] if owners is tensors or all(map(is_, owners, tensors)) else _versions(owners)
        self._now = now = _Seen(left.owners if same else [ref(t) for t in owners], outer, _versions(tensors))
        return same and now.outer == left.outer and now.inner == left.inner

    def leave(self, *, writes: int) -> None:
        """Remember the tensors as they are after the step, which has counted so many writes to each of them."""
        owners, outer, inner = self._now
        if outer:  # views share the counter of what they view, but a DTensor has its own
            outer = _versions([t for t in map(call, owners) if t is not None])
        self._left = _Seen(owners, outer, [version + writes for version in inner] if writes else inner)


def _versions(tensors: Sequence[Tensor]) -> list[float]:
    try:
        return [t._version for t in tensors]
    except RuntimeError:
        # Inference tensors have no counter. A nan makes them always appear changed; a new one each time, because lists
        # compare the same object as equal.
        return [float("nan") if t.is_inference() else t._version for t in tensors]
