"""The tasks of `adai suite`: real data, on which two cores train a net in minutes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from adai.errors import UserError


class SuiteTask(NamedTuple):
    """A task of the suite.

    Attributes:
        task: the data set, or ``package.module:function`` of your own.
        learnt: a description of the data and the net.
        settings: the other settings of its runs, as for `adai.lab.settings.Settings.of`; without ``model``, the data
            set's own net.
        target: a value of the task's metric that a good run reaches, for the number of steps to the target.
    """

    task: str
    learnt: str
    settings: Mapping[str, Any]
    target: float


_IMAGES = {"schedule": "cosine", "channels_last": True}
_PLAINNET = {"model": "plainnet", "batch": 128, **_IMAGES}
_RESNET8 = {"model": "resnet8", "batch": 128, "augment": True, "precision": "bf16", **_IMAGES}

LAPTOP: Mapping[str, SuiteTask] = {
    "digits": SuiteTask("digits", "8×8 digits, a small net with batch norm", {"epochs": 30, **_IMAGES}, 4.0),
    "mnist": SuiteTask("mnist", "28×28 digits, a net without batch norm", {"epochs": 3, **_PLAINNET}, 2.0),
    "cifar10": SuiteTask("cifar10", "photographs in 10 classes, ResNet-8", {"epochs": 15, **_RESNET8}, 20.0),
    "cifar100": SuiteTask("cifar100", "photographs in 100 classes, ResNet-8", {"epochs": 15, **_RESNET8}, 55.0),
    "shakespeare": SuiteTask(
        "shakespeare", "the next character, a decoder Transformer", {"epochs": 12, "batch": 32}, 2.5
    ),
    "housing": SuiteTask("housing", "house prices, a fully connected net", {"epochs": 30}, 55_000.0),
}

GPU: Mapping[str, SuiteTask] = {
    **LAPTOP,
    "cifar10": SuiteTask("cifar10", "photographs in 10 classes, ResNet-18", {"epochs": 30, "schedule": "cosine"}, 7.0),
    "cifar100": SuiteTask(
        "cifar100", "photographs in 100 classes, ResNet-34", {"epochs": 30, "schedule": "cosine"}, 30.0
    ),
}

SCALES = {"laptop": LAPTOP, "gpu": GPU}


def chosen(names: list[str] | None, scale: str = "laptop") -> dict[str, SuiteTask]:
    """The tasks with these names; all tasks of the scale if there are no names.

    Raises:
        UserError: the scale or a name is unknown.
    """
    if scale not in SCALES:
        raise UserError(f"unknown `scale` {scale!r}; choose from {', '.join(SCALES)}")
    tasks = SCALES[scale]
    unknown = [name for name in names or () if name not in tasks]
    if unknown:
        raise UserError(f"unknown task {unknown[0]!r}; choose from {', '.join(tasks)}")
    return {name: tasks[name] for name in names or tasks}
