"""Networks to compare optimizers on."""

from adai.lab.models.small import SmallNet
from adai.lab.models.table import MODELS, PAPER_NETS, TABLE_MODELS, TEXT_MODELS, build_model

__all__ = ["MODELS", "PAPER_NETS", "TABLE_MODELS", "TEXT_MODELS", "SmallNet", "build_model"]
