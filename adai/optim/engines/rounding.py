"""Stochastic rounding of state and parameters to bfloat16, with the same random bits in every engine.

bfloat16 keeps 8 bits of a number. With rounding to nearest, an average that changes by a thousandth per step would not
change at all. Stochastic rounding rounds away from zero with a probability equal to the part that is cut off, and
toward zero otherwise, so the rounded value is correct on average.

The random bits are a hash of ``rounding_seed``, the parameter's number, the step, and the element's place in the whole
tensor. So they are the same for any number of threads and shards and after resuming, and there is no generator whose
state would have to be saved. The hash is a word of 32 bits: the low 16 bits round m, the high 16 bits round v. The word
times a constant gives the bits that round 1 - Π mu, and times the constant again those that round the parameter.

All integers here are below 2^63, so that Python's integers and torch's int64 give the same results.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

LEAST_ELEMENTS = 4096
"""Tensors with fewer elements keep their state in float32, because bfloat16 would save little memory."""
NARROW = torch.bfloat16
_MASK = 0xFFFFFFFF


class Place(NamedTuple):
    """The places of a parameter's elements on this process within the whole tensor."""

    number: int
    """The parameter's number among all parameters of the optimizer."""
    seed: int = 0
    holder: int = 0
    """The rank in the optimizer's ``process_group``. Each shard of that group counts as a whole tensor here."""
    start: tuple[int, ...] | None = None
    """The indices in the whole tensor of the first element on this process; None if the whole tensor is here."""
    strides: tuple[int, ...] | None = None
    """The strides of the whole tensor; None if the whole tensor is here."""
    rounds_param: bool = False
    """Whether the parameter itself is rounded stochastically, if it is in bfloat16."""

    def of_elements(self, tensor: Tensor) -> Tensor:
        """The place of every element of the tensor on this process, as int64 with the tensor's shape."""
        strides = tensor.stride() if self.strides is None else self.strides
        places = torch.zeros((), dtype=torch.int64, device=tensor.device)
        for dim, (size, stride) in enumerate(zip(tensor.shape, strides, strict=True)):
            first = 0 if self.start is None else self.start[dim]
            along = torch.arange(first, first + size, device=tensor.device) * stride
            places = places + along.view(-1, *[1] * (tensor.ndim - dim - 1))
        return places.expand(tensor.shape)

    def runs(self, tensor: Tensor) -> tuple[int, int, int] | None:
        """The places in memory order, as runs of consecutive places at equal distances.

        The tensor has to be dense.

        Returns:
            The first place, the length of the runs, and the distance from one run's start to the next; None if the
            places do not have this pattern, for example if a tensor is sharded along two inner dimensions.
        """
        if self.start is None or self.strides is None or tensor.numel() == 0:
            return 0, max(tensor.numel(), 1), 0
        first = sum(map(math.prod, zip(self.start, self.strides, strict=True)))
        dims = sorted((d for d in range(tensor.ndim) if tensor.shape[d] != 1), key=tensor.stride)
        run, pitch, extent = 1, 0, 1
        for d in dims:
            size, stride = tensor.shape[d], self.strides[d]
            if extent == 1 and stride == run:
                run *= size
            elif extent == 1 or stride == pitch * extent:
                pitch, extent = pitch or stride, extent * size
            else:
                return None
        return first, run, pitch


def stream(place: Place) -> int:
    """The 32-bit number of a parameter's stream of random words."""
    return int(_mixed(_mixed(_mixed(place.seed) + place.number) + place.holder))


def random_words(stream: int, t: Any, places: Tensor) -> Tensor:
    """32 random bits for each place, as int64.

    Args:
        stream: the result of `stream`.
        t: the step, a whole number or a 0-dim tensor.
        places: the result of `Place.of_elements`, of which only the value modulo 2^32 matters.
    """
    step = t.to(places.device, torch.int64) if isinstance(t, Tensor) else int(t)
    x = (places & _MASK) ^ _mixed(stream + step)
    x = x ^ x >> 16
    x = x * 0x7FEB352D & _MASK
    x = x ^ _mixed(_mixed(stream) + step)
    words: Tensor = _finished(x)
    return words


def next_words(words: Tensor) -> Tensor:
    """Derive further random words from random words, for a third rounding."""
    return words * (0x9E3779B1 - 2**32) & _MASK


def rounded(x: Tensor, bits: Tensor) -> Tensor:
    """Round a float32 tensor to bfloat16, away from zero with a probability equal to the part that is cut off.

    Args:
        x: the tensor to round.
        bits: 16 random bits for each element, which decide the direction.
    """
    cut = (x.view(torch.int32) + bits.to(torch.int32)) & -0x10000
    return torch.where(x.isnan(), x, cut.view(torch.float32)).to(NARROW)


def _mixed(x: Any) -> Any:
    """A 32-bit hash that maps different arguments to different results."""
    x = x & _MASK
    x = x ^ x >> 16
    x = x * 0x7FEB352D & _MASK
    return _finished(x)


def _finished(x: Any) -> Any:
    x = x ^ x >> 15
    x = x * (0x846CA68B - 2**32) & _MASK
    return x ^ x >> 16
