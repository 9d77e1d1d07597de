"""Mean squared displacement from a saddle point, as the paper prints it and as follows from the paper's own model.

The paper uses two notations: the motion's (D, H, γ, M, dynamical time t = ηT) and the algorithm's (η, β1, β3, B, H, T
iterations, with C = |H| / B). The first allows any noise; the second has the numbers that a user sets. Exact answers
for both are in `adai.theory.exact`; `adai.theory.results` says which formula is wrong, and where.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adai.theory import dynamics
from adai.theory.bounds import Array, checked


class Displacement(NamedTuple):
    """⟨Δθ²⟩ as the sum of a part from the initial velocity and a part from the noise."""

    drift: Array
    diffusion: Array

    @property
    def value(self) -> Array:
        """Drift plus diffusion."""
        return self.drift + self.diffusion


def spread(D: ArrayLike, H: ArrayLike, t: ArrayLike) -> Array:
    """σ²(t) = D/H (1 - e^{-2Ht}), and 2Dt if H = 0 (Theorem 2.1, eq. 22): the solution of eq. 2 from a point.

    Use it for SGD in continuous time. Units: ℓ².
    """
    D, H, t = checked(D=D, H=H, t=t)
    # (1 - e^{-x}) / x with expm1, which keeps all digits for small x
    x = 2 * H * t
    safe = np.where(x == 0, 1, x)
    return 2 * D * t * np.where(x == 0, 1, -np.expm1(-safe) / safe)


def sgd_printed(eta: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike) -> Displacement:
    """sign(H) η/(2B) (1 - e^{-2HηT}) (Theorem 2.1, eq. 23).

    It is exact for eq. 2. For the algorithm it needs η|H| ≪ 1 and, at H < 0, η²H²T ≪ 1.
    """
    eta, T = checked(eta=eta, T=T)
    diffusion = spread(dynamics.diffusion(eta, B, H), H, eta * T)
    return Displacement(np.zeros_like(diffusion), diffusion)


def sgd_taylor_printed(eta: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike) -> Displacement:
    """|H| η² T / B (Theorem 2.1), for |H|ηT ≪ 1; the next term is -sign(H) H² η³ T² / B."""
    eta, B, H, T = checked(eta=eta, B=B, H=H, T=T)
    diffusion = np.abs(H) * eta**2 * T / B
    return Displacement(np.zeros_like(diffusion), diffusion)


def langevin_printed(D: ArrayLike, H: ArrayLike, gamma: ArrayLike, M: ArrayLike, t: ArrayLike) -> Displacement:
    """D/(γ³M²) (1 - e^{-γt})² + D/(γMH) (1 - e^{-2Ht/(γM)}) (Theorem 3.1, eq. 29).

    It counts the equilibrium velocity twice: the second term, the overdamped diffusion, already contains its effect.
    At H = 0 it is too large by D/(γ³M²) (1 - e^{-x})(3 - e^{-x}), x = γt. Correct: `exact.langevin`.
    """
    D, gamma, M, t = checked(D=D, gamma=gamma, M=M, t=t)
    drift = D / (gamma**3 * M**2) * np.expm1(-gamma * t) ** 2
    return Displacement(drift, overdamped(D, H, gamma, M, t))


def overdamped(D: ArrayLike, H: ArrayLike, gamma: ArrayLike, M: ArrayLike, t: ArrayLike) -> Array:
    """D/(γMH) (1 - e^{-2Ht/(γM)}) (eq. 28): eq. 9 without inertia (eq. 27), for |H| ≪ γ²M and γt ≫ 1."""
    D, H, gamma, M, t = checked(D=D, H=H, gamma=gamma, M=M, t=t)
    return spread(D / (gamma * M) ** 2, H / (gamma * M), t)


def momentum_printed(
    eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike
) -> Displacement:
    """Theorem 3.1 in the algorithm's terms, before any expansion: `langevin_printed` with eqs. 5-9."""
    return langevin_printed(*dynamics.motion(eta, beta1, beta3, B, H, T))


def momentum_taylor_printed(
    eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike
) -> Displacement:
    """|H|β3²η²/(2(1-β1)³B) (1 - e^{-x})² + |H|β3²η²T/(B(1-β1)²), x = (1-β1)T (Theorem 3.1; eqs. 30 and 31).

    The paper states |H|ηT ≪ 1, but it needs |H|ηTβ3/(1-β1) ≪ 1: the next term is -sign(H) H²η³T²β3³ / (B(1-β1)³), and
    eq. 31 hides its factor (1-β1)⁻³.
    """
    eta, beta1, beta3, B, H, T = checked(eta=eta, beta1=beta1, beta3=beta3, B=B, H=H, T=T)
    unit = _unit(eta, beta1, beta3, B, H)
    return Displacement(unit * np.expm1(-(1 - beta1) * T) ** 2, unit * 2 * (1 - beta1) * T)


