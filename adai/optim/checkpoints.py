"""Saving and loading of a whole optimizer: what `torch.optim.Optimizer` does to state, made good around it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.optim.optimizer import Optimizer

from adai.optim.state import check_is_ours, restore, to_save


@contextmanager
def saved_strictly(optimizer: Optimizer, whole: Callable[[Tensor], bool]) -> Iterator[None]:
    """Within it `torch.optim.Optimizer.state_dict` gives what `to_save` leaves, before the caller's hooks see it.

    Args:
        optimizer: whose state is saved.
        whole: says of a parameter whether the whole of it is on this process.
    """

    def to_be_saved(_: Optimizer, saved: dict[str, Any]) -> None:
        params = (p for group in optimizer.param_groups for p in group["params"])
        states = saved["state"]
        saved["state"] = {i: to_save(states[i], whole(p)) for i, p in enumerate(params) if i in states}

    hook = optimizer.register_state_dict_post_hook(to_be_saved, prepend=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def loaded_in_full(optimizer: Optimizer, whole: Callable[[Tensor], bool]) -> Iterator[None]:
    """Within it `torch.optim.Optimizer.load_state_dict` keeps every digit, and shares no memory with what it loads.

    NOTE it casts state to the parameter's dtype (_process_value_according_to_param_policy, a static method called by
    its full name). So take what was handed to it, after the caller's hooks, and put it back in full, before the
    caller's hooks.

    Args:
        optimizer: whose state is loaded.
        whole: says of a parameter whether the whole of it is on this process.
    """
    handed: dict[str, Any] = {}

    def remember(_: Optimizer, saved: dict[str, Any]) -> None:
        for state in saved["state"].values():
            check_is_ours(state)
        handed.update(saved)

    def put_back(_: Optimizer) -> None:
        ids = (i for group in handed["param_groups"] for i in group["params"])
        for group in optimizer.param_groups:
            for param in group["params"]:
                saved = handed["state"].get(next(ids), {})
                restore(optimizer.state.get(param, {}), saved, param, group, whole(param))

    hooks = (
        optimizer.register_load_state_dict_pre_hook(remember),
        optimizer.register_load_state_dict_post_hook(put_back, prepend=True),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
