"""The optimizers: one update rule, several engines."""

from adai.optim.adai import Adai, AdaiW
from adai.optim.in_backward import in_backward
from adai.optim.shared.coupling import Coupling

__all__ = ["Adai", "AdaiW", "Coupling", "in_backward"]
