"""Adaptive Inertia (Adai) for PyTorch. Importing this needs torch alone."""

from adai.optim.adai import Adai, AdaiW

__all__ = ["Adai", "AdaiW"]
__version__ = "0.1.0"
