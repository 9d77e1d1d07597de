"""Algorithm 2 of Xie et al. (arXiv 2006.15815) for one tensor, as pure functions: the reference for all engines.

The names are the paper's symbols: theta, g, m, v, mu, beta0, beta2, eps. The rule has two halves, because the second
needs the mean of v̂ over *all* parameters::

    t, v   = t + 1, beta2 v + (1 - beta2) g²                      second_moment
    v_mean = mean of v / (1 - beta2^t) over every parameter        adai.optim.shared.mean
    w      = clip(beta0 v̂ / v_mean, eps, 1 - min_inertia)          weight, w = 1 - mu
    m      = mu m + (1 - mu) g                                     update
    c      = 1 - Π mu, at least 1 - (1 - eps)^t
    theta  = theta - lr min(1, t / (warmup_steps + 1)) m / c

The paper has neither ``min_inertia`` nor ``warmup_steps``: if both are 0, the rule is its Algorithm 2. All arithmetic
is in the dtype of the arguments; the engines pass float32 or wider.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Mean(NamedTuple):
    """The mean of v̂, the one number that couples all parameters, in a form that never divides by zero.

    ``value`` is the mean, or 1 if the mean is 0. ``alive`` is 0 if the mean is 0, because then all gradients have been
    zero so far and nothing moves. Otherwise it is 1, even if the mean is nan, which then spreads to all parameters.
    ``alive`` is None if the host knows that it is 1, and a tensor if the host would have to wait for a device to know.
    """

    value: float | Tensor
    alive: Tensor | None = None


class Moved(NamedTuple):
    """The results of a step for one tensor: parameter, momentum, and c = 1 - Π mu, or None if c is no longer kept."""

    theta: Tensor
    m: Tensor
    c: Tensor | None


class Count(NamedTuple):
    """The step count t of a tensor and the numbers that follow from it. They are 0-dim tensors if the count is one."""

    t: Any
    bias_correction2: Any
    """1 - beta2^t; v̂_t is v_t divided by it."""
    least: Any
    """1 - (1 - eps)^t, a lower bound of 1 - Π mu because mu <= 1 - eps."""
    warmed: Any = 1.0
    """The factor of the learning rate during the warm-up; the number 1 after it."""

    @classmethod
    def of(cls, t: float | Tensor, *, beta2: float, eps: float, warmup_steps: int = 0) -> "Count":
        """The count at step t, given the decay ``beta2``, the inertia bound ``eps`` and the length of the warm-up."""
        return cls(t, debias(beta2, t), _one_minus_power(math.log1p(-eps), t), warm_up(warmup_steps, t))

    def settled(self, dtype: torch.dtype) -> bool:
        """Whether 1 - Π mu is 1 up to the rounding of ``dtype`` for any gradients. t has to be a number.

        For float32 this holds from t = ln(2^-25) / ln(1 - eps) on, 17,321 steps at eps = 1e-3; with eps = 0 it never
        holds.
        """
        return bool(self.least > 0.999 and 1 - self.least <= torch.finfo(dtype).eps / 4)  # the first part is fast


def gradient(
    theta: Tensor, g: Tensor, *, weight_decay: float, maximize: bool, clip: float | Tensor | None = None
) -> Tensor:
    """The gradient of the function that is minimized: -g if ``maximize``, plus the L2 penalty's weight_decay * theta.

    ``clip`` is the factor that clips by the global norm. It multiplies the raw gradient.
    """
    if clip is not None:
        g = g * clip
    if maximize:
        g = -g
    if weight_decay != 0:
        g = g.add(theta, alpha=weight_decay)
    return g


def second_moment(v: Tensor, g: Tensor, beta2: float) -> Tensor:
    """v_t = beta2 v_{t-1} + (1 - beta2) g_t²."""
    return v.mul(beta2).addcmul(g, g, value=1 - beta2)


def debias(beta2: float, t: float | Tensor) -> Any:
    """1 - beta2^t; v̂_t is v_t divided by it."""
    return _one_minus_power(math.log(beta2) if beta2 > 0 else -math.inf, t)


def _one_minus_power(log_base: float, t: float | Tensor) -> Any:
    """1 - base^t. expm1 keeps the digits that the subtraction would lose, above all in float32."""
    return -torch.expm1(t * log_base) if isinstance(t, Tensor) else -math.expm1(t * log_base)


def warm_up(warmup_steps: int, t: float | Tensor) -> Any:
    """min(1, t / (warmup_steps + 1)), the factor of the learning rate at step t."""
    if warmup_steps == 0:
        return 1.0
    share = t / (warmup_steps + 1)
    return share.clamp_max(1) if isinstance(share, Tensor) else min(1.0, share)


def update(
    theta: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    c: Tensor | None,
    *,
    count: Count,
    mean: Mean,
    lr: float | Tensor,
    beta0: float,
    eps: float,
    min_inertia: float,
    decay: float,
    dampening: float,
) -> Moved:
    """One step of one tensor, given v_t and the mean of v̂ over all tensors.

    Args:
        theta: parameter, of any shape; the other tensors have the same shape.
        g: gradient, as `gradient` returns it.
        m: momentum (``exp_avg``).
        v: v_t, already updated (``exp_avg_sq``).
        c: 1 - Π mu over the previous steps (``bias_correction``); 0 at the start, None once it stays at 1.
        count: the step count and the numbers that follow from it.
        mean: mean of v̂ over all parameters of all groups.
        lr: learning rate.
        beta0: approximately the average of 1 - mu; in (0, 1].
        eps: the inertia bound, mu <= 1 - eps; in [0, 1).
        min_inertia: the lower bound of inertia, mu >= min_inertia; in [0, 1 - eps]. The paper has 0.
        decay: decoupled weight decay, which multiplies theta by 1 - lr * decay; 0 for none.
        dampening: 1 is Algorithm 2. Values d below 1 are the authors' AdaiV2: v̂ / v_mean has the exponent
            1 / (3 - 2 d), the gradient the weight (1 - mu)^d, and the step the factor beta0^(1 - d).
    """
    w = weight(v, count=count, mean=mean, beta0=beta0, eps=eps, min_inertia=min_inertia, dampening=dampening)
    lr = lr * count.warmed
    if mean.alive is not None:
        w = w * mean.alive
        lr = lr * mean.alive

    if dampening == 1:
        m = m.lerp(g, w)
    else:
        m = (1 - w) * m + w.pow(dampening) * g
    m_hat = m
    if c is not None:
        # c is updated directly: subtracting Π mu from 1 would leave only four digits at the first step in float32. At a
        # distance of 3e-5 from 1, in float32, the update of c gets stuck, because w (1 - c) is smaller than the last
        # digit; the lower bound then raises c to exactly 1.
        c = at_least(c.lerp(torch.ones_like(c), w), count, mean)
        # c is 0 if nothing has moved yet (eps = 0 and no gradient, or not alive). Then m is 0 too, and 0 / tiny is 0.
        m_hat = m / c.clamp_min(torch.finfo(c.dtype).tiny)
    if decay != 0:
        theta = theta * (1 - lr * decay)
    return Moved(theta - lr * beta0 ** (1 - dampening) * m_hat, m, c)


def weight(
    v: Tensor, *, count: Count, mean: Mean, beta0: float, eps: float, min_inertia: float, dampening: float
) -> Tensor:
    """w = 1 - mu, the weight of the new gradient in the momentum, from v_t and the mean of v̂. Arguments: see `update`.

    The paper clips mu = 1 - beta0 v̂ / v_mean to [0, 1 - eps]. Clipping w = 1 - mu to [eps, 1] is equivalent and keeps
    all digits of w, which may be as small as 0.001. The lower bound ``min_inertia`` of mu is the upper bound
    1 - min_inertia of w.
    """
    w: Tensor = v / typical(mean, count, v.dtype)
    if dampening != 1:
        w = w.pow(1 / (3 - 2 * dampening))
    return (beta0 * w).clamp(eps, 1 - min_inertia)


def typical(mean: Mean, count: Count, dtype: torch.dtype) -> Any:
    """The mean of v̂ times 1 - beta2^t, to which v is compared. It is large enough not to be 0 in ``dtype``."""
    v_mean, info = mean.value * count.bias_correction2, torch.finfo(dtype)
    least = info.tiny * info.eps  # the smallest number that is not 0
    return v_mean.to(dtype).clamp_min(least) if isinstance(v_mean, Tensor) else max(v_mean, least)


def at_least(c: Tensor, count: Count, mean: Mean) -> Tensor:
    """The maximum of c and the lower bound of 1 - Π mu at this step; 0 while nothing has moved."""
    least = count.least if mean.alive is None else count.least * mean.alive
    return torch.maximum(c, least.to(c.dtype)) if isinstance(least, Tensor) else c.clamp_min(least)
