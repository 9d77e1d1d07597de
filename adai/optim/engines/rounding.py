"""Stochastic rounding of the state to bfloat16: where the random bits come from, the same ones in every engine.

bfloat16 keeps 8 bits of a number. An average that moves by a thousandth in each step would stand still in it if it were
rounded to nearest. Stochastic rounding goes up with the probability of the part that is cut off, and down otherwise, so
the average moves as it should in the mean.

The random bits are a hash of ``rounding_seed``, the parameter's number, the step, and the element's place
in the whole tensor. So they are the same for any number of threads and of shards, and after resuming, and no generator
has a state to save. A hash gives a word of 32 bits: the low 16 round m, the high 16 round v. As long as 1 - Π mu is
kept, the word times a constant gives the bits that round it.

All integers here are below 2^63, so that Python's and torch's int64 give the same.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

LEAST_ELEMENTS = 4096
"""Tensors with fewer elements keep their state in float32: they are not worth it."""
NARROW = torch.bfloat16
_MASK = 0xFFFFFFFF


class Place(NamedTuple):
    """Where the elements of a parameter on this process lie in the whole tensor."""

    number: int
    """Of the parameter, among all of the optimizer's."""
    seed: int = 0
    holder: int = 0
    """Rank in the optimizer's ``process_group``, whose shards are tensors of their own here."""
    start: tuple[int, ...] | None = None
    """Indices of the first element here in the whole tensor; None where the whole tensor is here."""
    strides: tuple[int, ...] | None = None
    """The whole tensor's strides; None where the whole tensor is here."""

    def of_elements(self, tensor: Tensor) -> Tensor:
        """The place of every element of the tensor on this process, int64 with its shape."""
        strides = tensor.stride() if self.strides is None else self.strides
        places = torch.zeros((), dtype=torch.int64, device=tensor.device)
        for dim, (size, stride) in enumerate(zip(tensor.shape, strides, strict=True)):
            first = 0 if self.start is None else self.start[dim]
            along = torch.arange(first, first + size, device=tensor.device) * stride
            places = places + along.view(-1, *[1] * (tensor.ndim - dim - 1))
        return places.expand(tensor.shape)

    def runs(self, tensor: Tensor) -> tuple[int, int, int] | None:
        """The places in memory's order: of the first element, the length of runs, from one run's start to the next.

        None where they do not follow this pattern, as when a tensor is cut along two inner dimensions. The tensor has
        to be dense.
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
    """The number of a parameter's stream of random words, 32 bits."""
    return int(_mixed(_mixed(_mixed(place.seed) + place.number) + place.holder))


def random_words(stream: int, t: Any, places: Tensor) -> Tensor:
    """32 random bits for each place, as int64.

    Args:
        stream: what `stream` returned.
        t: the step, a whole number or a 0-dim tensor.
        places: as `Place.of_elements` returns them; they count modulo 2^32.
    """
    step = t.to(places.device, torch.int64) if isinstance(t, Tensor) else int(t)
    x = (places & _MASK) ^ _mixed(stream + step)
    x = x ^ x >> 16
    x = x * 0x7FEB352D & _MASK
    x = x ^ _mixed(_mixed(stream) + step)
    words: Tensor = _finished(x)
    return words


def next_words(words: Tensor) -> Tensor:
    """Other words from random words, for a third rounding."""
    return words * (0x9E3779B1 - 2**32) & _MASK


def rounded(x: Tensor, bits: Tensor) -> Tensor:
    """A float32 tensor in bfloat16, away from zero with the probability of the part that is cut off.

    Args:
        x: what to round.
        bits: 16 random bits for each element, which decide.
    """
    cut = (x.view(torch.int32) + bits.to(torch.int32)) & -0x10000
    return torch.where(x.isnan(), x, cut.view(torch.float32)).to(NARROW)


def _mixed(x: Any) -> Any:
    """A hash of 32 bits; each result belongs to one argument."""
    x = x & _MASK
    x = x ^ x >> 16
    x = x * 0x7FEB352D & _MASK
    return _finished(x)


def _finished(x: Any) -> Any:
    x = x ^ x >> 15
    x = x * (0x846CA68B - 2**32) & _MASK
    return x ^ x >> 16
