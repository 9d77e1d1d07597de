"""How a GPU multiplies float32 numbers: in float32, or in TF32, which has 10 bits of mantissa and is faster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import backends

T = TypeVar("T")


@contextmanager
def float32_products(*, tf32: bool = False) -> Iterator[None]:
    """Compute matrix products and convolutions of float32 exactly, or in TF32, for the duration of the block.

    By default, torch computes convolutions in TF32 on GPUs that can. The flags belong to the whole process: they are
    as they were found when the block ends.

    Args:
        tf32: use TF32. Only NVIDIA GPUs from the Ampere generation on have it; elsewhere it changes nothing.
    """
    products = _read(torch.get_float32_matmul_precision, "highest")
    convolutions = _read(lambda: backends.cudnn.allow_tf32, True)
    own = _take_own_precisions()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        backends.cudnn.allow_tf32 = convolutions
        for part, precision in reversed(own):
            part.fp32_precision = precision


def _read(flag: Callable[[], T], default: T) -> T:
    """The flag's value; torch's default if newer flags were set, because torch then refuses to read the older one."""
    try:
        return flag()
    except RuntimeError:
        return default


def _take_own_precisions() -> list[tuple[Any, str]]:
    """Set the newer flags to inherit from those above them, which inherit nothing; returns what each was."""
    if not hasattr(backends, "fp32_precision"):  # torch before 2.9
        return []
    cudnn: Any = backends.cudnn  # torch's types do not know all of the flags
    mkldnn: Any = backends.mkldnn
    # NOTE torch 2.13: a flag that inherits reads as what it inherits. Those above are set first, to read the flag's own
    # value. Those of cuDNN's operators have a default that only a value above them replaces, so they are read before.
    parts: list[Any] = [cudnn.conv, cudnn.rnn, backends, cudnn, backends.cuda.matmul]
    parts += [mkldnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    own = []
    for part in parts:
        own.append((part, part.fp32_precision))
        part.fp32_precision = "none"
    return own
