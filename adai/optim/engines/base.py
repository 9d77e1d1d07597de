"""What an engine is, and which one carries out the rule for a group."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.optimizer import _default_to_fused_or_foreach

from adai.optim.engines import cpu, foreach, loop, triton
from adai.optim.engines.batch import Batch
from adai.optim.rule import Count, Mean


class Engine(Protocol):
    """A way to carry out the rule for the tensors of one group. ``clip`` is the factor of clipping, None for none."""

    def squares(self, batch: Batch, group: dict[str, Any], /) -> Tensor:
        """Σ g² of the gradients as they are, 0-dim. Called only for clipping, before the rest."""
        ...

    def accumulate(self, batch: Batch, group: dict[str, Any], counts: Sequence[Count], clip: Any, /) -> Tensor:
        """Take the gradients in; returns Σ v̂ of this step over the batch, 0-dim."""
        ...

    def update(self, batch: Batch, group: dict[str, Any], counts: Sequence[Count], clip: Any, mean: Mean, /) -> None:
        """Move every parameter of the batch, given the mean of v̂, and count the step."""
        ...


def missing(device: torch.device) -> str | None:
    """Why there is no fused engine for a device, whatever the tensors; None where there is one."""
    if device.type == "cuda":
        return triton.missing(device)
    return cpu.NOT_BUILT if device.type == "cpu" and cpu.library.load() is None else None


def choose(group: dict[str, Any], batch: Batch, states: list[dict[str, Any]], last: Engine | None = None) -> Engine:
    """The engine that is asked for, or the fastest that can do it: the one of the last step, if it still serves."""
    compiling = torch.compiler.is_compiling()
    fused, use_foreach = group["fused"], group["foreach"]
    if fused is None:
        fused = use_foreach is None and not group["differentiable"]
    if fused and isinstance(last, cpu.Fused) and not compiling and last.again(batch, states):
        return last
    if not compiling:
        batch.check_shapes()
        # Kernels cannot trace a step; as in torch.optim that is no reason to refuse it, but for the meta device.
        fused = fused and not any(type(p).__name__ == "FakeTensor" for p in batch.params)
    if fused and not compiling:
        device = batch.params[0].device
        on_gpu = device.type == "cuda"
        reason = triton.refusal(batch, group) if on_gpu else cpu.refusal(batch)
        if reason is None:
            reason = missing(device)
            if reason is None:
                return triton.Fused(batch, states, group) if on_gpu else cpu.Fused(batch, states)
            use_foreach = None if on_gpu else not isinstance(group["lr"], Tensor)
        if group["fused"]:
            raise RuntimeError(f"fused=True is not possible: {reason}; leave fused at None for another engine")
    if use_foreach is None:
        _, use_foreach = _default_to_fused_or_foreach(batch.params, group["differentiable"], use_fused=False)
        if isinstance(group["lr"], Tensor) and not group["capturable"]:
            use_foreach = False
    return foreach if use_foreach else loop
