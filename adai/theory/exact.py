"""Exact answers on a parabola, with which the paper's formulas for displacements are compared.

The algorithm (eqs. 1 and 6, Gaussian noise of variance C) is linear, so its covariance follows a linear recursion;
eq. 9 is linear too. First-passage times are in `adai.theory.passage`. Nothing here is an expansion in η, H or 1/T.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from adai.theory import dynamics
from adai.theory.bounds import Array, checked
from adai.theory.saddle import Displacement

Start = Literal["cold", "equilibrium"]


def sgd(eta: ArrayLike, H: ArrayLike, C: ArrayLike, T: ArrayLike) -> Array:
    """Var θ_T of SGD started at the critical point: η²C (1 - a^{2T}) / (1 - a²), a = 1 - ηH; η²CT at H = 0."""
    eta, H, C, T = checked(eta=eta, H=H, C=C, T=T)
    x = eta * H * (2 - eta * H)  # 1 - a², at most 1
    # a^{2T} = e^{T log(1 - x)}; x = 0 and x = 1 are handled separately, so -0.5 replaces them here
    inside = (x != 0) & (x < 1)
    safe = np.where(inside, x, -0.5)
    sums = np.where(x == 0, T, np.where(T > 0, 1.0, 0.0))
    return eta**2 * C * np.where(inside, -np.expm1(T * np.log1p(-safe)) / safe, sums)


def momentum(
    eta: ArrayLike,
    beta1: ArrayLike,
    beta3: ArrayLike,
    H: ArrayLike,
    C: ArrayLike,
    T: ArrayLike,
    start: Start = "equilibrium",
) -> Array:
    """Var θ_T of eq. 6 started at the critical point: S' = A S Aᵀ + C b bᵀ for the covariance S of (θ, m).

    A = [[1 - ηβ3H, -ηβ1], [β3H, β1]], b = (-ηβ3, β3).

    Args:
        eta: learning rate.
        beta1: momentum.
        beta3: 1 for heavy ball (SGD-style), 1 - β1 for EMA; β1 = 0 with β3 = 1 is SGD.
        H: eigenvalue of the Hessian.
        C: gradient noise variance; |H| / B in the paper.
        T: iterations, whole numbers.
        start: "cold" is m_0 = 0, as in the algorithm; "equilibrium" is a random m_0 with the stationary variance
            β3²C / (1 - β1²) of the noise alone, as Theorem 3.1 assumes.

    Raises:
        ValueError: a symbol is out of bounds, T is not a whole number, or start is neither.
    """
    eta, beta1, beta3, H, C, T = np.broadcast_arrays(
        *checked(eta=eta, beta1=beta1, beta3=beta3, H=H, C=C, T=T),
    )
    S = _stack(np.zeros_like(C), np.zeros_like(C), _initial_velocity(beta1, beta3, C, start))
    return _finite_or_infinite(_iterate(_step(eta, beta1, beta3, H, C), S, _whole(T))[..., 0])


def _initial_velocity(beta1: Array, beta3: Array, C: Array, start: Start) -> Array:
    if start not in ("cold", "equilibrium"):
        raise ValueError(f"start = {start!r}, but has to be 'cold' or 'equilibrium'")
    return np.zeros_like(C) if start == "cold" else beta3**2 * C / ((1 - beta1) * (1 + beta1))


def _whole(T: Array) -> Array:
    broken = (np.rint(T) != T) | (T > 2**53)
    if np.any(broken):
        raise ValueError(f"T = {T[broken].flat[0]:g}, but has to be a whole number of iterations, at most 2^53")
    return T


def _finite_or_infinite(variance: Array) -> Array:
    """The variance, infinite where float64 overflowed: with finite inputs, only inf - inf gives nan."""
    return np.where(np.isnan(variance), np.inf, variance)


def _stack(*rows: Array) -> Array:
    """(S_θθ, S_θm, S_mm, 1): the appended 1 makes the affine recursion linear."""
    return np.stack([*rows, np.ones_like(rows[0])], axis=-1)


def _step(eta: Array, beta1: Array, beta3: Array, H: Array, C: Array) -> Array:
    """The matrix that advances (S_θθ, S_θm, S_mm, 1) by one iteration."""
    a, b, c, d = 1 - eta * beta3 * H, -eta * beta1, beta3 * H, beta1 * np.ones_like(H)
    zero = np.zeros_like(H)
    noise = beta3**2 * C
    rows = [
        [a * a, 2 * a * b, b * b, eta**2 * noise],
        [a * c, a * d + b * c, b * d, -eta * noise],
        [c * c, 2 * c * d, d * d, noise],
        [zero, zero, zero, zero + 1],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _iterate(matrix: Array, state: Array, T: Array) -> Array:
    """matrix^T state with a T for each element, by repeated squaring."""
    powers = T.astype(np.int64)
    # All elements are squared as often as the largest T needs; an overflow in the others has no effect.
    with np.errstate(over="ignore", invalid="ignore"):
        while np.any(powers > 0):
            odd = (powers % 2 == 1)[..., None]
            state = np.where(odd, np.einsum("...ij,...j->...i", matrix, state), state)
            powers = powers // 2
            matrix = matrix @ matrix
    return state


def momentum_stationary(eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, H: ArrayLike, C: ArrayLike) -> Array:
    """Var θ = aC(1+β1) / (H(1-β1)(2(1+β1) - aH)), a = ηβ3, at a minimum as T → ∞.

    The paper's D/(γMH) is the limit aH → 0.

    Raises:
        ValueError: H ≤ 0, or the algorithm diverges because ηβ3H ≥ 2(1+β1).
    """
    eta, beta1, beta3, H, C = checked(eta=eta, beta1=beta1, beta3=beta3, H=H, C=C)
    a = eta * beta3
    if np.any(H <= 0) or np.any(a * H >= 2 * (1 + beta1)):
        raise ValueError(f"H = {H}, but has to be in (0, 2(1 + beta1) / (eta beta3)), or no stationary state exists")
    return a * C * (1 + beta1) / (H * (1 - beta1) * (2 * (1 + beta1) - a * H))


def adam(
    eta: ArrayLike, beta1: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike, start: Start = "equilibrium"
) -> Array:
    """Var θ_T of Adam with the ideal preconditioner C^{-1/2} (Assumption 4), no bias correction; see `momentum`."""
    beta1 = np.asarray(beta1, dtype=np.float64)
    return momentum(eta, beta1, 1 - beta1, dynamics.ideal_curvature(B, H), 1.0, T, start)


def adam_debiased(eta: float, beta1: float, B: float, H: float, T: int) -> float:
    """Var θ_T of Adam with the ideal preconditioner, m_0 = 0 and the bias correction 1 / (1 - β1^t), step by step."""
    _, steps = checked(beta1=beta1, T=T)
    curvature = dynamics.ideal_curvature(B, H)
    state = _stack(np.zeros(()), np.zeros(()), np.zeros(()))
    total = int(_whole(steps))
    # once β1^t is below the rounding of 1, the correction has no effect
    corrected = min(total, int(np.ceil(40 / -np.log(beta1))) if beta1 > 0 else 0)
    # a step with m̂ instead of m is a step of eq. 6 with the learning rate η / (1 - β1^t)
    for t in range(1, corrected + 1):
        rates = checked(eta=eta / (1 - beta1**t), beta1=beta1, beta3=1 - beta1)
        state = _step(rates[0], rates[1], rates[2], curvature, np.ones(())) @ state
    rates = checked(eta=eta, beta1=beta1, beta3=1 - beta1)
    last = _step(rates[0], rates[1], rates[2], curvature, np.ones(()))
    rest = np.asarray(float(total - corrected))
    return float(_finite_or_infinite(_iterate(last, state, rest)[0]))


def total_drift(eta: ArrayLike, beta1: ArrayLike, C: ArrayLike) -> Array:
    """η²C β1² / ((1-β1)(1+β1)): ⟨Δθ²⟩ that m_0 in equilibrium causes on a plane as T → ∞ (EMA); eq. 12 for β1 → 1."""
    eta, beta1, C = checked(eta=eta, beta1=beta1, C=C)
    return eta**2 * C * beta1**2 / ((1 - beta1) * (1 + beta1))


def adai_inertia(beta0: ArrayLike, V: ArrayLike, eps: ArrayLike = 1e-3, min_inertia: ArrayLike = 0.0) -> Array:
    """μ_i = 1 - β0 V_i / mean V, clipped to [0, 1 - ε] (Algorithm 2), with v̂ at its expectation V: (…, n).

    ``min_inertia`` is the lower bound instead of 0; the paper does not have it. If it is above 1 - ε, the bound 1 - ε
    wins.
    """
    beta0, V, eps, min_inertia = checked(beta0=beta0, V=V, eps=eps, min_inertia=min_inertia)
    w = np.minimum(beta0 * V / np.mean(V, axis=-1, keepdims=True), 1 - min_inertia)
    return np.asarray(1 - np.maximum(w, eps))


def adai_drift(eta: ArrayLike, beta0: ArrayLike, V: ArrayLike, eps: ArrayLike = 1e-3) -> Array:
    """η²V_i μ_i² / (1 - μ_i²) with μ of `adai_inertia`: `total_drift` of Adai for each parameter, (…, n).

    It is independent of i only if 1 - μ_i ≪ 1 and μ_i is not clipped; it is 0 if μ_i = 0.
    """
    (V,) = checked(V=V)
    return total_drift(eta, adai_inertia(beta0, V, eps), V)


def langevin(D: ArrayLike, H: ArrayLike, gamma: ArrayLike, M: ArrayLike, t: ArrayLike) -> Displacement:
    """⟨Δθ²⟩ of eq. 9 from the critical point: Theorem 3.1, corrected.

    The initial velocity is in equilibrium, with variance D/(γM²).

    drift = φ(t)² D/(γM²) and diffusion = 2D/M² ∫₀ᵗ φ², where φ is the motion from θ = 0 with velocity 1. The diffusion
    alone is ⟨Δθ²⟩ from a fixed velocity 0. It is accurate near critical damping γ²M = 4H, where the usual sum of
    exponentials loses all digits, and for any γt, where a matrix exponential of both signs would overflow.
    """
    D, H, gamma, M, t = np.broadcast_arrays(*checked(D=D, H=H, gamma=gamma, M=M, t=t))
    with np.errstate(over="ignore", invalid="ignore"):
        drift, diffusion = _langevin(D, H, gamma, M, t)
    return Displacement(_finite_or_infinite(drift), _finite_or_infinite(diffusion))


def _langevin(D: Array, H: Array, gamma: Array, M: Array, t: Array) -> tuple[Array, Array]:
    drift = _propagator(H / M, gamma, t)[0] ** 2 * D / (gamma * M**2)
    # ∫₀^h of φ², φφ' and φ'² over a step short enough that Gauss's rule is exact to rounding; then the step is doubled:
    # S(2h) = S(h) + E(h) S(h) E(h)ᵀ. E is computed from its closed form each time, so errors do not accumulate.
    rate = gamma + np.sqrt(np.abs(H) / M)
    doublings = np.maximum(0, np.ceil(np.log2(np.maximum(rate * t, 1.0)))).astype(np.int64)
    h = t / 2.0**doublings
    xx, xv, vv = _short(H / M, gamma, h)
    for k in range(int(doublings.max(initial=0))):
        phi, dphi, keep = _propagator(H / M, gamma, h * 2.0**k)
        fall = -H / M * phi
        more = (
            keep**2 * xx + 2 * keep * phi * xv + phi**2 * vv,
            keep * fall * xx + (keep * dphi + phi * fall) * xv + phi * dphi * vv,
            fall**2 * xx + 2 * fall * dphi * xv + dphi**2 * vv,
        )
        on = k < doublings
        xx, xv, vv = (old + np.where(on, new, 0) for old, new in zip((xx, xv, vv), more, strict=True))
    return drift, 2 * D / M**2 * xx


def _propagator(stiffness: Array, gamma: Array, t: Array) -> tuple[Array, Array, Array]:
    """φ(t), φ'(t) and (1 0) E(t) (1 0)ᵀ = φ' + γφ of x'' = -γx' - (H/M) x: E = [[φ' + γφ, φ], [-φ H/M, φ']]."""
    omega = np.sqrt((gamma / 2) ** 2 - stiffness + 0j)
    grow = -stiffness / (gamma / 2 + omega)  # λ₊ = ω - γ/2, without the difference
    decay = np.exp(-(gamma / 2 + omega) * t)
    critical = omega == 0
    # (1 - e^{-2ωt}) / 2ω, which is t at critical damping; expm1 keeps all digits close to it
    ratio = np.where(critical, t, -np.expm1(-2 * omega * t) / np.where(critical, 1, 2 * omega))
    phi = np.exp(grow * t) * ratio
    return phi.real, (grow * phi + decay).real, ((gamma + grow) * phi + decay).real


def _short(stiffness: Array, gamma: Array, h: Array) -> tuple[Array, Array, Array]:
    """∫₀^h of φ², φφ', φ'² by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    u = h[..., None] * (nodes + 1) / 2
    phi, dphi, _ = _propagator(stiffness[..., None], gamma[..., None], u)
    half = h / 2
    return half * (phi**2 @ weights), half * (phi * dphi @ weights), half * (dphi**2 @ weights)
