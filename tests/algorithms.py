"""The algorithms of the baselines' papers, transcribed into numpy: independent of torch, for tests alone.

Each function takes what the algorithm leaves free and returns its step: (t, theta, g) -> theta, with t from 1. alpha is
the step size at t, as a function, since most of the papers write α_t. A guard that a library adds to the algorithm is
an argument whose default leaves the algorithm as it is printed.
"""

import numpy as np


def constant(value):
    return lambda t: value


def sgd(alpha):
    """Robbins and Monro, 1951: θ_t = θ_{t-1} - α_t g_t."""
    return lambda t, theta, g: theta - alpha(t) * g


def momentum(alpha, mu):
    """Sutskever, Martens, Dahl and Hinton, ICML 2013, Eq. 1 and 2: v_t = μ v_{t-1} - ε g_t, θ_t = θ_{t-1} + v_t."""
    v = 0.0

    def step(t, theta, g):
        nonlocal v
        v = mu * v - alpha(t) * g
        return theta + v

    return step


def ema(alpha, beta):
    """The paper's eq. 6 with β3 = 1 - β, and Adam's bias correction: m_t = β m_{t-1} + (1 - β) g_t."""
    m = 0.0

    def step(t, theta, g):
        nonlocal m
        m = beta * m + (1 - beta) * g
        return theta - alpha(t) * m / (1 - beta**t)

    return step


def rmsprop(alpha, decay, eps=0.0):
    """Tieleman and Hinton, Neural Networks for Machine Learning, lecture 6.5, 2012, slide "rmsprop"."""
    mean_square = 0.0

    def step(t, theta, g):
        nonlocal mean_square
        mean_square = decay * mean_square + (1 - decay) * g**2
        return theta - alpha(t) * g / (np.sqrt(mean_square) + eps)

    return step


def adam(alpha, beta1, beta2, eps):
    """Kingma and Ba, arXiv 1412.6980, Algorithm 1."""
    m = v = 0.0

    def step(t, theta, g):
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        return theta - alpha(t) * m_hat / (np.sqrt(v_hat) + eps)

    return step


def adamw(alpha, beta1, beta2, eps, lam, eta):
    """Loshchilov and Hutter, arXiv 1711.05101, Algorithm 2, the variant with decoupled decay; eta multiplies both."""
    m = v = 0.0

    def step(t, theta, g):
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        return theta - eta(t) * (alpha * m_hat / (np.sqrt(v_hat) + eps) + lam * theta)

    return step


def amsgrad(alpha, beta1, beta2, eps=lambda t: 0.0):
    """Reddi, Kale and Kumar, arXiv 1904.09237, Algorithm 2, without the projection: no bias correction, no eps."""
    m = v = v_hat = 0.0

    def step(t, theta, g):
        nonlocal m, v, v_hat
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        v_hat = np.maximum(v_hat, v)
        return theta - alpha(t) * m / (np.sqrt(v_hat) + eps(t))

    return step


def adabound(alpha, beta1, beta2, lower, upper, decay, eps=0.0, eps_root=0.0):
    """Luo, Xiong, Liu and Sun, arXiv 1902.09843, Algorithm 2, without the projection.

    The algorithm has decay(t) = 1/√t and a constant alpha. Section 4 gives the bounds.
    """
    m = v = 0.0

    def step(t, theta, g):
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        eta_hat = np.clip(alpha(t) / (np.sqrt(v + eps_root) + eps), lower(t), upper(t))
        return theta - decay(t) * eta_hat * m

    return step


def padam(alpha, beta1, beta2, p, eps=0.0):
    """Chen et al., arXiv 1806.06763, Algorithm 1, without the projection: no bias correction, no eps."""
    m = v = v_hat = 0.0

    def step(t, theta, g):
        nonlocal m, v, v_hat
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        v_hat = np.maximum(v_hat, v)
        return theta - alpha(t) * m / (np.sqrt(v_hat) + eps) ** (2 * p)

    return step


def yogi(alpha, beta1, beta2, eps, v0):
    """Zaheer et al., Adaptive Methods for Nonconvex Optimization, NeurIPS 2018, Algorithm 2: no bias correction."""
    m, v = 0.0, v0

    def step(t, theta, g):
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = v - (1 - beta2) * np.sign(v - g**2) * g**2
        return theta - alpha(t) * m / (np.sqrt(v) + eps)

    return step


def radam(alpha, beta1, beta2, tractable=4, eps=0.0):
    """Liu et al., arXiv 1908.03265, Algorithm 2: the variance is tractable where ρ_t > 4; no eps."""
    m = v = 0.0
    rho_inf = 2 / (1 - beta2) - 1

    def step(t, theta, g):
        nonlocal m, v
        v = beta2 * v + (1 - beta2) * g**2
        m = beta1 * m + (1 - beta1) * g
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho <= tractable:
            return theta - alpha(t) * m_hat
        adaptive = np.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)
        r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return theta - alpha(t) * r * m_hat * adaptive

    return step
