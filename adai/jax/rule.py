"""The update rule over a tree of parameters: what `adai/optim/rule.py` states for one tensor, in the same symbols.

Numbers of the rule may be traced: `optax.inject_hyperparams` hands them over as arrays.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AdaiState(NamedTuple):
    """State of the rule. The trees have the structure of the parameters, in float32 or wider."""

    count: Any
    """t, the number of steps taken; int32, 0-dim. A step does not count while all gradients so far have been zero."""
    v_mean: jax.Array
    """The mean of v̂ in the last step, which couples all parameters; 0-dim."""
    exp_avg: Any
    """m, the momentum."""
    exp_avg_sq: Any
    """v, the average of squared gradients."""
    bias_correction: Any
    """1 - Π mu, by which m is divided."""


def scale_by_adai(
    *,
    beta0: Any,
    beta2: Any,
    eps: Any,
    min_inertia: Any,
    warmup_steps: Any,
    dampening: Any,
    decay: optax.GradientTransformation,
    axis_name: Any,
) -> optax.GradientTransformationExtraArgs:
    """The step of the rule for learning rate 1, before its sign is turned; arguments as `adai`'s.

    Args:
        decay: adds decoupled weight decay to the steps; `optax.identity` for none.

    ``update`` takes ``v_mean`` as an extra argument: the mean to use in the place of this tree's own.
    """

    def init(params: Any) -> AdaiState:
        zeros = jax.tree.map(lambda p: jnp.zeros_like(p, dtype=wide(p)), params)
        none = jnp.zeros((), jnp.result_type(jnp.float32, *jax.tree.leaves(zeros)))
        return AdaiState(jnp.zeros((), jnp.int32), none, zeros, zeros, zeros)

    def update(
        updates: Any, state: AdaiState, params: Any = None, *, v_mean: Any = None, **extra: Any
    ) -> tuple[Any, AdaiState]:
        del extra
        t = (state.count + 1).astype(state.v_mean.dtype)
        debias = one_minus_power(beta2 - 1, t)

        v = each(lambda g, v: beta2 * v + (1 - beta2) * g**2, updates, state.exp_avg_sq)
        if v_mean is None:
            v_mean = mean_over(each(lambda g, v: v, updates, v, without=None), axis_name) / debias
        v_mean = jnp.asarray(v_mean, state.v_mean.dtype)
        # No gradient has been other than zero where the mean is 0, and nothing moves. A nan is alive, and spreads.
        alive = v_mean != 0
        least = one_minus_power(-eps, t) * alive

        def weight(g: jax.Array, v: jax.Array) -> Any:
            del g
            # The smallest normal number: XLA takes those below it for 0.
            w = v / jnp.maximum(jnp.where(alive, v_mean * debias, 1), jnp.finfo(v.dtype).tiny).astype(v.dtype)
            w = jnp.clip(beta0 * w ** (1 / (3 - 2 * dampening)), eps, 1 - min_inertia)
            return (w * alive).astype(v.dtype)

        w = each(weight, updates, v, without=None)
        m = each(lambda g, m, w: (1 - w) * m + w**dampening * g, updates, state.exp_avg, w)
        # c = 1 - Π mu as an average of ones: by subtraction it would have four digits at the first step in float32.
        c = each(lambda g, c, w: at_least(c + w * (1 - c), least), updates, state.bias_correction, w)
        gain = beta0 ** (1 - dampening)
        # c is 0 where nothing has moved yet (eps = 0 and no gradient, or not alive); so is m.
        steps = each(lambda g, m, c: gain * m / jnp.maximum(c, jnp.finfo(c.dtype).tiny), updates, m, c, without=None)

        steps, _ = decay.update(steps, decay.init(params), params)
        share = jnp.minimum(1, t / (warmup_steps + 1)) * alive
        steps = jax.tree.map(lambda step: (share * step).astype(step.dtype), steps)
        count = jnp.where(alive, optax.safe_increment(state.count), state.count)
        return steps, AdaiState(count, jnp.where(alive, v_mean, 0), m, v, c)

    return optax.GradientTransformationExtraArgs(init, update)


_KEEP = object()


def each(function: Any, updates: Any, tree: Any, *trees: Any, without: Any = _KEEP) -> Any:
    """``function`` of each gradient and what the trees have in its place.

    Where the gradient is None the result is what ``tree`` has there, or ``without``.
    """

    def of(g: Any, first: Any, *others: Any) -> Any:
        if g is None:
            return first if without is _KEEP else without
        return function(g, first, *others)

    return jax.tree.map(of, updates, tree, *trees, is_leaf=lambda x: x is None)


def mean_over(tree: Any, axis_name: Any) -> Any:
    """The mean over all elements of all arrays, and over all devices of the mapped axis; 0 of nothing."""
    leaves = jax.tree.leaves(tree)
    total, elements = sum((jnp.sum(leaf) for leaf in leaves), jnp.zeros(())), float(sum(leaf.size for leaf in leaves))
    if axis_name is not None:
        total, elements = jax.lax.psum((total, elements), axis_name)
    return total / jnp.maximum(elements, 1)


def one_minus_power(x: Any, t: jax.Array) -> Any:
    """1 - (1 + x)^t; expm1 keeps the digits that the difference would lose in float32."""
    if isinstance(x, jax.Array):
        return -jnp.expm1(t * jnp.log1p(x))
    return -jnp.expm1(t * (math.log1p(x) if x > -1 else -math.inf))


def at_least(c: jax.Array, least: Any) -> Any:
    """c, or the least that 1 - Π mu can be because mu <= 1 - eps, to which rounding does not always let c rise."""
    return jnp.maximum(c, least).astype(c.dtype)


def wide(x: Any) -> Any:
    """The dtype of state and arithmetic for an array: its own, but float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)
