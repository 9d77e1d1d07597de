"""Warnings that an optimizer has only a part of a model's parameters, so that its mean of v is not the rule's."""

import inspect
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch.optim.optimizer import Optimizer

from adai.optim.hyper import Hyper
from adai.optim.torch_private import current_backward

_ONE = "Create one Adai for all parameters, and call its step after the backward pass or use adai.optim.in_backward"
_COUPLED = "pass the same coupling=adai.optim.Coupling() to all of them"
_PER_PARAMETER = {
    "torchao": f"torchao's CPU offload creates an optimizer for each parameter: {_COUPLED}",
    "torch.distributed.optim.apply_optimizer_in_backward": f"_apply_optimizer_in_backward creates an optimizer for "
    f"each parameter. {_ONE}, or {_COUPLED}",
}
"""The modules that create an optimizer for each parameter, with the cause and the remedy for the warning."""


class _Maker:
    """The last optimizer that one of these modules has created, and whether a warning has been given."""

    def __init__(self) -> None:
        self.made: weakref.ref[Optimizer] | None = None
        self.said = False


class _Backwards:
    """The backward pass in which an optimizer last took a step, and that optimizer."""

    def __init__(self) -> None:
        self.task = -1
        self.stepped: weakref.ref[Optimizer] | None = None
        self.said = False


_makers = {name: _Maker() for name in _PER_PARAMETER}
_backwards = _Backwards()


def warn_of_parts(optimizer: Optimizer) -> None:
    """Warn if any caller on the stack is known to shard parameters, or to create an optimizer for each of them.

    Call this when parameters are new: in the constructor, and in the first step with different parameters, because
    DeepSpeed replaces the caller's parameters by its own.
    """
    modules = _modules_of_callers()
    _warn_of_one_each(optimizer, modules)
    shards = _shards(optimizer.param_groups, modules)
    if shards is not None:
        owner, remedy = shards
        warnings.warn(
            f"{owner} has sharded the parameters, and this process holds only a part of them. Adai needs the mean of v "
            f"over all of them, or it trains a different model. Pass {remedy}; for all processes the group is "
            "torch.distributed.group.WORLD",
            stacklevel=3,
        )


def warn_of_padding(optimizer: Optimizer) -> None:
    """Warn if an L2 penalty would make gradients from memory that DeepSpeed has not initialized.

    Call this in the first step with different parameters. DeepSpeed 0.19 pads each parameter to a multiple of the
    number of ranks, in stage 3 with whatever was in memory. The gradients of the padding are 0.
    """
    decayed = any(Hyper.of(group).l2 for group in optimizer.param_groups)
    if decayed and "deepspeed.runtime.zero.stage3" in _modules_of_callers():
        warnings.warn(
            "DeepSpeed's ZeRO stage 3 pads parameters with memory that it does not initialise, and an L2 penalty "
            "carries it into the mean of v, which can be nan from then on. Use AdaiW, or decoupled_weight_decay=True",
            stacklevel=3,
        )


def warn_of_steps_in_backward(optimizer: Optimizer) -> None:
    """Warn once if two optimizers step within the same backward pass: each then has only a part of the parameters."""
    task = current_backward()
    if task == -1 or _backwards.said:
        return
    other = _backwards.stepped() if _backwards.stepped is not None else None
    if task == _backwards.task and other is not None and other is not optimizer:
        _backwards.said = True
        _warn_of_another_rule(f"Several optimizers step within one backward pass. {_ONE}")
    _backwards.task, _backwards.stepped = task, weakref.ref(optimizer)


def _warn_of_one_each(optimizer: Optimizer, modules: Sequence[str]) -> None:
    """Warn if such a module creates an optimizer while its previous one is still in use; once for all of them."""
    for module in reversed(modules):  # the outermost call is the one for the whole model
        for name, cause in _PER_PARAMETER.items():
            if module != name and not module.startswith(f"{name}."):
                continue
            maker = _makers[name]
            other = maker.made() if maker.made is not None else None
            if other is None:
                maker.said = False
            elif other is not optimizer and not maker.said:
                maker.said = True
                _warn_of_another_rule(cause)
            maker.made = weakref.ref(optimizer)
            return


def _warn_of_another_rule(cause: str) -> None:
    warnings.warn(
        "Adai needs the mean of v over all parameters of a model, but here each optimizer has only some of them, so it "
        f"trains a different model. {cause}",
        stacklevel=4,
    )


def _shards(param_groups: Sequence[dict[str, Any]], modules: Sequence[str]) -> tuple[str, str] | None:
    """The library that has sharded the parameters over processes, and the argument that tells the optimizer."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    if any(getattr(p, "_fsdp_flattened", False) for group in param_groups for p in group["params"]):
        return "FullyShardedDataParallel", "process_group=GROUP with the group that it shards over"
    if "torch.distributed.optim.zero_redundancy_optimizer" in modules:
        return "ZeroRedundancyOptimizer", "optimizer_class=functools.partial(Adai, process_group=GROUP)"
    if any(module.startswith(("deepspeed.runtime.zero.", "deepspeed.runtime.bf16_optimizer")) for module in modules):
        return "DeepSpeed", "process_group=GROUP with its data parallel group"
    return None


def _modules_of_callers() -> list[str]:
    """The names of the modules of all callers, innermost first.

    NOTE this must not return the frames themselves. A list of frames that one of these frames holds is a cycle: it
    keeps all local variables of the callers alive, gradients too, until the next garbage collection.
    """
    modules, frame = [], inspect.currentframe()
    while frame is not None:
        modules.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return modules
