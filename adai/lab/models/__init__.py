"""Networks to compare optimizers on."""

from adai.lab.models.small import SmallNet

__all__ = ["SmallNet"]
