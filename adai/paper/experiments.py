"""The paper's training runs: data set, network, optimizers, schedule. Table 1 and Figures 1 to 4 are drawn from them.

Settings are those of Section 5 and Appendix D.1 of arXiv 2006.15815. `adai.lab.optimizers.recipes.RECIPES` has the
learning rates and weight decays, where the paper's Adai is ``adai-paper``; here it is ``adai``, as in the paper.
`adai.lab.schedules.PAPER_SCHEDULES` has the batch and milestones. This module has the other settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from adai.lab.optimizers.recipes import RECIPES, Recipe, recipe
from adai.lab.settings import Settings

PAPERS_ADAI = RECIPES["adai-paper"]._replace(label=RECIPES["adai"].label, name="adai", spec="adai")

# The columns of Table 1, in its order.
NINE = ("adai", "sgd", "adam", "amsgrad", "adamw", "adabound", "padam", "yogi", "radam")
THREE = ("sgd", "adai", "adam")

# These describe the machine, or differ from run to run; `Experiment.departures` ignores them.
_FREE = (
    "optimizer", "options", "seed", "device", "channels_last", "compile", "graph", "deterministic", "workers",
    "processes",
)  # fmt: skip


class Scale(NamedTuple):
    """How much of an experiment is run.

    Args:
        name: on the command line.
        note: is shown in all tables and figures; empty for the paper's experiment.
        seeds: the number of runs per optimizer.
        settings: settings that replace the paper's in all runs.
    """

    name: str
    note: str
    seeds: int
    settings: Mapping[str, Any]


FULL = Scale("full", "", 3, {})
# Smaller networks and fewer epochs, `Experiment.small`, which take hours on two cores. The results are meaningful, but
# they are not those of the paper's experiment.
SMALL = Scale("small", "small: small nets and fewer epochs, not the paper's experiment", 3, {})
QUICK = Scale(
    "quick",
    "quick: not the paper's experiment",
    1,
    # Three steps per epoch: enough to check that everything works. Large pictures are also made smaller.
    {"epochs": 2, "limit": 48, "batch": 16},
)
SCALES = {scale.name: scale for scale in (FULL, SMALL, QUICK)}


class Experiment(NamedTuple):
    """The runs of one folder: a comparison of optimizers that `adai.lab.queue.compare.compare` trains.

    Args:
        dataset: a name for `adai.lab.tasks.data.load`.
        model: a network of `adai.lab.models`.
        optimizers: the optimizers to draw; those without runs are trained.
        settings: settings of all runs in addition to the defaults of `Settings.of` for the data set.
        overrides: learning rate and weight decay that differ from the recipe's, by optimizer.
        variant: distinguishes experiments with the same data set and network.
        small: the experiment that replaces it at small scale; None if there is none.
        flatness_of: the optimizers whose flatness is measured along their runs.
        flatness_every: the number of epochs between two measurements; the last epoch is always measured.
    """

    dataset: str
    model: str
    optimizers: tuple[str, ...]
    settings: Mapping[str, Any] = {}
    overrides: Mapping[str, Mapping[str, float]] = {}
    variant: str = ""
    small: "Experiment | None" = None
    flatness_of: tuple[str, ...] = ()
    flatness_every: int = 0

    @property
    def name(self) -> str:
        """The name of its folder. Tables and figures that need the same experiment share it, so it is run once."""
        return "-".join(filter(None, (self.dataset, self.model, self.variant)))

    @property
    def title(self) -> str:
        """A title for readers."""
        return f"{NAMES[self.model]} on {NAMES[self.dataset]}"

    def given(self, scale: Scale) -> dict[str, Any]:
        """The settings at that scale, as `Settings.of` and `compare` take them."""
        small = {"image_size": 64} if scale.settings and self.dataset == "imagenet" else {}
        return {**self.settings, **scale.settings, **small}

    def recipes(self) -> list[Recipe]:
        """The recipes of the optimizers, with the paper's Adai as ``adai``."""
        return [PAPERS_ADAI if name == "adai" else recipe(name) for name in self.optimizers]

    def runs(self, scale: Scale) -> dict[str, Settings]:
        """The settings of the first run of each optimizer."""
        given = {"model": self.model, **self.given(scale)}
        return {
            own.name: replace(
                Settings.of(self.dataset, optimizer=own.name, **given),
                options={**own.options, **self.overrides.get(own.name, {})},
            )
            for own in self.recipes()
        }

    def departures(self, config: Mapping[str, Any], scale: Scale) -> list[str]:
        """Descriptions of the settings in which a comparison's ``config.json`` differs from these runs."""
        runs = self.runs(scale)
        common = runs[self.optimizers[0]].as_dict()
        pairs = [(k, config[k], v) for k, v in common.items() if k in config and k not in _FREE]
        there = config["optimizers"]
        pairs += [(f"options of {n}", there[n], own.options) for n, own in runs.items() if n in there]
        return [f"{what} is {old!r} there, {new!r} here" for what, old, new in pairs if old != new]


def remarked(text: str, remark: str) -> str:
    """The text with the remark in brackets; only the text if the remark is empty."""
    return f"{text} ({remark})" if remark else text


NAMES = {
    "digits": "the digits", "mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet",
    "smallnet": "SmallNet", "resnet8": "ResNet8", "resnet18": "ResNet18", "resnet34": "ResNet34",
    "resnet50": "ResNet50", "vgg16": "VGG16", "densenet121": "DenseNet121", "googlenet": "GoogLeNet",
}  # fmt: skip

# Batch, rates, weight decays, crops and flips are the paper's; the milestones are at the same fractions of the epochs,
# see `adai.lab.schedules.Schedule.scaled`. The paper has no warm-up, but without one small nets die at a rate of 1.
_SMALL = {"epochs": 20, "warmup_steps": 100, "precision": "bf16", "channels_last": True}

RESNET8_CIFAR10 = Experiment("cifar10", "resnet8", NINE, _SMALL, flatness_of=THREE, flatness_every=4)
RESNET8_CIFAR100 = Experiment("cifar100", "resnet8", NINE, _SMALL)

RESNET18 = Experiment("cifar10", "resnet18", NINE, small=RESNET8_CIFAR10)
VGG16 = Experiment("cifar10", "vgg16", NINE)
RESNET34 = Experiment("cifar100", "resnet34", NINE, small=RESNET8_CIFAR100)
DENSENET121 = Experiment("cifar100", "densenet121", NINE)
GOOGLENET = Experiment("cifar100", "googlenet", NINE)


def at(experiments: Sequence[Experiment], scale: Scale) -> tuple[Experiment, ...]:
    """The experiments at that scale: at small scale the experiments that replace them, with the same optimizers."""
    if scale is not SMALL:
        return tuple(experiments)
    return tuple(e.small._replace(optimizers=e.optimizers) for e in experiments if e.small)
