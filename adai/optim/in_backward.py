"""Steps within the backward pass: each parameter is updated when its gradient is ready, and the gradient is freed."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from adai.optim.adai import Adai
from adai.optim.options import check_coupled
from adai.optim.shared.coupling import Coupling
from adai.optim.step import Engines


class InBackward:
    """The hooks that `in_backward` has registered."""

    def __init__(self, optimizer: Adai, handles: list[RemovableHandle]) -> None:
        self._optimizer, self._handles = optimizer, handles

    def remove(self) -> None:
        """Remove the hooks: gradients are kept again, and ``optimizer.step()`` takes the step, by the exact rule."""
        for handle in self._handles:
            handle.remove()
        self._optimizer.coupling = None


def in_backward(optimizer: Adai) -> InBackward:
    """Update each parameter in the backward pass, as soon as its gradient is ready, and free the gradient.

    So the gradients of a model never exist all at once. The training loop stays as it is: ``optimizer.step()`` and
    ``zero_grad()`` find nothing to do; schedulers and state dicts work as before.

    v̂ is divided by the mean of the backward pass before, as with ``mean="previous"``, because the mean of this one is
    not known before its end. Each backward pass reads every v once more. A parameter that you freeze during training
    still counts in the mean, until you remove it from ``optimizer.param_groups``.

    **When not to use it.** If gradients of several backward passes are added up, because here each pass is a step. With
    `torch.amp.GradScaler` or clipping by the norm of all gradients, because these need all gradients before any
    parameter moves. With `torch.nn.parallel.DistributedDataParallel`, which averages gradients after the hooks have
    run. With a compiled backward pass.

    Args:
        optimizer: holds all parameters of the model. Parameters that are added to it later are stepped by ``step()``.

    Returns:
        A handle whose ``remove()`` undoes it.

    Raises:
        ValueError: an option of the optimizer does not go with it (``max_grad_norm``, ``dampening`` below 1,
            ``capturable``, ``differentiable``), or it has a ``process_group``.
        RuntimeError: in the backward pass, a parameter is a DTensor.

    Example:
        >>> optimizer = Adai(model.parameters(), lr=1.0, min_inertia=0.9, warmup_steps=100)
        >>> handle = in_backward(optimizer)
        >>> loss(model(inputs), targets).backward()  # moves the parameters
        >>> optimizer.step()  # does nothing, but schedulers want to see it
    """
    if optimizer.coupling is not None or optimizer.process_group is not None:
        raise ValueError(
            "in_backward needs an optimizer without coupling and process_group, to which it was not applied yet; make "
            "a new one"
        )
    for group in optimizer.param_groups:
        check_coupled(group)
    optimizer.coupling = Coupling()
    optimizer.coupling.join(optimizer)
    handles = []
    for index, group in enumerate(optimizer.param_groups):
        for param in group["params"]:
            if param.requires_grad:
                handles.append(param.register_post_accumulate_grad_hook(_hook(optimizer, index)))
    return InBackward(optimizer, handles)


def _hook(optimizer: Adai, index: int) -> Any:
    engines: Engines = {}

    @torch.no_grad()
    def step(param: Tensor) -> None:
        optimizer._share_out()
        optimizer._move([(index, {**optimizer.param_groups[index], "params": [param]})], engines)
        param.grad = None

    return step
