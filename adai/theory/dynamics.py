"""From learning rate, momentum and batch size to mass, damping and diffusion (eqs. 1-10).

The paper interprets momentum (eq. 6) as the motion of a heavy particle (eq. 9)::

    m_t = β1 m_{t-1} + β3 g_t,   θ_t = θ_{t-1} - η m_t              eq. 6
    M dθ' = -γM dθ - L'(θ) dt + sqrt(2D) dW,   t = ηT               eq. 9

with dt = η. Units: the loss has none (eq. 5 is consistent only for a negative log-likelihood in nats). If θ is a
length ℓ, dθ/dt = -dL/dθ makes t a time of unit ℓ². Then η and M are times, γ and H are one over a time, C = ℓ⁻², and D
and γM are pure numbers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adai.theory.bounds import Array, checked


def mass(eta: ArrayLike, beta3: ArrayLike) -> Array:
    """M = η / β3 (below eq. 8), a time. β3 = 1 is SGD-style momentum; the paper's "β3 = 0" there would be M = ∞."""
    eta, beta3 = checked(eta=eta, beta3=beta3)
    return eta / beta3


def damping(eta: ArrayLike, beta1: ArrayLike) -> Array:
    """γ = (1 - β1) / η (below eq. 8), one over a time."""
    eta, beta1 = checked(eta=eta, beta1=beta1)
    return (1 - beta1) / eta


def friction(beta1: ArrayLike, beta3: ArrayLike) -> Array:
    """γM = (1 - β1) / β3, a pure number: 1 for an EMA (β3 = 1 - β1), 1 - β1 for SGD-style momentum (β3 = 1)."""
    beta1, beta3 = checked(beta1=beta1, beta3=beta3)
    return (1 - beta1) / beta3


def noise_covariance(B: ArrayLike, H: ArrayLike, N: ArrayLike | None = None) -> Array:
    """C = |H| / B (eq. 5), the variance of the gradient of a batch along an eigenvector of the Hessian.

    It is an identity only if the Fisher information equals the Hessian (negative log-likelihood in nats, true model and
    noise). Along directions of negative curvature it is an assumption of the paper and can fail completely: for
    L = (y - w1 w2 x)² / 2 at w = 0 the eigenvalues are ±1 and C is 0.

    Args:
        B: batch size.
        H: eigenvalue of the Hessian.
        N: number of samples, if the batch is drawn without replacement; C is then smaller by (N - B) / (N - 1).
    """
    B, H = checked(B=B, H=H)
    C = np.abs(H) / B
    if N is None:
        return C
    (N,) = checked(N=N)
    if not np.all(B <= N):
        raise ValueError(f"B = {np.max(B):g}, but has to be at most N = {np.min(N):g}, drawn without replacement")
    return np.asarray(C * (N - B) / (N - 1))


def diffusion(eta: ArrayLike, B: ArrayLike, H: ArrayLike) -> Array:
    """D = η C / 2 = η |H| / (2B) (eqs. 2 and 5). The paper drops the bars before eq. 23; D cannot be negative."""
    eta, B, H = checked(eta=eta, B=B, H=H)
    return eta * noise_covariance(B, H) / 2


def absolute_hessian(H: ArrayLike) -> Array:
    """[H]⁺ = U diag(|H_1|, …, |H_n|) Uᵀ of a symmetric matrix, eigenvectors in the columns of U (eq. 5).

    The paper writes Uᵀ diag U, which is right only if the eigenvectors are the rows of U.

    Args:
        H: matrices (…, n, n), symmetric.

    Raises:
        ValueError: H is not symmetric.
    """
    (H,) = checked(H=H)
    if H.ndim < 2 or H.shape[-1] != H.shape[-2] or not _symmetric(H):
        raise ValueError(f"H has shape {H.shape} or is not symmetric, but has to be a symmetric matrix")
    eigenvalues, U = np.linalg.eigh(H)
    return np.asarray((U * np.abs(eigenvalues)[..., None, :]) @ np.swapaxes(U, -1, -2))


def _symmetric(H: Array) -> bool:
    return bool(np.all(np.abs(H - np.swapaxes(H, -1, -2)) <= 1e-12 * np.max(np.abs(H), initial=0)))


def velocity_variance(D: ArrayLike, gamma: ArrayLike, M: ArrayLike) -> Array:
    """Var r = D / (γM²) in equilibrium (eq. 10), r = dθ/dt."""
    D, gamma, M = checked(D=D, gamma=gamma, M=M)
    return D / (gamma * M**2)


class Motion(NamedTuple):
    """The symbols of eq. 9 along one eigenvector of the Hessian, and the dynamical time."""

    D: Array
    H: Array
    gamma: Array
    M: Array
    t: Array


def motion(eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike) -> Motion:
    """Eqs. 5-9: T iterations of eq. 6 with noise C = |H| / B, as a motion."""
    eta, H, T = checked(eta=eta, H=H, T=T)
    return Motion(diffusion(eta, B, H), H, damping(eta, beta1), mass(eta, beta3), eta * T)


def adam_motion(eta: ArrayLike, beta1: ArrayLike, B: ArrayLike, H: ArrayLike, T: ArrayLike) -> Motion:
    """Assumption 4: T iterations of an ideal Adam, in units where the noise is 1 (see `ideal_curvature`)."""
    eta, beta1, T = checked(eta=eta, beta1=beta1, T=T)
    return Motion(eta / 2, ideal_curvature(B, H), damping(eta, beta1), mass(eta, 1 - beta1), eta * T)


def ideal_curvature(B: ArrayLike, H: ArrayLike) -> Array:
    """H / sqrt(C) = sign(H) sqrt(B|H|): the curvature in the units of an ideal Adam, where the noise is 1.

    Dividing m by sqrt(C) (Assumption 4) turns Adam with learning rate η into EMA momentum with the same η on a parabola
    of this curvature with C = 1. This form avoids 0/0 at H = 0.
    """
    B, H = checked(B=B, H=H)
    return np.sign(H) * np.sqrt(B * np.abs(H))


def dampening_offset(eta: ArrayLike, beta1: ArrayLike, beta3: ArrayLike, g: ArrayLike, T: ArrayLike) -> Array:
    """θ of torch.optim.SGD(momentum=β1, dampening=1 - β3) minus θ of eq. 6, after T steps on the same gradients.

    torch does not dampen the first gradient, g: its buffer starts at g instead of β3 g, and θ is displaced by
    -η (1 - β3) g (1 - β1^T) / (1 - β1). With dampening = 0 (β3 = 1) torch is eq. 6 exactly.
    """
    eta, beta1, beta3, g, T = checked(eta=eta, beta1=beta1, beta3=beta3, g=g, T=T)
    return -eta * (1 - beta3) * g * (1 - beta1**T) / (1 - beta1)


def adam_first_step_printed(eta: ArrayLike, g: ArrayLike, eps: ArrayLike) -> Array:
    """η g / sqrt(g² + ε): |θ_1 - θ_0| by Algorithm 1 as printed, ε inside the root."""
    eta, g, eps = checked(eta=eta, g=g, eps=eps)
    return eta * g / np.sqrt(g**2 + eps)


def adam_first_step(eta: ArrayLike, g: ArrayLike, eps: ArrayLike) -> Array:
    """η g / (|g| + ε): the same with ε outside the root, as in Kingma and Ba and every implementation."""
    eta, g, eps = checked(eta=eta, g=g, eps=eps)
    return eta * g / (np.abs(g) + eps)
