"""Momentum as a damped spring: which directions of a minimum ring, and which creep. Not in the paper; from its eq. 9.

Along an eigenvector of a minimum eq. 9 is a damped oscillator, Mθ'' + γMθ' + Hθ = 0, with the **damping ratio** ζ =
γM/(2√(HM)). At ζ = 1 it is critically damped; below 1 it oscillates (rings), above 1 it creeps.

For an average of gradients γM = 1 and M = η/(1 - μ), so ζ = √((1 - μ)/(4ηH)): with one inertia for all parameters,
sharp directions ring while flat ones creep. Adai has 1 - μ_i = β0 H_i/H̄ (noise follows the Hessian, nothing is clipped;
H̄ is the mean eigenvalue), which gives **every direction the same ζ = √(β0/(4ηH̄))**.

The relaxation rate per step is ηH for ζ ≫ 1, whatever the inertia, and 2ηH at ζ = 1. So inertia speeds up a flat
direction by a factor of 2 at most. Only a larger η does more, and `adai.theory.stability` gives the limit of η.

All this assumes 1 - μ ≪ 1; `critical_rates` and `relaxation` are exact for any μ.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adai.theory import dynamics, exact
from adai.theory.bounds import Array, checked


def ratio(eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, H: ArrayLike) -> Array:
    """ζ = γM/(2√(HM)) = (1 - β1)/(2√(ηβ3H)) of eq. 6 at a minimum; √((1 - β1)/(4ηH)) for an EMA. A pure number.

    Raises:
        ValueError: H ≤ 0, so that no force pulls back, or a symbol is out of its bounds.
    """
    friction, mass = dynamics.friction(beta1, beta3), dynamics.mass(eta, beta3)
    (H,) = checked(H=H)
    if np.any(H <= 0):
        raise ValueError(f"H = {H[H <= 0].flat[0]:g}, but has to be above 0: only a minimum pulls back")
    return np.asarray(friction / (2 * np.sqrt(H * mass)))


def adai_ratio(
    eta: ArrayLike, beta0: ArrayLike, H_all: ArrayLike, eps: ArrayLike = 1e-3, min_inertia: ArrayLike = 0.0
) -> Array:
    """ζ_i of Adai along every eigenvector if noise follows the Hessian: (…, n); √(β0/(4ηH̄)) if nothing is clipped.

    Directions clipped by ``min_inertia`` (H_i > (1 - min_inertia)H̄/β0) have a smaller ζ, and those clipped by ``eps``
    (H_i < εH̄/β0) a larger one.
    """
    (H,) = checked(H_all=H_all)
    mu = exact.adai_inertia(beta0, np.abs(H), eps, min_inertia)
    return ratio(eta, mu, 1 - mu, H)


class Band(NamedTuple):
    """The direction rings at learning rates between ``low`` and ``high``."""

    low: Array
    high: Array


def critical_rates(mu: ArrayLike, H: ArrayLike) -> Band:
    """η of critical damping, exactly: θ rings where (1 - √μ)/(1 + √μ) < ηH < (1 + √μ)/(1 - √μ).

    As μ → 1, the lower bound is ηH = (1 - μ)/4, which is ζ = 1. Below it both roots of the step are real and positive,
    and θ creeps. Between the upper bound and the stability limit ηH = 2(1 + μ)/(1 - μ) both roots are real and
    negative, and θ overshoots in every step.
    """
    mu, H = checked(mu=mu, H=H)
    root = np.sqrt(mu)
    return Band((1 - root) / ((1 + root) * H), (1 + root) / ((1 - root) * H))


def relaxation(eta: ArrayLike, mu: ArrayLike, H: ArrayLike, T: int) -> Array:
    """θ_t/θ_0 for t = 0 … T along eigenvectors, without noise: (T + 1, …). The average is settled, with m_0 = 0.

    If the inertia is constant, this is also the mean over noise that does not depend on θ.
    """
    eta, mu, H = np.broadcast_arrays(*checked(eta=eta, mu=mu, H=H))
    path = np.ones((T + 1, *H.shape))
    m = np.zeros_like(H)
    for t in range(T):
        m = mu * m + (1 - mu) * H * path[t]
        path[t + 1] = path[t] - eta * m
    return path
