"""Restores a model and an optimizer exactly after a block of code."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from adai.lab.host import random_state


@contextmanager
def restored(optimizer: Optimizer, *modules: nn.Module, data: object = None) -> Iterator[None]:
    """Restore everything that a training step changes when the block ends, also after an exception.

    It restores parameters, buffers (batch norm's statistics), gradients and the mode of every module; the optimizer's
    state, the options of its groups and its attributes, also those of an optimizer that it wraps; the global random
    generators and those of a `DataLoader`. State, options and gradients are the same objects as before, because the
    block works on copies of them. This needs the memory of parameters, buffers and state a second time.

    It does not restore what hooks or a loss of your own write elsewhere, nor the position of a data set that keeps one.

    Args:
        optimizer: the optimizer.
        modules: the model, and all other modules that are trained.
        data: the data; if it is a `DataLoader`, its generators are restored.
    """
    params = list(dict.fromkeys([*(p for module in modules for p in module.parameters()), *trained(optimizer)]))
    device = params[0].device if params else torch.device("cpu")
    with ExitStack() as stack:
        stack.enter_context(random_state.untouched(device))
        for generator in generators(data):
            stack.callback(generator.set_state, generator.get_state())
        for part in dict.fromkeys(part for module in modules for part in module.modules()):
            stack.callback(_put_back_module, part, part.training, dict(part._buffers), _copies(part))
        values = [param.detach().clone() for param in params]
        stack.callback(_put_back_params, params, values, [param.grad for param in params])
        for inner in _with_wrapped(optimizer):
            _lend_copies(inner, stack)
        yield


def trained(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer."""
    return [param for group in optimizer.param_groups for param in group["params"]]


def generators(data: object) -> Iterable[Generator]:
    """The generators that a `DataLoader`, its sampler and its batch sampler draw from; empty for other data."""
    batch_sampler = getattr(data, "batch_sampler", None)
    holders = (data, getattr(data, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(holder, "generator", None) for holder in holders]
    return dict.fromkeys(generator for generator in found if isinstance(generator, Generator))


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.detach().clone() for name, buffer in module._buffers.items() if buffer is not None}


def _put_back_module(
    module: nn.Module, training: bool, buffers: dict[str, Tensor | None], values: dict[str, Tensor]
) -> None:
    module.training = training
    module._buffers.clear()
    module._buffers.update(buffers)  # a module may have assigned another tensor
    with torch.no_grad():
        for name, value in values.items():
            cast(Tensor, buffers[name]).copy_(value)


def _put_back_params(params: list[Tensor], values: list[Tensor], grads: list[Tensor | None]) -> None:
    with torch.no_grad():
        for param, value, grad in zip(params, values, grads, strict=True):
            param.copy_(value)
            param.grad = grad


def _with_wrapped(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizer, and the optimizers among its attributes: SAM and Lookahead wrap another."""
    found = [optimizer]
    for inner in found:  # the list grows during the loop
        found += [value for value in vars(inner).values() if isinstance(value, Optimizer) and value not in found]
    return found


def _lend_copies(optimizer: Optimizer, stack: ExitStack) -> None:
    """Give the optimizer copies of its state and of its groups' options; the stack restores the originals."""
    attributes = vars(optimizer)
    stack.callback(_put_back_mapping, attributes, dict(attributes))
    attributes.update({k: copy.copy(v) for k, v in attributes.items() if type(v) in (dict, list, set)})  # caches
    for group in optimizer.param_groups:
        stack.callback(_put_back_mapping, group, dict(group))
        group.update({key: copy.deepcopy(value) for key, value in group.items() if key != "params"})
    stack.callback(_put_back_mapping, optimizer.state, dict(optimizer.state))
    # The keys are the parameters, which must not be copied.
    optimizer.state.update({param: copy.deepcopy(state) for param, state in optimizer.state.items()})


def _put_back_mapping(mapping: Any, items: dict[Any, Any]) -> None:
    mapping.clear()
    mapping.update(items)
