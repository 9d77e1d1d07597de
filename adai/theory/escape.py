"""Mean escape time from a minimum, as prefactor and exponent: printed and corrected.

τ = prefactor · e^exponent in dynamical time. The number of iterations is τ / clock, where clock is the dynamical time
of one iteration: η, and for Adam η sqrt(B/|H_b|), because Proposition 2 uses Adam's adaptive time.

τ counts escapes *through* b as a flux, once for every exit. The first passage *of* b, which Appendix E records, is
earlier: for SGD in continuous time it takes half of τ.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adai.theory import dynamics
from adai.theory.bounds import Array, checked


class Escape(NamedTuple):
    """τ = prefactor e^exponent in dynamical time; ``clock`` is the dynamical time of one iteration."""

    prefactor: Array
    exponent: Array
    clock: Array

    @property
    def value(self) -> Array:
        """τ in dynamical time; infinite beyond float64, see `log_iterations`."""
        with np.errstate(over="ignore"):
            return self.prefactor * np.exp(self.exponent)

    @property
    def iterations(self) -> Array:
        """τ in iterations."""
        return self.value / self.clock

    @property
    def log_iterations(self) -> Array:
        """log of τ in iterations, which is finite even if τ itself is beyond float64."""
        return np.log(self.prefactor / self.clock) + self.exponent

    def times(self, factor: ArrayLike) -> "Escape":
        """The same escape with the prefactor multiplied by a factor."""
        return self._replace(prefactor=self.prefactor * np.asarray(factor))


def effective_diffusion(H: ArrayLike, gamma: ArrayLike, M: ArrayLike) -> Array:
    """D̂/D = (1 - sqrt(1 - y)) / (y/2), y = 4H/(γ²M) (eqs. 11 and 55), computed as 2 / (1 + sqrt(1 - y)).

    Use it at the saddle (H < 0). At a minimum with y > 1 the motion oscillates and the formula is complex.

    Raises:
        ValueError: y > 1, or a symbol is out of its bounds.
    """
    H, gamma, M = checked(H=H, gamma=gamma, M=M)
    (y,) = checked(y=4 * H / (gamma**2 * M))
    return 2 / (1 + np.sqrt(1 - y))


def barrier(H_a: ArrayLike, H_b: ArrayLike, s: ArrayLike, delta_L: ArrayLike) -> Array:
    """ΔL (s/H_a + (1-s)/|H_b|), the factor of the landscape in the exponents of Theorem 3.2 and Proposition 4."""
    H_a, H_b, s, delta_L = checked(H_a=H_a, H_b=H_b, s=s, delta_L=delta_L)
    return delta_L * (s / H_a - (1 - s) / H_b)


def sgd(eta: ArrayLike, B: ArrayLike, H_a: ArrayLike, H_b: ArrayLike, s: ArrayLike, delta_L: ArrayLike) -> Escape:
    """2π/H_a exp[2B/η ΔL (s/H_a + (1-s)/|H_b|)]: SGD in continuous time (eq. 2), noise jumping from C_a to C_b.

    The prefactor has H_a, not |H_b|: eq. 2 is an Itô equation, so D P is continuous where D jumps, while eq. 47 assumes
    that P is. For low temperature, exponent ≫ 1.
    """
    eta, B, H_a = checked(eta=eta, B=B, H_a=H_a)
    return Escape(2 * np.pi / H_a, 2 * B / eta * barrier(H_a, H_b, s, delta_L), eta)


def momentum_printed(
    eta: ArrayLike,
    beta1: ArrayLike,
    beta3: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
) -> Escape:
    """π [sqrt(1 + 4|H_b|/(γ²M)) + 1] / |H_b| exp[2γMB/η ΔL (s/H_a + (1-s)/|H_b|)] (Theorem 3.2).

    It lacks the factor γM = (1-β1)/β3, without which it is not a time (in eq. 8, 1/|H_b| is not one), and it assumes
    that P is continuous where the noise jumps. Correct: `momentum`.
    """
    eta, beta1, beta3, B, H_b = checked(eta=eta, beta1=beta1, beta3=beta3, B=B, H_b=H_b)
    inertia = 2 / effective_diffusion(H_b, dynamics.damping(eta, beta1), dynamics.mass(eta, beta3))
    exponent = 2 * dynamics.friction(beta1, beta3) * B / eta * barrier(H_a, H_b, s, delta_L)
    return Escape(np.pi * inertia / -H_b, exponent, eta)


def momentum_kramers(
    eta: ArrayLike,
    beta1: ArrayLike,
    beta3: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
) -> Escape:
    """Theorem 3.2 times γM = (1-β1)/β3: Kramers' result if H_a = |H_b|; otherwise use `momentum`."""
    return momentum_printed(eta, beta1, beta3, B, H_a, H_b, s, delta_L).times(dynamics.friction(beta1, beta3))


