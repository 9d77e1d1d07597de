"""Algorithm 2 of Xie et al. (arXiv 2006.15815) for one tensor, as pure functions: the reference of every engine.

The paper's symbols are spelled out: theta, g, m, v, mu, beta0, beta2, eps. The rule has two halves, because the mean
of v̂ over *all* parameters stands between them::

    t, v   = t + 1, beta2 v + (1 - beta2) g²                      second_moment
    v_mean = mean of v / (1 - beta2^t) over every parameter        adai.optim.shared.mean
    w      = clip(beta0 v̂ / v_mean, eps, 1 - min_inertia)          weight, w = 1 - mu
    m      = mu m + (1 - mu) g                                     update
    c      = 1 - Π mu, at least 1 - (1 - eps)^t
    theta  = theta - lr min(1, t / (warmup_steps + 1)) m / c

The paper has neither ``min_inertia`` nor ``warmup_steps``: at 0 the rule is its Algorithm 2. All arithmetic is in the
dtype of the arguments; the engines hand in float32 or wider.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Mean(NamedTuple):
    """The one number that couples all parameters, in a form that never divides by zero.

    ``value`` is v̄, the mean of v̂, and 1 where v̄ is 0. ``alive`` is 0 where v̄ is 0: no gradient has been other than
    zero yet, so nothing moves. Otherwise it is 1, also where v̄ is nan, which spreads to all parameters. It is a tensor
    where asking for its value would make the host wait for a device, and None where the host knows that it is 1.
    """

    value: float | Tensor
    alive: Tensor | None = None


class Moved(NamedTuple):
    """What one step makes of a tensor: the parameter, the momentum and c = 1 - Π mu, None where it no longer counts."""

    theta: Tensor
    m: Tensor
    c: Tensor | None


class Count(NamedTuple):
    """What follows from the step count of a tensor alone; numbers, or 0-dim tensors where the count is one."""

    t: Any
    bias_correction2: Any
    """1 - beta2^t, by which v_t is divided to give v̂_t."""
    least: Any
    """1 - (1 - eps)^t, which 1 - Π mu cannot be below because mu <= 1 - eps."""
    warmed: Any = 1.0
    """The share of the learning rate that the warm-up lets through; the number 1 once it is over."""

    @classmethod
    def of(cls, t: float | Tensor, *, beta2: float, eps: float, warmup_steps: int = 0) -> "Count":
        """The count at step t, for decay ``beta2``, inertia bound ``eps`` and a warm-up of so many steps."""
        return cls(t, debias(beta2, t), _one_minus_power(math.log1p(-eps), t), warm_up(warmup_steps, t))

    def settled(self, dtype: torch.dtype) -> bool:
        """Whether 1 - Π mu is 1 to the rounding of ``dtype``, whatever the gradients were. Needs t to be a number.

        For float32 that is t >= ln(2^-25) / ln(1 - eps), 17,321 steps at eps = 1e-3; never with eps = 0.
        """
        return bool(self.least > 0.999 and 1 - self.least <= torch.finfo(dtype).eps / 4)  # the first is quick


def gradient(
    theta: Tensor, g: Tensor, *, weight_decay: float, maximize: bool, clip: float | Tensor | None = None
) -> Tensor:
    """The gradient of what is minimised: of -f when maximising, with the L2 penalty's share lambda * theta.

    ``clip`` is the factor of clipping by the global norm, which scales the raw gradient.
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
    """1 - beta2^t, by which v_t is divided to give v̂_t."""
    return _one_minus_power(math.log(beta2) if beta2 > 0 else -math.inf, t)


def _one_minus_power(log_base: float, t: float | Tensor) -> Any:
    """1 - base^t; expm1 keeps the digits that the difference would lose, most of all in float32."""
    return -torch.expm1(t * log_base) if isinstance(t, Tensor) else -math.expm1(t * log_base)


def warm_up(warmup_steps: int, t: float | Tensor) -> Any:
    """min(1, t / (warmup_steps + 1)), the factor on the learning rate at step t."""
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
        theta: parameter, any shape; the other tensors have the same.
        g: gradient, as `gradient` returns it.
        m: momentum (``exp_avg``).
        v: v_t, already updated (``exp_avg_sq``).
        c: 1 - Π mu over the steps before (``bias_correction``); 0 at the start, None once it is 1 for good.
        count: 1 - beta2^t, the least that c can be, and how far the warm-up has come.
        mean: mean of v̂ over all parameters of all groups.
        lr: learning rate.
        beta0: average of 1 - mu, about; in (0, 1].
        eps: the inertia bound, mu <= 1 - eps; in [0, 1).
        min_inertia: the inertia's floor, mu >= min_inertia; in [0, 1 - eps]. 0 is the paper's.
        decay: decoupled weight decay, theta shrinks by the factor 1 - lr * decay; 0 for none.
        dampening: 1 is Algorithm 2; less is the authors' AdaiV2: v̂ / v_mean enters to the power 1 / (3 - 2 d), the
            gradient with weight (1 - mu)^d, the step with the factor beta0^(1 - d).
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
        # Π mu is never formed: 1 - Π mu by subtraction would lose, at the first step, all but four digits in float32.
        # Near 1 it is the average that gets stuck, 3e-5 short in float32, where w (1 - c) no longer reaches the last
        # digit; the bound then carries it on to exactly 1.
        c = at_least(c.lerp(torch.ones_like(c), w), count, mean)
        # c is 0 where nothing has moved yet (eps = 0 and no gradient, or not alive); so is m, and 0 / tiny is 0.
        m_hat = m / c.clamp_min(torch.finfo(c.dtype).tiny)
    if decay != 0:
        theta = theta * (1 - lr * decay)
    return Moved(theta - lr * beta0 ** (1 - dampening) * m_hat, m, c)


def weight(
    v: Tensor, *, count: Count, mean: Mean, beta0: float, eps: float, min_inertia: float, dampening: float
) -> Tensor:
    """w = 1 - mu, the weight of the new gradient in the momentum, from v_t and the mean of v̂; arguments as `update`'s.

    The paper clips mu = 1 - beta0 v̂ / v_mean to [0, 1 - eps]. Clipping w = 1 - mu to [eps, 1] instead is the same and
    keeps every digit of w, which is 0.001 where mu is 0.999. A floor under mu is a lower ceiling over w.
    """
    w: Tensor = v / typical(mean, count, v.dtype)
    if dampening != 1:
        w = w.pow(1 / (3 - 2 * dampening))
    return (beta0 * w).clamp(eps, 1 - min_inertia)


def typical(mean: Mean, count: Count, dtype: torch.dtype) -> Any:
    """The mean of v̂ in the scale of v: what v is compared with, never so small that ``dtype`` has it as 0."""
    v_mean, info = mean.value * count.bias_correction2, torch.finfo(dtype)
    least = info.tiny * info.eps  # the smallest number that is not 0
    return v_mean.to(dtype).clamp_min(least) if isinstance(v_mean, Tensor) else max(v_mean, least)


def at_least(c: Tensor, count: Count, mean: Mean) -> Tensor:
    """c, or the least that 1 - Π mu can be after so many steps; 0 while nothing has moved."""
    least = count.least if mean.alive is None else count.least * mean.alive
    return torch.maximum(c, least.to(c.dtype)) if isinstance(least, Tensor) else c.clamp_min(least)
