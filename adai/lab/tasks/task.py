"""A task: a model, training data, test data and a loss; from a data set and a network by name, or your own."""

import gc
import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from adai.errors import UserError
from adai.lab.host.boundary import Failed, theirs
from adai.lab.models import build_model
from adai.lab.tasks import data as images
from adai.lab.tasks.hub import Rows
from adai.lab.tasks.imagenet import Pictures, normalised
from adai.lab.tasks.metric import Metric
from adai.lab.tasks.sources import Examples, Loaded, Source, Tensors, in_memory
from adai.lab.tasks.targets import Loss


def everything(parameter: Parameter) -> bool:
    """True: weight decay applies to every parameter."""
    return True


class Task(NamedTuple):
    """What a run trains and evaluates: a model, data and a loss.

    Create the model inside the function that makes the task, not outside, because the run's seed is set just before the
    call.

    Attributes:
        model: on any device.
        train: a map-style `torch.utils.data.Dataset` of (input, target) pairs. A `TensorDataset` of two tensors, or a
            `Subset` of one, moves to the training device as a whole; any other is read by ``workers`` processes.
        test: the same for the test examples.
        loss: of the model's outputs and the targets, a mean over the batch; default cross entropy. If the targets are
            classes and the outputs have one more dimension, with the classes in the second, the run also counts errors.
            Targets that equal the loss's ``ignore_index`` do not count; a loss of your own may have this attribute too.
        metric: the number by which optimizers are compared; default the errors if they are counted, else the loss.
        validation: examples that take the place of the test examples where settings are chosen; default a share of the
            training examples.
        decays: whether weight decay applies to a parameter; default to all. Functions that make an optimizer from the
            model decide this by themselves.
    """

    model: nn.Module
    train: Examples | Source
    test: Examples | Source
    loss: Loss = cross_entropy
    metric: Metric | None = None
    validation: Examples | Source | None = None
    decays: Callable[[Parameter], bool] = everything


Factory = Callable[[], Task]

# Functions that no other process can import: those of a notebook, a script or another function, and lambdas.
_here: dict[str, Factory] = {}


def name_of(factory: Factory) -> str:
    """The name ``package.module:function`` by which runs of this process find the function.

    Raises:
        UserError: it is not a function.
    """
    if not callable(factory):
        raise UserError(f"the task is a {type(factory).__name__}; give a function that returns a Task, or a name")
    module = getattr(factory, "__module__", None) or "__main__"
    function = getattr(factory, "__qualname__", type(factory).__qualname__)
    name = f"{module}:{function}"
    if module == "__main__" or getattr(sys.modules.get(module), function, None) is not factory:
        _here[name] = factory
    return name


def known_here_alone(name: str) -> bool:
    """Whether only this process has the task of that name, because other processes cannot import it."""
    return name in _here


def source(data: Examples | Source, device: torch.device, workers: int) -> Source:
    """The data as batches on the device."""
    tensors = in_memory(data)
    if tensors:
        inputs, targets = tensors
        return Tensors(inputs.to(device), targets.to(device))
    return data if isinstance(data, Source) else Loaded(data, device, workers)


def image_task(data: images.Dataset, model: str, *, augment: bool) -> Factory:
    """The task to classify a data set's images with a network from `adai.lab.models.MODELS`.

    The returned function creates new weights at every call.

    Args:
        data: from `adai.lab.tasks.data.load`.
        model: the network's name.
        augment: crop and mirror the training images at random.
    """
    channels, size = data.train.pixels.shape[1:3]

    def task() -> Task:
        return Task(
            build_model(model, channels=channels, size=size, classes=data.classes),
            Tensors(data.train.pixels, data.train.labels, data.normalised, augment=augment),
            Tensors(data.test.pixels, data.test.labels, data.normalised),
        )

    return task