def momentum(
    eta: ArrayLike,
    beta1: ArrayLike,
    beta3: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
) -> Escape:
    """π γM [sqrt(1 + 4|H_b|/(γ²M)) + 1] / H_a exp[…]: Theorem 3.2 with γM and with D P continuous (Itô).

    For low temperature and small η|H_b|β3/(1-β1)²; the limit η → 0 at H_a ≠ |H_b| is reached slowly.
    """
    H_a, H_b = checked(H_a=H_a, H_b=H_b)
    return momentum_kramers(eta, beta1, beta3, B, H_a, H_b, s, delta_L).times(-H_b / H_a)


def uniform(
    eta: ArrayLike,
    beta1: ArrayLike,
    beta3: ArrayLike,
    C: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    delta_L: ArrayLike,
) -> Escape:
    """π γM [sqrt(1 + 4|H_b|/(γ²M)) + 1] / sqrt(H_a |H_b|) exp[2γM ΔL/(ηC)]: Kramers, the same noise C everywhere.

    This is the paper's theorem for noise that does not follow the Hessian. SGD is β1 = 0, β3 = 1.
    """
    eta, beta1, beta3, C, H_a, H_b = checked(eta=eta, beta1=beta1, beta3=beta3, C=C, H_a=H_a, H_b=H_b)
    (delta_L,) = checked(delta_L=delta_L)
    friction = dynamics.friction(beta1, beta3)
    inertia = 2 / effective_diffusion(H_b, dynamics.damping(eta, beta1), dynamics.mass(eta, beta3))
    return Escape(np.pi * friction * inertia / np.sqrt(-H_a * H_b), 2 * friction * delta_L / (eta * C), eta)


def adam_printed(
    eta: ArrayLike,
    beta1: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
    det_ratio: ArrayLike | None = None,
) -> Escape:
    """π [sqrt(1 + 4η sqrt(B|H_b|)/(1-β1)) + 1] |det(H_a⁻¹H_b)|^{1/4} / |H_b| exp[…] (Proposition 2, main text).

    The exponent is 2 sqrt(B)/η ΔL (s/sqrt(H_a) + (1-s)/sqrt|H_b|).

    Args:
        eta: learning rate.
        beta1: momentum.
        B: batch size.
        H_a: curvature at the minimum.
        H_b: curvature at the saddle.
        s: share of the barrier under the temperature of the minimum.
        delta_L: height of the barrier.
        det_ratio: |det(H_a⁻¹H_b)|; default |H_b| / H_a, as in one dimension.
    """
    B, H_b = checked(B=B, H_b=H_b)
    return _adam(eta, beta1, B, H_a, H_b, s, delta_L, det_ratio, np.sqrt(-B * H_b))


def adam_eq67(
    eta: ArrayLike,
    beta1: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
    det_ratio: ArrayLike | None = None,
) -> Escape:
    """Proposition 2 as in eq. 67, with sqrt(B)|H_b| instead of sqrt(B|H_b|). A slip; see `adam_printed`."""
    B, H_b = checked(B=B, H_b=H_b)
    return _adam(eta, beta1, B, H_a, H_b, s, delta_L, det_ratio, -np.sqrt(B) * H_b)


