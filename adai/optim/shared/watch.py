"""Notices changes of tensors, after which numbers that were computed from them are no longer valid."""

from collections.abc import Callable, Sequence
from operator import add, call, is_, sub
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
        self._same = False
        self._rises: list[float] = []  # by which a step raises the counters of the inner tensors

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
        self._same = same and now.outer == left.outer and now.inner == left.inner
        return self._same

    def leave(self) -> None:
        """Remember the tensors as `unchanged` saw them, because the step does not count writes to them."""
        self._left = self._now

    def leave_written(self, tensors: Sequence[Tensor], count: Callable[[], object]) -> None:
        """Remember the tensors as they are after the step, whose writes to them ``count`` adds to their counters.

        A counter rises by 1, or by more if views of one buffer share it. How much is read if something has changed, and
        assumed in later steps, because reading takes time.
        """
        owners, outer, inner = self._now
        if self._same:
            count()
        else:
            before = _versions(tensors)
            count()
            self._rises = list(map(sub, _versions(tensors), before))
        if outer:  # views share the counter of what they view, but a DTensor has its own
            outer = _versions([t for t in map(call, owners) if t is not None])
        self._left = _Seen(owners, outer, list(map(add, inner, self._rises)))


def _versions(tensors: Sequence[Tensor]) -> list[float]:
    try:
        return [t._version for t in tensors]
    except RuntimeError:
        # Inference tensors have no counter. A nan makes them always appear changed; a new one each time, because lists
        # compare the same object as equal.
        return [float("nan") if t.is_inference() else t._version for t in tensors]