def picture_task(
    train: Rows, test: Rows, model: str, *, size: int, augment: bool, device: torch.device, workers: int
) -> Factory:
    """The task to classify pictures of any size, as ImageNet's, which ``workers`` processes read and crop to ``size``.

    With ``augment`` the training pictures are cropped and mirrored at random.
    """

    def task() -> Task:
        return Task(
            build_model(model, channels=3, size=size, classes=train.classes),
            Loaded(Pictures(train, size=size, train=augment), device, workers, normalised),
            Loaded(Pictures(test, size=size, train=False), device, workers, normalised),
        )

    return task


def imported(name: str) -> Factory:
    """The function ``package.module:factory``, from the working folder or from where Python finds modules.

    Raises:
        UserError: there is no such function. The returned factory raises it if its result is not a `Task`.
    """
    return partial(_a_task, function_named(name), name)


def function_named(name: str) -> Callable[[], Any]:
    """The function ``package.module:function``, from the working folder or from where Python finds modules.

    Raises:
        UserError: there is no such function.
    """
    if name in _here:
        return _here[name]
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with theirs(f"importing the task {name}"):
            module = importlib.import_module(module_name)
    except Failed as error:
        if not isinstance(error.__cause__, ModuleNotFoundError | ValueError):
            raise
        raise UserError(f"cannot import the task {name!r}: {error.__cause__}") from error
    function: Callable[[], Any] | None = getattr(module, attribute, None)
    if not callable(function):
        raise UserError(f"the task {name!r}: {module_name} has no function {attribute!r}; give package.module:factory")
    return function


def _a_task(factory: Callable[[], Any], name: str) -> Task:
    task = factory()
    if not isinstance(task, Task):
        raise UserError(f"the task {name!r} returns {type(task).__name__}; it has to return adai.lab.tasks.task.Task")
    return task


def checked(factory: Factory, name: str) -> Task:
    """A new task, checked for common mistakes.

    Args:
        factory: makes the task.
        name: of the task, for messages.

    Raises:
        UserError: the model existed before or has nothing to train; or the data are not a map-style data set of pairs.
        Failed: the factory raised an error.
    """
    # Hold all existing modules until the task is made: otherwise a new module could get the id of a deleted one.
    there = [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]
    with theirs(name):
        task = factory()
    if not isinstance(task.model, nn.Module):
        raise UserError(f"{name}: model is a {type(task.model).__name__}; it has to be a torch.nn.Module")
    if not any(p.requires_grad for p in task.model.parameters()):
        raise UserError(f"{name}: the model has no parameter that requires a gradient, so there is nothing to train")
    before = set(map(id, there))
    for module in task.model.modules():
        if id(module) in before and any(p.requires_grad for p in module.parameters(recurse=False)):
            raise UserError(
                f"{name}: the model, or its part {type(module).__name__}, was made before the factory was called, so "
                "the seed does not draw its weights, and the next run would start with trained ones; make it in the "
                "factory, or copy it there with copy.deepcopy"
            )
    parts = {"train": task.train, "test": task.test, "validation": task.validation}
    for part, data in parts.items():
        if data is not None or part != "validation":
            _check_data(f"{name}: {part}", data)
    return task


def _check_data(which: str, data: Any) -> None:
    if isinstance(data, DataLoader):
        raise UserError(
            f"{which} is a DataLoader; give its data set (loader.dataset): order, batches and workers are options of "
            "the run"
        )
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise UserError(f"{which} is a {type(data).__name__} without a length; give a map-style data set")
    if not isinstance(data, Source) and not (hasattr(data, "__getitem__") or hasattr(data, "__getitems__")):
        raise UserError(f"{which} is a {type(data).__name__}; give a map-style data set")
    if isinstance(data, TensorDataset) and len(data.tensors) != 2:
        raise UserError(f"{which} has {len(data.tensors)} tensors; it needs two, inputs and targets")
    if isinstance(data, list | tuple | Mapping | Tensor) and not _is_pairs(data):
        raise UserError(f"{which} is a {type(data).__name__}; give a data set of (input, target) pairs")
    if not len(data):
        raise UserError(f"{which} is empty; it needs at least one example")


def _is_pairs(data: Any) -> bool:
    return isinstance(data, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in data)
