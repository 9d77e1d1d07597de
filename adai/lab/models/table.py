"""The networks by name. To add one, write a function or class (`Constructor`), and add it here."""

from typing import Protocol

from torch import nn

from adai.errors import UserError
from adai.lab.models.connected import ThreeLayerNet, fc3_4, fc3_10
from adai.lab.models.densenet import densenet121
from adai.lab.models.googlenet import googlenet
from adai.lab.models.mlp import MLP
from adai.lab.models.resnet import resnet8, resnet18, resnet20, resnet34, resnet50
from adai.lab.models.small import ConvNet, PlainNet, SmallNet
from adai.lab.models.transformer import Transformer
from adai.lab.models.vgg import vgg16


class Constructor(Protocol):
    """Makes a net that maps images (N, channels, size, size) to logits (N, classes)."""

    def __call__(self, channels: int, size: int, classes: int) -> nn.Module:
        """A net with initial weights drawn from torch's global generator."""
        ...


# Most nets average over all positions and do not need the size; they take it so that all have the same arguments.
MODELS: dict[str, Constructor] = {
    "smallnet": SmallNet,
    "convnet": ConvNet,
    "plainnet": PlainNet,
    "fc3": ThreeLayerNet,
    "fc3-10": fc3_10,
    "fc3-4": fc3_4,
    "resnet8": resnet8,
    "resnet20": resnet20,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "vgg16": vgg16,
    "densenet121": densenet121,
    "googlenet": googlenet,
}

TEXT_MODELS = {"transformer": Transformer}  # tokens (N, T) to logits (N, classes, T)
TABLE_MODELS = {"mlp": MLP}  # features (N, features) to numbers (N,)

# The nets of the paper's Table 1. They train at its learning rates without a warm-up; our own nets may die.
PAPER_NETS = ("resnet18", "resnet34", "vgg16", "densenet121", "googlenet")


def build_model(name: str, *, channels: int, size: int, classes: int) -> nn.Module:
    """The net of that name with initial weights, for images (N, channels, size, size) and this number of classes.

    Raises:
        UserError: there is no net of that name.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}; choose from {', '.join(MODELS)}")
    return MODELS[name](channels, size, classes)
