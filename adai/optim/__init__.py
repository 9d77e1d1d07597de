"""The optimizers: one update rule, several engines."""

from adai.optim.adai import Adai, AdaiW

__all__ = ["Adai", "AdaiW"]
