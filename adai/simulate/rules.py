"""The optimizers' update rules, compiled for many small simulations; a test compares each with the optimizer itself.

A rule changes ``theta`` by one step in place. All arrays are float64 and have one element per coordinate: the
parameter, the gradient ``g``, and the state ``m``, ``v``, ``c`` (c = 1 - Π mu for Adai). ``t`` counts steps from 1.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

SGD, MOMENTUM, EMA, ADAM, ADAI, ADAIW = range(6)


class Rule(NamedTuple):
    """An update rule with its options as numbers, for the compiled loops.

    Args:
        kind: the rule, one of the constants above.
        lr: learning rate.
        beta1: momentum; for Adai beta0.
        beta2: decay of the average of g².
        eps: Adam's guard outside the root, or Adai's inertia bound.
        decay: decoupled weight decay of AdaiW.
    """

    kind: int
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decay: float = 0.0


def sgd(lr: float) -> Rule:
    """`torch.optim.SGD`."""
    return Rule(SGD, lr)


def momentum(lr: float, beta1: float = 0.9) -> Rule:
    """`torch.optim.SGD` with momentum, eq. 6 with beta3 = 1."""
    return Rule(MOMENTUM, lr, beta1)


def ema(lr: float, beta1: float = 0.9) -> Rule:
    """Momentum as a bias-corrected average, beta3 = 1 - beta1: `adai.Adai` with one coordinate, or Adam without v̂."""
    return Rule(EMA, lr, beta1)


def adam(lr: float, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> Rule:
    """`torch.optim.Adam`."""
    return Rule(ADAM, lr, beta1, beta2, eps)


def adai(lr: float, beta0: float = 0.1, beta2: float = 0.99, eps: float = 1e-3) -> Rule:
    """`adai.Adai`."""
    return Rule(ADAI, lr, beta0, beta2, eps)


def adaiw(lr: float, beta0: float = 0.1, beta2: float = 0.99, eps: float = 1e-3, decay: float = 5e-3) -> Rule:
    """`adai.AdaiW`."""
    return Rule(ADAIW, lr, beta0, beta2, eps, decay)


@njit(nogil=True, cache=True)
def step(rule: Rule, theta: Array, g: Array, m: Array, v: Array, c: Array, t: float) -> None:
    """Update theta and its state in step number t."""
    lr, beta1, beta2 = rule.lr, rule.beta1, rule.beta2
    if rule.kind == SGD:
        for i in range(theta.size):
            theta[i] -= lr * g[i]
    elif rule.kind == MOMENTUM:
        for i in range(theta.size):
            m[i] = beta1 * m[i] + g[i]
            theta[i] -= lr * m[i]
    elif rule.kind == EMA:
        debias = 1 - beta1**t
        for i in range(theta.size):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            theta[i] -= lr * m[i] / debias
    elif rule.kind == ADAM:
        debias1, debias2 = 1 - beta1**t, 1 - beta2**t
        for i in range(theta.size):
            m[i] = beta1 * m[i] + (1 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            theta[i] -= lr * (m[i] / debias1) / (np.sqrt(v[i] / debias2) + rule.eps)
    else:
        mean = 0.0
        for i in range(theta.size):
            v[i] = beta2 * v[i] + (1 - beta2) * g[i] ** 2
            mean += v[i] / theta.size
        if mean == 0:
            return
        for i in range(theta.size):
            # every coordinate has the same t, so 1 - beta2^t cancels in v̂ / mean(v̂)
            w = min(max(beta1 * v[i] / mean, rule.eps), 1.0)
            m[i] += w * (g[i] - m[i])
            c[i] += w * (1 - c[i])
            theta[i] -= lr * (rule.decay * theta[i] + m[i] / c[i])
