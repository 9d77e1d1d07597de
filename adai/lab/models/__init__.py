"""Networks to compare optimizers on."""

from adai.lab.models.small import SmallNet
from adai.lab.models.table import MODELS, build_model

__all__ = ["MODELS", "SmallNet", "build_model"]
