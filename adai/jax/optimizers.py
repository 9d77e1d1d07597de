"""The optimizers: options, their ranges, and the rule between weight decay and learning rate."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import optax

from adai.jax.rule import scale_by_adai, wide


def adai(
    learning_rate: Any,
    beta0: Any = 0.1,
    beta2: Any = 0.99,
    eps: Any = 1e-3,
    weight_decay: Any = 0.0,
    mask: Any = None,
    *,
    min_inertia: Any = 0.0,
    warmup_steps: Any = 0,
    decoupled_weight_decay: bool = False,
    dampening: Any = 1.0,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Adaptive Inertia: one learning rate for all parameters, and a momentum of its own for each.

    .. math::
        v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \qquad \hat v_t = v_t / (1 - \beta_2^t) \\
        \mu_t &= \mathrm{clip}(1 - \beta_0 \hat v_t / \mathrm{mean}(\hat v_t),\ \mu_\mathrm{min},\ 1 - \epsilon) \\
        m_t &= \mu_t m_{t-1} + (1 - \mu_t) g_t, \qquad \hat m_t = m_t / (1 - \textstyle\prod_{z \le t} \mu_z) \\
        \theta_t &= \theta_{t-1} - \eta \min(1,\ t / (N + 1)) \, \hat m_t

    The same rule as `adai.Adai`; the mean is over every element of the whole tree.

    **When to use it.** Where you would train with SGD and momentum, for convolutional nets above all. **When not.** For
    Transformers: the authors report that it falls behind Adam there.

    **Learning rate.** Ten times that of SGD with momentum 0.9, together with ``min_inertia=0.9`` and
    ``warmup_steps=100``, which keep Adai from blowing up where SGD does not.

    Every number may be a traced array, so that `optax.inject_hyperparams` works. Ranges are checked for Python's and
    NumPy's numbers only.

    Args:
        learning_rate: a number >= 0, or an optax schedule.
        beta0: in (0, 1], the average of 1 - mu.
        beta2: in [0, 1), the decay of the average of squared gradients.
        eps: the inertia bound, in [0, 1): inertia is at most 1 - eps. It does not guard a division.
        weight_decay: strength >= 0 of the L2 penalty, or of the decoupled decay. It needs ``params`` in ``update``.
        mask: where to decay: a tree of booleans with the structure of the parameters or a prefix of it, or a function
            of the parameters that returns one. None decays everything. As in optax, `optax.inject_hyperparams` needs
            ``static_args="mask"`` for a function.
        min_inertia: the inertia's floor :math:`\mu_\mathrm{min}`, in [0, 1 - eps]. The paper has 0.
        warmup_steps: N >= 0: over the first N steps the learning rate rises linearly to its value, on top of a
            schedule. The paper has 0.
        decoupled_weight_decay: shrink parameters by 1 - learning rate * weight_decay instead of an L2 penalty.
        dampening: 1 is the paper's rule. Below 1, in [0, 1], the authors' AdaiV2.
        axis_name: the mapped axis, or a tuple of axes, of `jax.shard_map`, `jax.pmap` or `jax.vmap` over which every
            parameter is split. None where each device has all parameters, and for `jax.jit` with sharded arrays.

    Returns:
        An optax gradient transformation. Its state is that of an `optax.chain` with an `AdaiState` in it;
        ``optax.tree.get(state, "v_mean")`` reads the mean. State and arithmetic are float32 or wider, and the updates
        have the gradients' dtype. A parameter whose gradient is None keeps its state and gets None.

    Raises:
        ValueError: an option is outside its range; the message names the value.
        TypeError: a parameter is complex, at ``init``.

    Source: Xie et al., arXiv 2006.15815, Algorithm 2.

    Example:
        >>> optimizer = adai(learning_rate=1.0, weight_decay=5e-4, min_inertia=0.9, warmup_steps=100)
    """
    _check(learning_rate, beta0, beta2, eps, weight_decay, min_inertia, warmup_steps, dampening)
    none = optax.identity()
    decay = none if _is_zero(weight_decay) else optax.add_decayed_weights(weight_decay, mask)
    rule = scale_by_adai(
        beta0=beta0,
        beta2=beta2,
        eps=eps,
        min_inertia=min_inertia,
        warmup_steps=warmup_steps,
        dampening=dampening,
        decay=decay if decoupled_weight_decay else none,
        axis_name=axis_name,
    )
    l2 = none if decoupled_weight_decay else decay
    return _in_wide(optax.chain(l2, rule, optax.scale_by_learning_rate(learning_rate)))


