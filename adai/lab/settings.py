"""The settings that determine the results of a run, with defaults for each data set."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from adai.errors import UserError, did_you_mean
from adai.lab.host.machine import default_device
from adai.lab.models import MODELS, PAPER_NETS, TABLE_MODELS, TEXT_MODELS
from adai.lab.optimizers.contenders import contender, plain
from adai.lab.optimizers.recipes import RECIPES, Recipe, own_name, recipe
from adai.lab.schedules import KINDS, PAPER_SCHEDULES
from adai.lab.tasks.kinds import Kind, kind_of

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
WITH_GRAPHS = ("cuda",)  # types of devices
WARMUP_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that determine the results of a run: equal settings give the same numbers on one machine.

    `Settings.of` fills in the defaults that suit a task; the defaults here are for a task that the lab does not know.

    Attributes:
        task: a data set that `adai.lab.tasks.data.load` knows, or ``package.module:factory``.
        target: the column of a table to predict; None for the data set's own, or the last.
        model: a name from `adai.lab.models.MODELS`; None if the task has its own.
        optimizer: a name from `adai.lab.optimizers.recipes.RECIPES`, or ``torch:NAdam``, ``pytorch_optimizer:Lion``,
            ``package.module:thing``.
        label: the optimizer's name in a comparison; empty for the usual one.
        options: the optimizer's options, including learning rate and weight decay. Tuples are stored as lists, as JSON
            does.
        epochs: passes over the training examples.
        batch: examples per step, over all processes.
        seed: of the weights, the order of the examples and all other random numbers.
        device: as torch names it. `Settings.of` takes ``cuda`` if torch can use a GPU, and says so.
        schedule: ``paper``, ``cosine`` or ``constant``, as in `adai.lab.schedules`.
        warmup_steps: the number of steps over which the learning rate rises; 0 for no warm-up.
        precision: ``fp32``; ``tf32``: products and convolutions of float32 in TF32, on GPUs that have it; or autocast
            to ``bf16`` or ``fp16``, the latter with a scaled loss.
        channels_last: keep images as (N, H, W, C) in memory.
        compile: run the model through `torch.compile`.
        graph: compute the gradients of full batches with a CUDA graph, for nets whose kernels are short. The numbers
            are the same. Not with ``fp16``, ``accumulate`` or several processes; optimizers that evaluate a batch
            several times do without.
        accumulate: split each batch into this number of parts, one after the other, to save memory. The step is the
            same except for batch norm, whose statistics are those of a part.
        clip_norm: clip the gradient to this global norm; None does not clip.
        augment: crop and mirror training images at random.
        image_size: read images when they are needed and crop each to this size; None keeps all in memory, uncropped.
        deterministic: use only deterministic algorithms; on a CPU all are deterministic.
        limit: the largest number of training images and of test images, for quick tries; None uses all.
        validation: the share of the training examples that is held out and used instead of the test examples, to
            choose settings; 0 for none.
        workers: the number of processes that read data that is not in memory.
        processes: the number of processes that `torchrun` started.

    Raises:
        UserError: a name is unknown.
    """

    task: str = "digits"
    target: str | None = None
    model: str | None = "smallnet"
    optimizer: str = "adai"
    label: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    epochs: int = 30
    batch: int = 64
    seed: int = 0
    device: str = "cpu"
    schedule: str = "cosine"
    warmup_steps: int = WARMUP_STEPS
    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False
    graph: bool = False
    accumulate: int = 1
    clip_norm: float | None = None
    augment: bool = False
    image_size: int | None = None
    deterministic: bool = False
    limit: int | None = None
    validation: float = 0.0
    workers: int = 2
    processes: int = 1

    def __post_init__(self) -> None:
        if ":" not in self.optimizer:  # others are looked for where they are needed: see `recipe`
            _one_of("optimizer", self.optimizer, RECIPES)
        options = {name: plain(value, name, self.contender) for name, value in self.options.items()}
        object.__setattr__(self, "options", options)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("schedule", self.schedule, KINDS)
        kind = kind_of(self.task)
        if self.model is not None:
            if kind == "own":
                raise UserError(f"the task {self.task} brings its own model; leave `model` out")
            _one_of("model", self.model, {"images": MODELS, "text": TEXT_MODELS, "table": TABLE_MODELS}[kind])
        given = [name for name in ("augment", "limit", "image_size") if getattr(self, name)]
        if kind != "images" and given:
            what = f"{self.task} brings its own data" if kind == "own" else f"{self.task} is no data set of images"
            raise UserError(f"the task {what}; leave `{given[0]}` out")
        if self.target is not None and kind != "table":
            raise UserError(f"the task {self.task} is no table; leave `target` out")
        if self.schedule == "paper" and self.task not in PAPER_SCHEDULES:
            raise UserError(f"the paper prints no schedule for {self.task}; choose cosine or constant")

        if self.graph:
            self._check_graph()

    def _check_graph(self) -> None:
        if self.device.partition(":")[0] not in WITH_GRAPHS:
            raise UserError(f"`graph` needs a CUDA device, but the device is {self.device}; leave `graph` out")
        with_it = {
            "the precision fp16": self.precision == "fp16",
            f"`accumulate` {self.accumulate}": self.accumulate > 1,
            f"{self.processes} processes": self.processes > 1,
        }
        if refused := [what for what, is_so in with_it.items() if is_so]:
            raise UserError(f"`graph` does not work with {refused[0]}; leave one of them out")

    @classmethod
    def of(cls, task: str, *, lr: float | None = None, weight_decay: float | None = None, **given: Any) -> Self:
        """The settings for a task: those that are given and not None, and defaults that suit the task for the others.

        CIFAR gets the paper's run (Appendix D.1: ResNet, batch 128, 200 epochs, the learning rate divided by 10 at two
        milestones), with crops and flips. All other runs, including those with nets of our own, start with a linear
        warm-up, the same for every optimizer.

        Args:
            task: as in the class.
            lr: learning rate; default the recipe's.
            weight_decay: default the recipe's.
            given: the other settings by name; ``options`` are the optimizer's options that differ from the recipe's.

        Raises:
            UserError: a setting or a name is unknown, or the optimizer does not take one of the options, or lacks one.
            ModuleNotFoundError: the optimizer comes from pytorch_optimizer, which is not installed.
        """
        see_that_known(given)
        settings = {**SUITED.get(task, SUITED_KIND[kind_of(task)]), **{k: v for k, v in given.items() if v is not None}}
        over = {"lr": lr, "weight_decay": weight_decay}
        own_options = settings.pop("options", {})
        twice = [name for name, value in over.items() if value is not None and own_options.get(name, value) != value]
        if twice:
            raise UserError(f"{twice[0]} is {over[twice[0]]} and, in options, {own_options[twice[0]]}; give it once")
        own_options = {**own_options, **{k: v for k, v in over.items() if v is not None}}
        optimizer = settings.get("optimizer", cls.optimizer)
        settings["options"] = contender(settings.get("label", ""), optimizer, own_options).options
        paper = settings.get("schedule") == "paper" and settings.get("model") in PAPER_NETS
        settings.setdefault("warmup_steps", 0 if paper else WARMUP_STEPS)
        if "device" not in settings:
            settings["device"] = default_device()
        return cls(task=task, **settings)

    @property
    def contender(self) -> str:
        """What the optimizer is called in a comparison: the name of its runs' folder."""
        return self.label or own_name(self.optimizer)

    @property
    def contender_label(self) -> str:
        """The same for people: recipes have names of their own in tables."""
        return self.label or (RECIPES[self.optimizer].label if self.optimizer in RECIPES else self.contender)

    @property
    def recipe(self) -> Recipe:
        """How the optimizer is made.

        Raises:
            UserError: it is not there, see `adai.lab.optimizers.recipes.recipe`.
            ModuleNotFoundError: it comes from pytorch_optimizer, which is not installed.
        """
        return recipe(self.optimizer)._replace(label=self.contender_label, options=self.options)

    @property
    def name(self) -> str:
        """A short name of the task, for messages."""
        return f"the task {self.task}" if self.model is None else f"{self.model} on {self.task}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON takes it, without label, target and graph where there are none, as in earlier versions."""
        later = ("label", "target", "graph")
        return {key: value for key, value in dataclasses.asdict(self).items() if key not in later or value}


