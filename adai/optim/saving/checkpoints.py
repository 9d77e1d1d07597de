"""Saving and loading of a whole optimizer: what `torch.optim.Optimizer` does to state, made good around it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adai.optim.options import ADDED, check
from adai.optim.saving.state import MOMENTS, drop_all_settled, restore, to_save


@contextmanager
def saved_strictly(optimizer: Optimizer) -> Iterator[None]:
    """Within it `torch.optim.Optimizer.state_dict` gives what `to_save` leaves, before the caller's hooks see it."""

    def to_be_saved(_: Optimizer, saved: dict[str, Any]) -> None:
        # What hooks have put beside the states of parameters stays as it is.
        params = {i for group in saved["param_groups"] for i in group["params"]}
        saved["state"] = {key: to_save(state) if key in params else state for key, state in saved["state"].items()}

    hook = optimizer.register_state_dict_post_hook(to_be_saved, prepend=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def loaded_in_full(optimizer: Optimizer, state_dtype: torch.dtype | None) -> Iterator[None]:
    """Within it `torch.optim.Optimizer.load_state_dict` keeps every digit, and shares no memory with what it loads.

    Where loading fails, the optimizer is left as it was.

    NOTE it casts state to the parameter's dtype (_process_value_according_to_param_policy, a static method called by
    its full name). So take what was handed to it, after the caller's hooks, and put it back in full, before the
    caller's hooks.
    """
    handed: dict[str, Any] = {}

    def remember(_: Optimizer, saved: dict[str, Any]) -> None:
        _check(optimizer, saved)
        handed.update(saved)

    def put_back(_: Optimizer) -> None:
        ids = (i for group in handed["param_groups"] for i in group["params"])
        states, groups = [], []
        for group in optimizer.param_groups:
            for param in group["params"]:
                state = optimizer.state.get(param, {})
                restore(state, handed["state"].get(next(ids), {}), param, group, state_dtype)
                states.append(state)
                groups.append(group)
        drop_all_settled(states, groups)

    hooks = (
        optimizer.register_load_state_dict_pre_hook(remember),
        optimizer.register_load_state_dict_post_hook(put_back, prepend=True),
    )
    before = optimizer.state, optimizer.param_groups
    try:
        yield
    except BaseException:
        optimizer.__setstate__({"state": before[0], "param_groups": before[1]})
        raise
    finally:
        for hook in hooks:
            hook.remove()


def _check(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Raise where a state dict is not one for this optimizer; numbers of groups and parameters are torch's to check."""
    groups = saved["param_groups"]
    ids = [i for group in groups for i in group["params"]]
    states = [saved["state"].get(i, {}) for i in ids]
    for state in states:
        _check_is_ours(state)
    if not any(states):
        for group in groups:
            _check_options_are_ours(group)
    for group in groups:
        options = {**optimizer.defaults, **ADDED, **group}
        check(options)
    params = [param for group in optimizer.param_groups for param in group["params"]]
    names = [name for group in optimizer.param_groups for name in group.get("param_names", group["params"])]
    if len(params) == len(ids):
        for i, (param, name, state) in enumerate(zip(params, names, states, strict=True)):
            _check_fits(f"parameter {i}" + (f" ({name})" if isinstance(name, str) else ""), param, state)


def _check_is_ours(saved: dict[str, Any]) -> None:
    """Raise where the saved state of a parameter, if it has any, is another optimizer's, such as Adam's."""
    product = saved.keys() & {"bias_correction", "beta1_prod"}  # ours, the authors'
    if saved and not (product and saved.keys() >= {"step", "exp_avg", "exp_avg_sq"}):
        raise ValueError(
            f"the state dict is another optimizer's: its state is {', '.join(map(str, saved))}; start with fresh "
            "state, which Adai.from_sgd does with the options of an SGD"
        )


def _check_options_are_ours(group: dict[str, Any]) -> None:
    """Raise where the options of a saved group are another optimizer's, which may not have any state to tell."""
    # Earlier versions had fewer options, but RAdam's with foreach and without dampening were never ours.
    ours = "decoupled_weight_decay" in group and ("dampening" in group or "foreach" not in group)
    authors = "decoupled" in group
    options = [key for key in group if key not in ("params", "param_names")]
    if options and not (ours or authors):
        raise ValueError(
            f"the state dict is another optimizer's: its options are {', '.join(map(str, options))}; leave it out, and "
            "give Adai its own options, which Adai.from_sgd makes of an SGD's"
        )


def _check_fits(name: str, param: Tensor, state: dict[str, Any]) -> None:
    """Raise where a saved state cannot be that of a parameter."""
    for key in (*MOMENTS, "beta1_prod") if state else ():
        value = state.get(key)
        if value is None and key not in state:
            continue
        if not isinstance(value, Tensor):
            raise ValueError(f"{key} of {name} in the state dict is a {type(value).__name__}, not a tensor")
        if value.shape != param.shape:
            raise ValueError(
                f"{name} has shape {tuple(param.shape)}, but its {key} in the state dict has shape "
                f"{tuple(value.shape)}: it is the state of another model"
            )
        number = value.is_complex() if param.is_complex() else value.is_floating_point()
        if not number:
            raise ValueError(f"{name} has dtype {param.dtype}, but its {key} in the state dict has {value.dtype}")
    step = state.get("step", 0)
    if not isinstance(step, (int, float)) and not (isinstance(step, Tensor) and step.numel() == 1):
        said = f"shape {tuple(step.shape)}" if isinstance(step, Tensor) else f"type {type(step).__name__}"
        raise ValueError(f"step of {name} in the state dict is no number but has {said}")