def adaiw(
    learning_rate: Any,
    beta0: Any = 0.1,
    beta2: Any = 0.99,
    eps: Any = 1e-3,
    weight_decay: Any = 5e-3,
    mask: Any = None,
    *,
    min_inertia: Any = 0.0,
    warmup_steps: Any = 0,
    dampening: Any = 1.0,
    axis_name: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """`adai` with decoupled weight decay, of the paper's strength by default (Appendix D.1, with learning rate 0.1).

    Each step first shrinks the parameters by the factor 1 - learning_rate * weight_decay, and the decay enters neither
    momentum nor inertia. **When to use it.** Where `adai` fits and decay should not depend on the size of the
    gradients. To replace a tuned SGD as it is, take `adai` with its L2 penalty.

    Args: as for `adai`.

    Example:
        >>> optimizer = adaiw(learning_rate=0.1, weight_decay=5e-3, min_inertia=0.9, warmup_steps=100)
    """
    return adai(
        learning_rate,
        beta0,
        beta2,
        eps,
        weight_decay,
        mask,
        min_inertia=min_inertia,
        warmup_steps=warmup_steps,
        decoupled_weight_decay=True,
        dampening=dampening,
        axis_name=axis_name,
    )


def _in_wide(optimizer: optax.GradientTransformationExtraArgs) -> optax.GradientTransformationExtraArgs:
    """``optimizer`` in float32 or wider; the updates have the gradients' dtypes."""

    def init(params: Any) -> Any:
        if any(jnp.issubdtype(leaf.dtype, jnp.complexfloating) for leaf in jax.tree.leaves(params)):
            raise TypeError("adai takes real parameters; wrap it: optax.contrib.split_real_and_imaginary(adai(...))")
        return optimizer.init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        steps, state = optimizer.update(_widened(updates), state, _widened(params), **extra)
        return jax.tree.map(lambda step, g: step.astype(jnp.result_type(g, 0.0)), steps, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def _widened(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x).astype(wide(x)), tree)


def _is_zero(weight_decay: Any) -> bool:
    return isinstance(weight_decay, Real) and weight_decay == 0


def _check(
    learning_rate: Any,
    beta0: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    min_inertia: Any,
    warmup_steps: Any,
    dampening: Any,
) -> None:
    """Raise where an option is outside its range. Schedules and arrays pass: their values may not be known yet."""
    most = 1 - eps if isinstance(eps, Real) else 1
    _require("learning_rate", learning_rate, lambda x: 0 <= x < math.inf, "[0, inf)")
    _require("beta0", beta0, lambda x: 0 < x <= 1, "(0, 1]")
    _require("beta2", beta2, lambda x: 0 <= x < 1, "[0, 1)")
    _require("eps", eps, lambda x: 0 <= x < 1, "[0, 1)")
    _require("weight_decay", weight_decay, lambda x: 0 <= x < math.inf, "[0, inf)")
    _require("min_inertia", min_inertia, lambda x: 0 <= x <= most, f"[0, 1 - eps], eps being {eps}")
    _require("warmup_steps", warmup_steps, lambda x: x >= 0 and x == int(x), "the whole numbers from 0")
    _require("dampening", dampening, lambda x: 0 <= x <= 1, "[0, 1]")


def _require(name: str, value: Any, fits: Callable[[Any], bool], interval: str) -> None:
    if isinstance(value, Real) and not fits(value):
        raise ValueError(f"Invalid {name}: {value}; it has to lie in {interval}")
