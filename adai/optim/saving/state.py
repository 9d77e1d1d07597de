"""The state of a parameter: creating, saving and restoring it, and removing a part that is no longer needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.engines.memory import STATE_DTYPES, is_unreal
from adai.optim.engines.rounding import LEAST_ELEMENTS, NARROW
from adai.optim.hyper import Hyper
from adai.optim.options import ADDED
from adai.optim.rule import Count

# The state tensors with the parameter's shape.
MOMENTS = ("exp_avg", "exp_avg_sq", "bias_correction")
_WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.complex32: torch.complex64}


def fresh(param: Tensor, group: dict[str, Any], state_dtype: torch.dtype | None) -> dict[str, Any]:
    """The state of a parameter before its first step."""
    dtype = _dtype(param, state_dtype)
    zeros = {key: torch.zeros_like(param, dtype=dtype, memory_format=torch.preserve_format) for key in MOMENTS}
    return {"step": _new_step(param, group), **zeros}


def modernise(group: dict[str, Any], states: Mapping[Tensor, dict[str, Any]], defaults: dict[str, Any]) -> None:
    """Convert a group and the states of its parameters to the form of this version, in place.

    Args:
        group: a parameter group of this or an earlier version, or of one of the authors' own optimizers.
        states: the optimizer's state.
        defaults: the options of the constructor.
    """
    if "decoupled" in group:  # the authors' name
        group["decoupled_weight_decay"] = group.pop("decoupled")
    for option, default in {**defaults, **ADDED}.items():
        group.setdefault(option, default)
    for param in group["params"]:
        _modernise(states.get(param, {}), param, group)


def _modernise(state: dict[str, Any], param: Tensor, group: dict[str, Any]) -> None:
    if "step" in state and not isinstance(state["step"], Tensor):
        state["step"] = _new_step(param, group, float(state["step"]))
    if "beta1_prod" in state:  # the authors keep Π mu
        state["bias_correction"] = 1 - state.pop("beta1_prod")
    state.pop("exp_avg_sq_sum", None)  # from earlier versions


def to_save(state: dict[str, Any]) -> dict[str, Any]:
    """The state in the form that is saved. It has all keys of a fresh state, as strict loaders need."""
    saved = dict(state)
    if "exp_avg" in saved and "bias_correction" not in saved:
        m = saved["exp_avg"]
        saved["bias_correction"] = torch.full_like(m, 1 + 1j if m.is_complex() else 1)
    return saved


def restore(
    state: dict[str, Any],
    saved: dict[str, Any],
    param: Tensor,
    group: dict[str, Any],
    state_dtype: torch.dtype | None,
) -> None:
    """Copy the tensors of a saved state into a state. `torch.optim.Optimizer` has cast these, and may share them."""
    saved = dict(saved)
    if "beta1_prod" in saved:
        saved["bias_correction"] = 1 - saved["beta1_prod"]
    for key, value in saved.items():
        if key in MOMENTS:
            # In the parameter's layout, which the fused engine needs, whatever the saved layout was.
            state[key] = torch.empty_like(param, dtype=_dtype(param, state_dtype)).copy_(value)
        elif key == "step" and isinstance(value, Tensor):
            # NOTE with fused=True torch.optim.Optimizer moves it to the parameter's device.
            state[key] = state[key].reshape(()).to(device=param.device if group["capturable"] else "cpu", copy=True)


def step_counts(steps: Sequence[Tensor]) -> list[float]:
    """The values of step counts. Those on an accelerator are fetched together, because each transfer waits for it."""
    values = [0.0 if is_unreal(step) or not step.is_cpu else float(step) for step in steps]
    away: dict[torch.device, list[int]] = {}
    for i, step in enumerate(steps):
        if not is_unreal(step) and not step.is_cpu:
            away.setdefault(step.device, []).append(i)
    for where in away.values():
        fetched = torch.stack([steps[i].reshape(()).to(torch.float32) for i in where]).tolist()
        for i, value in zip(where, fetched, strict=True):
            values[i] = value
    return values


def drop_all_settled(states: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> None:
    """Remove each bias correction that stays at 1. ``groups`` contains the group of each state."""
    kept = [(state, group) for state, group in zip(states, groups, strict=True) if "bias_correction" in state]
    counts = step_counts([state["step"] for state, _ in kept])
    for (state, group), t in zip(kept, counts, strict=True):
        drop_settled(state, Hyper.of(group).count_at(t))


def drop_settled(state: dict[str, Any], count: Count) -> None:
    """Remove the bias correction if it stays at 1."""
    c = state.get("bias_correction")
    # In bfloat16 it is kept as long as in float32, because it is computed in float32.
    if c is not None and count.settled(torch.promote_types(c.dtype, torch.float32)):
        del state["bias_correction"]


def _dtype(param: Tensor, state_dtype: torch.dtype | None) -> torch.dtype:
    """The dtype of a parameter's state: bfloat16 if requested and the tensor is large enough, else at least float32."""
    # Shards of FullyShardedDataParallel may differ in size between processes, but must not differ in dtype.
    large = param.numel() >= LEAST_ELEMENTS or hasattr(param, "_fsdp_flattened")
    if state_dtype == NARROW and STATE_DTYPES.get(param.dtype) == torch.float32 and large:
        return NARROW
    return _WIDER.get(param.dtype, param.dtype)


def _new_step(param: Tensor, group: dict[str, Any], value: float = 0.0) -> Tensor:
    """A step count. As in torch.optim it is on the host, where reading it is free, unless ``capturable``.

    It is float32, which is exact up to 2^24 steps. It is float64 if that is torch's default dtype, unless ``fused``.
    """
    device = param.device if group["capturable"] else "cpu"
    wide = torch.get_default_dtype() == torch.float64 and not group["fused"]
    return torch.tensor(value, dtype=torch.float64 if wide else torch.float32, device=device)
