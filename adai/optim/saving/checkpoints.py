"""Saving and loading a whole optimizer, with corrections to what `torch.optim.Optimizer` does with the state."""

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
    """A context in which `torch.optim.Optimizer.state_dict` applies `to_save` before it runs the caller's hooks."""

    def to_be_saved(_: Optimizer, saved: dict[str, Any]) -> None:
        # Entries that hooks have added beside the states of parameters stay unchanged.
        params = {i for group in saved["param_groups"] for i in group["params"]}
        saved["state"] = {key: to_save(state) if key in params else state for key, state in saved["state"].items()}

    hook = optimizer.register_state_dict_post_hook(to_be_saved, prepend=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def loaded_in_full(optimizer: Optimizer, state_dtype: torch.dtype | None) -> Iterator[None]:
    """A context in which `torch.optim.Optimizer.load_state_dict` keeps all digits and does not share memory.

    If loading fails, the optimizer is left unchanged.

    NOTE torch casts state to the parameter's dtype, in _process_value_according_to_param_policy, a static method that
    it calls by its full name. So one hook remembers the given state dict, after the caller's hooks for loading, and
    another restores the state from it, before the caller's hooks that run after loading.
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
    """Raise if a state dict does not fit this optimizer. torch itself checks the numbers of groups and parameters."""
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
    """Raise if the saved state of a parameter belongs to another optimizer, such as Adam. It may be empty."""
    product = saved.keys() & {"bias_correction", "beta1_prod"}  # ours, the authors'
    if saved and not (product and saved.keys() >= {"step", "exp_avg", "exp_avg_sq"}):
        raise ValueError(
            f"the state dict is another optimizer's: its state is {', '.join(map(str, saved))}; start with fresh "
            "state, for example with Adai.from_sgd, which keeps the options of an SGD"
        )


def _check_options_are_ours(group: dict[str, Any]) -> None:
    """Raise if the options of a saved group belong to another optimizer. Used if there is no state to check."""
    # Earlier versions had fewer options. But options with foreach and without dampening, as RAdam's, were never ours.
    ours = "decoupled_weight_decay" in group and ("dampening" in group or "foreach" not in group)
    authors = "decoupled" in group
    options = [key for key in group if key not in ("params", "param_names")]
    if options and not (ours or authors):
        raise ValueError(
            f"the state dict is another optimizer's: its options are {', '.join(map(str, options))}; do not load it, "
            "and give Adai its own options, for example with Adai.from_sgd, which converts those of an SGD"
        )


def _check_fits(name: str, param: Tensor, state: dict[str, Any]) -> None:
    """Raise if a saved state cannot belong to a parameter."""
    for key in (*MOMENTS, "beta1_prod") if state else ():
        value = state.get(key)
        if value is None and key not in state:
            continue
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{key} of {name} in the state dict is a {type(value).__name__}, not a tensor; give what "
                "state_dict() returned"
            )
        if value.shape != param.shape:
            raise ValueError(
                f"{name} has shape {tuple(param.shape)}, but its {key} in the state dict has shape "
                f"{tuple(value.shape)}: it is the state of another model; load it with the model that it was saved with"
            )
        number = value.is_complex() if param.is_complex() else value.is_floating_point()
        if not number:
            raise ValueError(
                f"{name} has dtype {param.dtype}, but its {key} in the state dict has dtype {value.dtype}: it is the "
                "state of another model; load it with the model that it was saved with"
            )
    step = state.get("step", 0)
    if not isinstance(step, (int, float)) and not (isinstance(step, Tensor) and step.numel() == 1):
        form = f"shape {tuple(step.shape)}" if isinstance(step, Tensor) else f"type {type(step).__name__}"
        raise ValueError(
            f"step of {name} in the state dict must be a number, but has {form}; give what state_dict() returned"
        )
