"""One mean of v̂ over several `adai` transformations."""

from typing import Any

import jax
import optax

from adai.jax.rule import AdaiState


def share_mean(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Let all `adai` and `adaiw` inside ``optimizer`` take one mean of v̂ over the parameters of all of them.

    **When to use it.** Around `optax.multi_transform` (or `optax.partition`), where groups of parameters have options
    of their own. Without it each group takes the mean over its own parameters alone, which is another rule: with it
    the result is that of `adai.Adai` with parameter groups. **When not.** Around a single `adai` it changes nothing.

    It runs ``optimizer.update`` twice, once to learn v̂ of each group and once with their mean. Under `jax.jit` the
    compiler drops what the first run does not need. The groups may differ in every option, also in ``beta2``.

    Args:
        optimizer: any composition of optax transformations with `adai` or `adaiw` in it.

    Raises:
        ValueError: there is neither `adai` nor `adaiw` in it.

    Example:
        >>> groups = {"conv": adai(1.0, min_inertia=0.9), "norm": adai(0.1, warmup_steps=100)}
        >>> optimizer = share_mean(optax.multi_transform(groups, {"kernel": "conv", "scale": "norm"}))
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        state = optimizer.init(params)
        _states(state)
        return state

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        _, alone = optimizer.update(updates, state, params, **extra)
        means = [(s.v_mean, float(sum(v.size for v in jax.tree.leaves(s.exp_avg_sq)))) for s in _states(alone)]
        elements = max(sum(size for _, size in means), 1.0)
        shared = sum(v_mean * (size / elements) for v_mean, size in means)
        result: tuple[Any, Any] = optimizer.update(updates, state, params, v_mean=shared, **extra)
        return result

    return optax.GradientTransformationExtraArgs(init, update)


def _states(state: Any) -> list[AdaiState]:
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, AdaiState))
    found = [leaf for leaf in leaves if isinstance(leaf, AdaiState)]
    if not found:
        raise ValueError("share_mean has nothing to share: there is neither adai nor adaiw in the optimizer")
    return found
