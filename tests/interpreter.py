"""The Triton engine without a GPU: steps on the CPU, by Triton's interpreter."""

from contextlib import contextmanager

import pytest
import torch

from adai.optim import step
from adai.optim.engines import triton as gpu


@contextmanager
def interpreted():
    """``fused=True`` selects the Triton engine, and ``capturable`` is allowed, on the CPU."""
    if torch.cuda.is_available():
        pytest.skip("the interpreter is for machines without a GPU; see test_cuda.py")
    triton = pytest.importorskip("triton.runtime.interpreter", reason="Triton is not installed")
    own = step.choose

    def choose(group, hyper, batch, owners, last=None):
        if not group["fused"] or torch.compiler.is_compiling():
            return own(group, hyper, batch, owners, last)
        engine = last if isinstance(last, gpu.Fused) else gpu.Fused()
        reason = engine.prepare(batch, owners, hyper)
        if reason is not None:
            raise RuntimeError(reason)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "choose", choose)
        patch.setattr("adai.optim.adai.check_capturable", lambda _: None)
        patch.setattr(triton.InterpretedFunction, "__call__", _called(triton))
        patch.setattr(triton, "_convert_float", _converted(triton))
        yield


def _called(triton):
    """How the interpreter calls a function from a kernel.

    NOTE Triton 3.7 patches the whole language again at each call, which takes most of its time; the launch has done so.
    """
    own = triton.InterpretedFunction.__call__

    def call(self, *args, **kwargs):
        if self.fn.__module__ == "adai.optim.engines.triton.kernels":
            return self.rewrite()(*args, **kwargs)
        return own(self, *args, **kwargs)

    return call


def _converted(triton):
    """How the interpreter converts to bfloat16 and back.

    NOTE Triton 3.7 cuts digits off, and reads subnormal numbers wrongly; GPUs round to the nearest, as torch does.
    """
    own, half, single = triton._convert_float, triton.tl.bfloat16, triton.tl.float32

    def convert(data, given, wanted, rounding):
        if (given, wanted) == (single, half):
            return torch.from_numpy(data).bfloat16().view(torch.int16).numpy()
        if (given, wanted) == (half, single):
            return torch.from_numpy(data.view("int16")).view(torch.bfloat16).float().numpy()
        return own(data, given, wanted, rounding)

    return convert
