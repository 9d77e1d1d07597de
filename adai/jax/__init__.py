"""Adaptive Inertia (Adai) for JAX, as optax gradient transformations. It needs jax and optax and imports no torch.

Example:
    >>> optimizer = adai(learning_rate=1.0, weight_decay=5e-4, min_inertia=0.9, warmup_steps=100)
    >>> state = optimizer.init(params)
    >>> updates, state = optimizer.update(grads, state, params)
    >>> params = optax.apply_updates(params, updates)
"""

try:
    import jax as _jax  # noqa: F401
    import optax as _optax  # noqa: F401
except ModuleNotFoundError as error:
    if error.name not in ("jax", "jaxlib", "optax"):
        raise
    raise ModuleNotFoundError(
        f"adai.jax needs {error.name}, which is not installed; install it with: pip install 'adai[jax]'",
        name=error.name,
    ) from None

from adai.jax.mean import share_mean
from adai.jax.optimizers import adai, adaiw
from adai.jax.rule import AdaiState

__all__ = ["AdaiState", "adai", "adaiw", "share_mean"]