def adam(
    eta: ArrayLike,
    beta1: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
    det_ratio: ArrayLike | None = None,
) -> Escape:
    """Proposition 2 times (|H_b|/H_a)^{β1/(1+β1)}, the effect of a drift caused by the noise, in the limit of small η.

    Adam divides m by sqrt(C) *after* averaging: a step is -η P(θ_t) m_{t+1}, P = C^{-1/2}, and θ_t has moved with the
    noise that m_{t+1} still contains. The mean of the product is a drift of η² P P' Σ_{k≥1} Cov(m_t, m_{t-k}) =
    η² P P' C β1/(1+β1) per step. It is 0 without momentum (RMSprop, for which Proposition 2 is right), and the
    Stratonovich half as β1 → 1. With P² C = 1 it multiplies the density by P^{2β1/(1+β1)}, which is a factor of
    (H_a/|H_b|)^{β1/(1+β1)} on the way to b.
    """
    (beta1,), (H_a, H_b) = checked(beta1=beta1), checked(H_a=H_a, H_b=H_b)
    factor = (-H_b / H_a) ** (beta1 / (1 + beta1))
    return adam_printed(eta, beta1, B, H_a, H_b, s, delta_L, det_ratio).times(factor)


def _adam(
    eta: ArrayLike,
    beta1: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
    det_ratio: ArrayLike | None,
    curvature: Array,
) -> Escape:
    """Proposition 2 with the curvature under the root as an argument."""
    eta, beta1, B, H_a, H_b, s, delta_L = checked(eta=eta, beta1=beta1, B=B, H_a=H_a, H_b=H_b, s=s, delta_L=delta_L)
    (determinants,) = checked(det_ratio=-H_b / H_a if det_ratio is None else det_ratio)
    prefactor = np.pi * (np.sqrt(1 + 4 * eta * curvature / (1 - beta1)) + 1) * determinants**0.25 / -H_b
    exponent = 2 * np.sqrt(B) * delta_L / eta * (s / np.sqrt(H_a) + (1 - s) / np.sqrt(-H_b))
    return Escape(prefactor, exponent, eta * np.sqrt(B / -H_b))


def adai_printed(
    eta: ArrayLike,
    beta0: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
    H_all: ArrayLike,
) -> Escape:
    """π [sqrt(1 + 4η Σ|H_bi| / (β0 n)) + 1] / |H_b| exp[2B/η ΔL (s/H_a + (1-s)/|H_b|)] (Proposition 4).

    No factor is missing, because γM = 1. It is right if H_a = |H_b|; otherwise use `adai`.

    Args:
        eta: learning rate.
        beta0: of Adai.
        B: batch size.
        H_a: curvature at the minimum.
        H_b: curvature at the saddle.
        s: share of the barrier under the temperature of the minimum.
        delta_L: height of the barrier.
        H_all: (…, n), every eigenvalue at the saddle, including H_b. With n = 1 Adai is EMA momentum.
    """
    eta, beta0, B, H_b, H_all = checked(eta=eta, beta0=beta0, B=B, H_b=H_b, H_all=H_all)
    inertia = np.sqrt(1 + 4 * eta * np.mean(np.abs(H_all), axis=-1) / beta0) + 1
    return Escape(np.pi * inertia / -H_b, 2 * B / eta * barrier(H_a, H_b, s, delta_L), eta)


def adai(
    eta: ArrayLike,
    beta0: ArrayLike,
    B: ArrayLike,
    H_a: ArrayLike,
    H_b: ArrayLike,
    s: ArrayLike,
    delta_L: ArrayLike,
    H_all: ArrayLike,
) -> Escape:
    """Proposition 4 with H_a instead of |H_b| in the prefactor (D P continuous, Itô)."""
    H_a, H_b = checked(H_a=H_a, H_b=H_b)
    return adai_printed(eta, beta0, B, H_a, H_b, s, delta_L, H_all).times(-H_b / H_a)
