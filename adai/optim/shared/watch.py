"""Whether v is what it was: what has been derived from it, its sum, is good only as long as it is."""

import math
from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple
from weakref import ref

from torch import Tensor


class _Seen(NamedTuple):
    owners: "list[ref[Tensor]]"
    outer: list[float]
    inner: list[float]


class Watch:
    """Remembers v of a batch as a step left it, and tells whether anything has written to it or replaced it since.

    It goes by identity and by torch's version counters, and keeps no tensor alive. It does not see writes that torch
    does not count: through ``.data`` or NumPy, and those of a CUDA graph.
    """

    def __init__(self) -> None:
        self._now = self._left = _Seen([], [], [])

    def unchanged(self, states: Sequence[dict[str, Any]], vs: Sequence[Tensor]) -> bool:
        """Whether every v is as the last step left it; to be asked once in each step.

        Args:
            states: the states of the parameters.
            vs: their ``exp_avg_sq``, or other tensors on the same memory.
        """
        owners = [state["exp_avg_sq"] for state in states]
        # A DTensor and the tensor within it have a counter each.
        outer = [] if all(map(is_, owners, vs)) else _versions(owners)
        now, left = _Seen([ref(v) for v in owners], outer, _versions(vs)), self._left
        self._now = now
        # By identity: a tensor has one such reference, and two that are equal would ask whether their tensors are.
        same = len(now.owners) == len(left.owners) and all(map(is_, now.owners, left.owners))
        return same and now.outer == left.outer and now.inner == left.inner

    def leave(self, vs: Sequence[Tensor]) -> None:
        """The step has been made."""
        self._left = self._now._replace(inner=_versions(vs))


def _versions(tensors: Sequence[Tensor]) -> list[float]:
    try:
        return [t._version for t in tensors]
    except RuntimeError:  # inference tensors are not counted: nan, so that they never are as they were
        return [math.nan if t.is_inference() else t._version for t in tensors]
