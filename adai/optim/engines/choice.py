"""The choice of an engine for a group."""

from typing import Any

import torch
from torch import Tensor

from adai.optim.engines import cpu, triton
from adai.optim.engines.base import Engine
from adai.optim.engines.batch import Batch
from adai.optim.engines.foreach import Foreach
from adai.optim.engines.loop import Loop
from adai.optim.engines.narrow import Narrow, is_narrow
from adai.optim.hyper import Hyper
from adai.optim.torch_private import foreach_by_default


def missing(device: torch.device) -> str | None:
    """The reason why a device has no fused engine for any tensors; None if it has one."""
    if device.type == "cuda":
        return triton.missing(device)
    return cpu.missing() if device.type == "cpu" else None


def choose(group: dict[str, Any], hyper: Hyper, batch: Batch, owners: Batch, last: Engine | None = None) -> Engine:
    """Return the engine that the options request, or else the fastest possible one, prepared for the step.

    The engine of the last step, ``last``, is used again if it is of the right class.

    Raises:
        RuntimeError: ``fused=True`` is not possible, or a tensor has another shape than its parameter.
    """
    fused, use_foreach = group["fused"], group["foreach"]
    if fused is None:
        fused = use_foreach is None and not group["differentiable"]
    if fused and not torch.compiler.is_compiling():  # kernels cannot be traced
        kind = triton.Fused if batch.params[0].device.type == "cuda" else cpu.Fused
        engine = last if isinstance(last, kind) else kind()
        reason = engine.prepare(batch, owners, hyper)
        if reason is None:
            return engine
        # As in torch.optim, fused=True is no error in a traced step.
        if group["fused"] and not any(type(p).__name__ == "FakeTensor" for p in batch.params):
            raise RuntimeError(f"fused=True is not possible: {reason}; leave fused at None to use another engine")
        if kind is cpu.Fused and reason == cpu.missing():
            use_foreach = not isinstance(group["lr"], Tensor)
    if use_foreach is None:
        use_foreach = foreach_by_default(batch.params, differentiable=group["differentiable"])
        if isinstance(group["lr"], Tensor) and not group["capturable"]:
            use_foreach = False
    plain: Engine = Foreach() if use_foreach else Loop()
    if is_narrow(batch):
        plain = Narrow(plain)
    plain.prepare(batch, owners, hyper)
    return plain
