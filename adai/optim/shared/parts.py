"""Warnings where an optimizer has only a part of a model's parameters: the mean of v over the part is another rule."""

import inspect
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch.optim.optimizer import Optimizer

from adai.optim.hyper import Hyper
from adai.optim.torch_private import current_backward

_ONE = "Make one Adai over all parameters and give it to adai.optim.in_backward"
_COUPLED = "give all of them coupling=C, with one C = adai.optim.Coupling()"
_PER_PARAMETER = {
    "torchao": f"torchao's CPU offload makes an optimizer for each parameter; {_COUPLED}",
    "torch.distributed.optim.apply_optimizer_in_backward": f"_apply_optimizer_in_backward makes an optimizer for each "
    f"parameter. {_ONE}, or {_COUPLED}",
}
"""By module: what makes an optimizer for each parameter, and what to do."""


class _Maker:
    """The last optimizer that one of the modules above has made, and whether it has been warned of."""

    def __init__(self) -> None:
        self.made: weakref.ref[Optimizer] | None = None
        self.said = False


class _Backwards:
    """The backward pass in which an optimizer has stepped last, and that optimizer."""

    def __init__(self) -> None:
        self.task = -1
        self.stepped: weakref.ref[Optimizer] | None = None
        self.said = False


_makers = {name: _Maker() for name in _PER_PARAMETER}
_backwards = _Backwards()


def warn_of_parts(optimizer: Optimizer) -> None:
    """Warn where the caller, or its caller and so on, is known to share parameters out, unless ``optimizer`` knows.

    To be called where parameters are new: in the constructor, and in the first step with other ones, because
    DeepSpeed puts its own in the place of the caller's.
    """
    modules = _modules_of_callers()
    _warn_of_one_each(optimizer, modules)
    shards = _shards(optimizer.param_groups, modules)
    if shards is not None:
        owner, cure = shards
        warnings.warn(
            f"this process holds a share of the parameters that {owner} has shared out, but the mean of v over all of "
            f"them is needed: without it another model is trained. Give {cure}; for all processes that is "
            "torch.distributed.group.WORLD",
            stacklevel=3,
        )


def warn_of_padding(optimizer: Optimizer) -> None:
    """Warn where an L2 penalty would make gradients of memory that DeepSpeed has not initialised.

    To be called in the first step with other parameters. DeepSpeed 0.19 lengthens each parameter to a multiple of the
    number of ranks, at stage 3 with whatever was in memory; the gradients there are 0.
    """
    decayed = any(Hyper.of(group).l2 for group in optimizer.param_groups)
    if decayed and "deepspeed.runtime.zero.stage3" in _modules_of_callers():
        warnings.warn(
            "DeepSpeed's ZeRO stage 3 pads parameters with memory that it does not initialise, and an L2 penalty "
            "carries it into the mean of v, which can be nan from then on. Use AdaiW, or decoupled_weight_decay=True",
            stacklevel=3,
        )


def warn_of_steps_in_backward(optimizer: Optimizer) -> None:
    """Warn, once, where two optimizers step within the same backward pass: each has a part of what it goes through."""
    task = current_backward()
    if task == -1 or _backwards.said:
        return
    other = _backwards.stepped() if _backwards.stepped is not None else None
    if task == _backwards.task and other is not None and other is not optimizer:
        _backwards.said = True
        _warn_of_another_rule(f"several optimizers step within one backward pass. {_ONE}")
    _backwards.task, _backwards.stepped = task, weakref.ref(optimizer)


def _warn_of_one_each(optimizer: Optimizer, modules: Sequence[str]) -> None:
    """Warn where such a module makes an optimizer while the one that it made before is in use; once for all of them."""
    for module in reversed(modules):  # the outermost is the call for the whole model
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
        "the mean of v has to be over all parameters of a model, but here each optimizer takes it over its own alone, "
        f"so another model is trained: {cause}",
        stacklevel=4,
    )


def _shards(param_groups: Sequence[dict[str, Any]], modules: Sequence[str]) -> tuple[str, str] | None:
    """Who has shared the parameters out over processes, and what to give so that the optimizer knows."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    if any(getattr(p, "_fsdp_flattened", False) for group in param_groups for p in group["params"]):
        return "FullyShardedDataParallel", "process_group=GROUP, the group that it shards over"
    if "torch.distributed.optim.zero_redundancy_optimizer" in modules:
        return "ZeroRedundancyOptimizer", "optimizer_class=functools.partial(Adai, process_group=GROUP)"
    if any(module.startswith(("deepspeed.runtime.zero.", "deepspeed.runtime.bf16_optimizer")) for module in modules):
        return "DeepSpeed", "process_group=GROUP, its data parallel group"
    return None


def _modules_of_callers() -> list[str]:
    """The names of the modules of all callers, innermost first.

    NOTE frames are not kept: a list of them that a frame among them holds is a cycle, which keeps all that the callers
    have in hand, gradients too, until Python's garbage collector comes by.
    """
    modules, frame = [], inspect.currentframe()
    while frame is not None:
        modules.append(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return modules
