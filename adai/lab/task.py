"""What is learnt: a model, training data, test data and a loss; from a data set and a network by name, or your own."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from adai.errors import UserError
from adai.lab import data as images
from adai.lab.hub import Rows
from adai.lab.imagenet import Pictures, normalised
from adai.lab.models import build_model
from adai.lab.sources import Examples, Loaded, Source, Tensors

Loss = Callable[[Any, Tensor], Tensor]


class Task(NamedTuple):
    """What a run learns, and is measured by.

    Make the model in the function that makes the task, not outside of it: the run's seed is set just before.

    Attributes:
        model: on any device.
        train: a map-style `torch.utils.data.Dataset` of (input, target) pairs. A `TensorDataset` of two tensors goes to
            the training device as a whole; any other is read by ``--workers`` processes.
        test: the same for the test examples.
        loss: of the model's outputs and the targets, a mean over the batch; default cross entropy. Where the targets
            are classes and the outputs have one more dimension, their second, the run counts errors too.
    """

    model: nn.Module
    train: Examples | Source
    test: Examples | Source
    loss: Loss = cross_entropy


Factory = Callable[[], Task]


def source(data: Examples | Source, device: torch.device, workers: int) -> Source:
    """The data as batches on the device."""
    if isinstance(data, TensorDataset):
        inputs, targets = data.tensors
        return Tensors(inputs.to(device), targets.to(device))
    return data if isinstance(data, Source) else Loaded(data, device, workers)


def image_task(data: images.Dataset, model: str, *, augment: bool) -> Factory:
    """Classify a data set's images with a network from `adai.lab.models.MODELS`, from fresh weights at every call.

    Args:
        data: from `adai.lab.data.load`.
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
    """Classify pictures of any size, which ``workers`` processes read and cut to ``size``, as ImageNet's are.

    With ``augment`` the training pictures are cut out and mirrored at random.
    """

    def task() -> Task:
        return Task(
            build_model(model, channels=3, size=size, classes=train.classes),
            Loaded(Pictures(train, size=size, train=augment), device, workers, normalised),
            Loaded(Pictures(test, size=size, train=False), device, workers, normalised),
        )

    return task


def imported(name: str) -> Factory:
    """The function ``package.module:factory``, from the working folder or wherever Python finds modules.

    Raises:
        UserError: there is none, or what it returns is not a `Task`.
    """
    return partial(_checked, function_named(name), name)


def function_named(name: str) -> Callable[[], Any]:
    """The function ``package.module:function``, from the working folder or wherever Python finds modules.

    Raises:
        UserError: there is none.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        raise UserError(f"cannot import the task {name!r}: {error}") from error
    function: Callable[[], Any] | None = getattr(module, attribute, None)
    if not callable(function):
        raise UserError(f"the task {name!r}: {module_name} has no function {attribute!r}; give package.module:factory")
    return function


def _checked(factory: Callable[[], Any], name: str) -> Task:
    task = factory()
    if not isinstance(task, Task):
        raise UserError(f"the task {name!r} returns {type(task).__name__}; it has to return adai.lab.task.Task")
    return task
