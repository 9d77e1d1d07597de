"""The state of a parameter: what a fresh one is, what becomes of a saved one, and when a part of it is let go."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.mean import accumulator
from adai.optim.rule import Count

# The state tensors that have the parameter's shape and are never kept in less than float32.
_MOMENTS = ("exp_avg", "exp_avg_sq", "bias_correction")
_WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}


def fresh(param: Tensor, capturable: bool) -> dict[str, Any]:
    """The state of a parameter before its first step."""
    zeros = {key: torch.zeros_like(param, dtype=_dtype(param), memory_format=torch.preserve_format) for key in _MOMENTS}
    return {"step": _new_step(param, capturable), **zeros}


def check_is_ours(saved: dict[str, Any]) -> None:
    """Raise where the saved state of a parameter, if it has any, is another optimizer's, such as Adam's."""
    product = saved.keys() & {"bias_correction", "beta1_prod"}  # ours, the authors'
    if saved and not (product and saved.keys() >= {"exp_avg", "exp_avg_sq"}):
        raise ValueError(
            f"the state dict is another optimizer's: its state is {', '.join(map(str, saved))}; start with fresh "
            "state, which Adai.from_sgd does with the options of an SGD"
        )


def modernise(state: dict[str, Any], param: Tensor, capturable: bool) -> None:
    """Bring the state of one parameter, if it has any, to this version's form."""
    if "step" in state and not isinstance(state["step"], Tensor):
        state["step"] = _new_step(param, capturable, float(state["step"]))
    if "beta1_prod" in state:  # the authors keep Π mu
        state["bias_correction"] = 1 - state.pop("beta1_prod")


def to_save(state: dict[str, Any], whole: bool) -> dict[str, Any]:
    """What is saved of a state: all that a fresh one has, for strict loaders, and nothing that holds here alone.

    Args:
        state: the state of a parameter, which stays as it is.
        whole: whether the whole parameter is on this process; the running sum over a part is nobody else's.
    """
    saved = dict(state)
    record = saved.pop("exp_avg_sq_sum", None)
    if record is not None and whole and record[1] == state["step"] > 0:
        saved["exp_avg_sq_sum"] = record
    if "exp_avg" in saved and "bias_correction" not in saved:
        m = saved["exp_avg"]
        saved["bias_correction"] = torch.full_like(m, 1 + 1j if m.is_complex() else 1)
    return saved


def restore(state: dict[str, Any], saved: dict[str, Any], param: Tensor, group: dict[str, Any], whole: bool) -> None:
    """Put the tensors of a saved state into a state that `torch.optim.Optimizer` has cast and may share with it."""
    saved = dict(saved)
    if "beta1_prod" in saved:
        saved["bias_correction"] = 1 - saved["beta1_prod"]
    for key, value in saved.items():
        if key in _MOMENTS:
            # In the parameter's layout, whatever the saved one's was: the fused engine needs them alike.
            state[key] = torch.empty_like(param, dtype=_dtype(param)).copy_(value)
        elif key == "exp_avg_sq_sum":
            # NOTE a flattened state dict of torch.distributed.checkpoint has an empty dict for what it does not have.
            if whole and isinstance(value, Tensor):
                state[key] = value.to(device=_home(param), dtype=torch.float64, copy=True)
            else:
                del state[key]
        elif key == "step" and isinstance(value, Tensor):
            # NOTE fused=True makes torch.optim.Optimizer move it to the parameter's device.
            state[key] = state[key].to(device=param.device if group["capturable"] else "cpu", copy=True)
    if "bias_correction" in state:
        drop_settled(state, count_at(state["step"].item(), group))


def count_at(t: Any, group: dict[str, Any]) -> Count:
    """What follows from the step count t in a group."""
    return Count.of(t, beta2=group["betas"][1], eps=group["eps"], warmup_steps=group["warmup_steps"])


def counts_at(steps: Sequence[Tensor], group: dict[str, Any], off_host: bool) -> list[Count]:
    """The count of every tensor at the step that follows so many; ``off_host`` does not ask a device for them."""
    if off_host:
        return [count_at(step.to(accumulator(step.device)) + 1, group) for step in steps]
    ts = [step.item() + 1 for step in steps]
    each = {t: count_at(t, group) for t in set(ts)}  # most tensors share one
    return [each[t] for t in ts]


def drop_settled(state: dict[str, Any], count: Count) -> None:
    """Let go of the bias correction if it is 1 for good."""
    c = state.get("bias_correction")
    if c is not None and count.settled(c.dtype):
        del state["bias_correction"]


def _home(param: Tensor) -> torch.device:
    """Where a parameter's running sum is: with the parameter, but on the host where the device has no float64."""
    return torch.device("cpu") if accumulator(param.device) != torch.float64 else param.device


def _dtype(param: Tensor) -> torch.dtype:
    return _WIDER.get(param.dtype, param.dtype)


def _new_step(param: Tensor, capturable: bool, value: float = 0.0) -> Tensor:
    """The step count: on the host unless `capturable`, because reading it there is free; exact to 2^24 steps."""
    return torch.tensor(value, dtype=torch.float32, device=param.device if capturable else "cpu")