def see_that_known(given: Iterable[str], others: Iterable[str] = ()) -> None:
    """Check the names of settings.

    Args:
        given: names that `Settings.of` takes.
        others: further names that a hint may give.

    Raises:
        UserError: there is no such setting.
    """
    known = ["lr", "weight_decay", *(each.name for each in dataclasses.fields(Settings))]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, [*known, *others]) or f"; choose from {', '.join(known)}"
            raise UserError(f"unknown setting {name!r}{hint}")


def _suited_to(task: str, model: str) -> dict[str, Any]:
    schedule = PAPER_SCHEDULES[task]
    common = {"epochs": schedule.epochs, "batch": schedule.batch, "schedule": "paper", "augment": True}
    return {"model": model, **common}


SUITED_KIND: dict[Kind, dict[str, Any]] = {
    "images": {},
    "text": {"model": "transformer", "epochs": 10, "batch": 64},
    "table": {"model": "mlp", "epochs": 30, "batch": 128},
    "own": {"model": None},
}

SUITED: dict[str, dict[str, Any]] = {
    "mnist": {"model": "convnet", "epochs": 10, "batch": 128},
    "cifar10": _suited_to("cifar10", "resnet18"),
    "cifar100": _suited_to("cifar100", "resnet34"),
    "imagenet": {"model": "resnet50", "epochs": 90, "batch": 256, "augment": True, "image_size": 224},
}


def _one_of(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise UserError(f"unknown {what} {name!r}; choose from {', '.join(names)}{did_you_mean(name, names)}")