def momentum_taylor(
    eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike
) -> Displacement:
    """|H|β3²η²/(2(1-β1)³B) [(1 - e^{-x})² + (2x - 3 + 4e^{-x} - e^{-2x})], x = (1-β1)T: the expansion of Theorem 3.1.

    The first term is the drift of an initial velocity in equilibrium, the second the diffusion from a fixed velocity;
    their sum is 2(x - 1 + e^{-x}). This is the solution of eq. 9 to first order in H, for |H|ηTβ3/(1-β1) ≪ 1.
    """
    eta, beta1, beta3, B, H, T = checked(eta=eta, beta1=beta1, beta3=beta3, B=B, H=H, T=T)
    unit = _unit(eta, beta1, beta3, B, H)
    x = (1 - beta1) * T
    return Displacement(unit * np.expm1(-x) ** 2, unit * _cold(x))


def _unit(eta: Array, beta1: Array, beta3: Array, B: Array, H: Array) -> Array:
    """D/(γ³M²) in the algorithm's terms."""
    return np.abs(H) * beta3**2 * eta**2 / (2 * (1 - beta1) ** 3 * B)


def _cold(x: Array) -> Array:
    """2x - 3 + 4e^{-x} - e^{-2x} ≥ 0. Below x = 1 it uses the series, because the terms cancel to 2x³/3."""
    terms = np.arange(3.0, 24.0)
    signs = (-1.0) ** terms
    factorials = np.cumprod(terms) * 2.0
    series = np.sum(signs * (4 - 2.0**terms) / factorials * np.minimum(x, 1)[..., None] ** terms, axis=-1)
    return np.asarray(np.where(x < 1, series, 2 * x - 3 + 4 * np.exp(-x) - np.exp(-2 * x)))


def overdamped_printed(D: ArrayLike, H: ArrayLike, gamma: ArrayLike, M: ArrayLike, t: ArrayLike) -> Array:
    """2D/(γMH) (1 - e^{-Ht/(γM)}), from the list at the start of A.2: twice the stationary value. Eq. 28 is right."""
    D, H, gamma, M, t = checked(D=D, H=H, gamma=gamma, M=M, t=t)
    return 2 * overdamped(D, H, gamma, M, t / 2)


def proposition1_printed(D: ArrayLike, H: ArrayLike, gamma: ArrayLike, M: ArrayLike, t: ArrayLike) -> Displacement:
    """D/(γ²M) (1 - e^{-γt})² + D/(γMH) (1 - e^{-2Ht/(γM)}): Proposition 1 as printed, for any γM."""
    drift, diffusion = langevin_printed(D, H, gamma, M, t)
    return Displacement(drift * np.asarray(gamma) * np.asarray(M), diffusion)


def adam_printed(eta: ArrayLike, beta1: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike) -> Displacement:
    """D/(γ²M) (1 - e^{-γt})² + D/(γMH) (1 - e^{-2Ht/(γM)}) with η C^{-1/2} for η (Proposition 1), any H.

    The first term should have γ³M² as in Theorem 3.1; this is the same because γM = 1 for Adam.
    """
    return proposition1_printed(*dynamics.adam_motion(eta, beta1, B, H, T))


def adam_taylor_printed(eta: ArrayLike, beta1: ArrayLike, T: ArrayLike) -> Displacement:
    """η²/(2(1-β1)) (1 - e^{-(1-β1)T})² + η²T (Proposition 1).

    The paper states |H|ηT ≪ 1, but it needs sqrt(B|H|) ηT ≪ 1: the next term is -sign(H) sqrt(B|H|) η³T².
    """
    return momentum_taylor_printed(eta, beta1, 1 - np.asarray(beta1), 1, 1, T)


def adam_taylor(eta: ArrayLike, beta1: ArrayLike, T: ArrayLike) -> Displacement:
    """η²/(2(1-β1)) [(1 - e^{-x})² + (2x - 3 + 4e^{-x} - e^{-2x})], x = (1-β1)T: Proposition 1, corrected."""
    return momentum_taylor(eta, beta1, 1 - np.asarray(beta1), 1, 1, T)


def total_drift(eta: ArrayLike, beta1: ArrayLike, B: ArrayLike, H: ArrayLike) -> Array:
    """|H|η²/(2(1-β1)B) (eq. 12): the drift term of Theorem 3.1 for an EMA as T → ∞.

    It is ⟨Δθ²⟩, not the square of the mean, which is 0. For 1 - β1 ≪ 1 and no curvature; exact: `exact.total_drift`.
    """
    eta, beta1, B, H = checked(eta=eta, beta1=beta1, B=B, H=H)
    return np.abs(H) * eta**2 / (2 * (1 - beta1) * B)


def adai_drift_printed(eta: ArrayLike, beta0: ArrayLike, B: ArrayLike, H_all: ArrayLike) -> Array:
    """Σ|H_i| η²/(β0 n B) (Proposition 3): twice the value that follows from eq. 12. Correct: `adai_drift`."""
    return 2 * adai_drift(eta, beta0, B, H_all)


def adai_drift(eta: ArrayLike, beta0: ArrayLike, B: ArrayLike, H_all: ArrayLike) -> Array:
    """Σ|H_i| η²/(2 β0 n B): eq. 12 with 1 - μ_i = n β0 V_i / ‖V‖₁, the same for every parameter i.

    For 1 - μ ≪ 1 and no clipping of μ; exact: `exact.adai_drift`. H_all: (…, n), all eigenvalues.
    """
    eta, beta0, B, H_all = checked(eta=eta, beta0=beta0, B=B, H_all=H_all)
    return np.asarray(np.mean(np.abs(H_all), axis=-1) * eta**2 / (2 * beta0 * B))
