"""How large the learning rate may be. Not in the paper; derived here, and a test compares it with the update rules.

On a quadratic with Hessian H, with the averages v̂ (and so μ, or Adam's denominator) frozen, each rule is linear::

    m' = B m + A H θ,   θ' = (1 - ηλ) θ - η m',   λ decoupled weight decay

with diagonal matrices of momentum B in [0, 1) and of gradient weights A > 0. For positive definite H, θ goes to 0 from
every start if and only if, with the **step weight** S = A (I + B)⁻¹,

    η (λmax(S^½ H S^½) + λ) < 2.

L2 decay adds λI to H itself. The rules differ only in S: `WEIGHTS` is the table of them. `nesterov` has another form
and its own proof.

Proof. Inserting θ_t = z^t θ gives (κ - z)(z - B) A⁻¹θ = ηz Hθ with κ = 1 - ηλ. With θ*θ = 1, a = θ*A⁻¹θ > b = θ*BA⁻¹θ
≥ 0 and h = θ*Hθ > 0, z is a root of a z² - (κa + b - ηh) z + κb. By Jury's conditions both roots are inside the unit
circle if and only if ηh < (1 + κ)(a + b). That holds for every θ if ηH < (1 + κ) S⁻¹. If it does not, the largest
eigenvalue of ηH - (κ + x)(1 + B/x) A⁻¹ is above 0 at x = 1 and below 0 as x → ∞; at the x > 1 where it is 0, -x is an
eigenvalue of the step. H and S need not commute.

So if the learning rate is too large, each step overshoots more than the one before. Directions of negative curvature
grow at any learning rate; this limit does not concern them.

**The start** is not frozen. A bias-corrected average begins with m̂_1 = g_1, the step of plain SGD: a direction with
ηH > 2 grows at first whatever its inertia (`start`, `largest_excursion`), until about 1/(1 - μ) steps are averaged.

A real loss is not a quadratic, and there is noise. Full-batch gradient descent settles at the limit (the edge of
stability: Cohen et al., arXiv 2103.00065), and Adam at 38/η for β1 = 0.9 (Cohen et al., arXiv 2207.14484).

Example:
    >>> import numpy as np
    >>> from adai.theory import stability
    >>> H = [[2, 0.5, 0], [0.5, 1, 0.3], [0, 0.3, 0.2]]
    >>> mu = np.array([0.1, 0.9, 0.99])  # inertia of each parameter
    >>> float(stability.largest_stable_lr(H, stability.adai(mu)))
    1.2171874023892604
    >>> float(stability.largest_stable_lr(H, stability.ema(0.9)))
    17.16480619507032
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import LinearOperator, eigsh

from adai.theory.bounds import Array, checked

Elements = Any
"""A number, or an array or torch tensor with an element for each parameter. The step weights use plain arithmetic, so
a tensor keeps its dtype and device; they do not check their arguments."""


def sgd() -> float:
    """S = 1: plain SGD is stable if λmax(H) < 2/η. Exact from the first step on, because there is no average."""
    return 1.0


def heavy_ball(beta1: Elements, dampening: Elements = 0.0) -> Elements:
    """S = (1 - d)/(1 + β1): momentum of `torch.optim.SGD`; λmax(H) < 2(1 + β1)/η without dampening d.

    This is eq. 6 with β3 = 1 - d. torch does not dampen the first gradient, which shifts the start of a run but does
    not change its stability. Not for ``nesterov=True``. Source: the proof above; Polyak 1964 for d = 0.
    """
    return (1 - dampening) / (1 + beta1)


def nesterov(beta1: Elements) -> Elements:
    """S = (1 + 2β1)/(1 + β1): `torch.optim.SGD` with ``nesterov=True``; λmax(H) < 2(1 + β1)/((1 + 2β1)η).

    This limit is lower than plain SGD's: the step is the gradient plus β1 times a momentum that contains this gradient.
    It holds if all parameters have the same β1.

    Proof: θ' = κθ - η(Hθ + β1 m'), m' = β1 m + Hθ. Along an eigenvector z² - (κ + β1 - ηh(1 + β1))z + β1(κ - ηh) = 0;
    as ηh grows, its first root leaves the unit circle at z = -1: (1 + κ)(1 + β1) = ηh(1 + 2β1).
    """
    return (1 + 2 * beta1) / (1 + beta1)


def ema(beta1: Elements) -> Elements:
    """S = (1 - β1)/(1 + β1): momentum as an average, eq. 6 with β3 = 1 - β1; λmax(H) < 38/η at β1 = 0.9.

    This is the heavy ball's limit at η/(1 - β1). With bias correction it holds once the average has settled; see
    `start`.
    """
    return (1 - beta1) / (1 + beta1)


def rmsprop(P: Elements, beta1: Elements = 0.0) -> Elements:
    """S = 1/((1 + β1)P), P = √v̂ + ε of each parameter: λmax(P^-½ H P^-½) < 2/η without momentum β1.

    For `torch.optim.RMSprop`, whose momentum is a heavy ball of preconditioned gradients.
    """
    return 1 / ((1 + beta1) * P)


def adam(P: Elements, beta1: Elements) -> Elements:
    """S = (1 - β1)/((1 + β1)P), P = √v̂ + ε of each parameter: λmax(P^-½ H P^-½) < 38/η at β1 = 0.9.

    For `torch.optim.Adam` and AdamW, and for other optimizers that divide an average of gradients by some P (AMSGrad's
    P has the largest v̂ so far). With bias correction it holds once the average has settled; see `start`. Source: Cohen
    et al., arXiv 2207.14484.
    """
    return (1 - beta1) / ((1 + beta1) * P)


def adai(mu: Elements, dampening: float = 1.0, beta0: float = 0.1) -> Elements:
    """S = (1 - μ)/(1 + μ), μ the inertia of each parameter: Adai, λmax(S^½ H S^½) < 2/η.

    Parameters with large gradients have μ = 0 and S = 1: their limit is that of plain SGD, a nineteenth of the limit of
    an average with β1 = 0.9. A lower bound of the inertia, μ ≥ min_inertia, keeps S at or below ``adai(min_inertia)``,
    so every H with λmax(H) < 2(1 + min_inertia)/((1 - min_inertia)η) is stable.

    Args:
        mu: inertia, in [0, 1).
        dampening: d, the option of `adai.Adai` of that name; below 1, S = (1 - μ)^d β0^(1 - d)/(1 + μ).
        beta0: has an effect only if ``dampening`` is below 1.
    """
    w = 1 - mu
    return (w if dampening == 1 else w**dampening * beta0 ** (1 - dampening)) / (1 + mu)


class Weight(NamedTuple):
    """The step weight of a rule: the rule's name, the limit as text, and S as a function."""

    label: str
    limit: str
    function: Callable[..., Elements]


WEIGHTS: dict[str, Weight] = {
    "adai": Weight("Adai", "2/λmax(D^½ H D^½), D = (1-μ)/(1+μ)", adai),
    "sgd": Weight("SGD", "2/λmax(H)", sgd),
    "heavy-ball": Weight("heavy ball (torch's momentum)", "2(1+β1)/λmax(H)", heavy_ball),
    "nesterov": Weight("Nesterov (torch's)", "2(1+β1)/((1+2β1) λmax(H))", nesterov),
    "ema": Weight("EMA momentum", "2(1+β1)/((1-β1) λmax(H))", ema),
    "rmsprop": Weight("RMSprop", "2/λmax(P^-½ H P^-½)", rmsprop),
    "adam": Weight("Adam", "2(1+β1)/((1-β1) λmax(P^-½ H P^-½))", adam),
}
"""The step weight of every rule. All limits, 2/η, 2(1 + β)/η, …, are computed from these."""


def limit(top: ArrayLike, decoupled: ArrayLike = 0.0) -> Array:
    """The largest stable learning rate, 2/(λ̂ + λ); infinite if λ̂ + λ ≤ 0.

    Args:
        top: λ̂ = λmax(S^½ H S^½), from `top_eigenvalue` or from your own Lanczos run. H includes L2 decay.
        decoupled: decoupled weight decay λ.
    """
    curvature = _decayed(top, decoupled)
    positive = curvature > 0
    return np.where(positive, 2 / np.where(positive, curvature, 1), np.inf)


def margin(eta: ArrayLike, top: ArrayLike, decoupled: ArrayLike = 0.0) -> Array:
    """η(λ̂ + λ)/2, the learning rate over its `limit`: stable below 1. Arguments as in `limit`."""
    (eta,) = checked(eta=eta)
    return eta * np.maximum(_decayed(top, decoupled), 0) / 2


def _decayed(top: ArrayLike, decoupled: ArrayLike) -> Array:
    top, decoupled = checked(H=top, weight_decay=decoupled)
    return np.asarray(top + decoupled)


def largest_stable_lr(
    H: ArrayLike | LinearOperator, weight: ArrayLike = 1.0, *, l2: float = 0.0, decoupled: float = 0.0
) -> Array:
    """The learning rate below which a rule with this step weight is stable on the quadratic θᵀHθ/2.

    Args:
        H: Hessian, as for `top_eigenvalue`.
        weight: S, a number or an element for each parameter, from a function of `WEIGHTS`.
        l2: weight decay that is added to the gradient.
        decoupled: decoupled weight decay, as in AdamW and AdaiW.

    Raises:
        ValueError: as `top_eigenvalue`; or a decay is below 0.

    Example:
        >>> round(float(largest_stable_lr(10.0, heavy_ball(0.9))), 12)
        0.38
    """
    return limit(top_eigenvalue(H, weight, l2=l2), decoupled)


def top_eigenvalue(H: ArrayLike | LinearOperator, weight: ArrayLike = 1.0, *, l2: float = 0.0) -> Array:
    """λmax(S^½ (H + λI) S^½), the top eigenvalue of the preconditioned Hessian.

    Args:
        H: a symmetric matrix (…, n, n); one eigenvalue; or a scipy LinearOperator, of which only products are used.
        weight: S, a number or (…, n).
        l2: λ, weight decay that is added to the gradient.

    Raises:
        ValueError: H is none of these, is not symmetric or not finite, or the numbers of weights and parameters differ.
    """
    weight, l2_ = checked(step_weight=weight, weight_decay=l2)
    if isinstance(H, LinearOperator):
        return _by_products(H, weight, float(l2_))
    H = _symmetric(H)
    n = H.shape[-1]
    if weight.ndim and weight.shape[-1] not in (1, n):
        raise ValueError(f"{weight.shape[-1]} step weights for the {n} parameters of H; give one, or one for each")
    root = np.sqrt(np.broadcast_to(weight, (*weight.shape[:-1], n)))
    preconditioned = root[..., :, None] * (H + l2_ * np.eye(n)) * root[..., None, :]
    return np.asarray(np.linalg.eigvalsh(preconditioned)[..., -1])


def _by_products(H: LinearOperator, weight: Array, l2: float) -> Array:
    n = H.shape[0]
    if H.shape != (n, n) or weight.size not in (1, n):
        raise ValueError(
            f"{weight.size} step weights for a Hessian of shape {H.shape}; it has to be square, with one each"
        )
    if n < 3:  # Lanczos needs more dimensions than it computes eigenvalues
        return top_eigenvalue(H @ np.eye(n), weight, l2=l2)
    root = np.sqrt(np.broadcast_to(weight.ravel(), n))
    operator = LinearOperator((n, n), lambda x: root * (H @ (root * x.ravel()) + l2 * root * x.ravel()), dtype=float)
    start = np.random.default_rng(0).standard_normal(n)  # the same answer every time
    return np.asarray(eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


def _symmetric(H: ArrayLike) -> Array:
    try:
        (H,) = checked(H=H)
    except ValueError as error:
        raise ValueError(f"H has to be one eigenvalue or a square matrix of finite numbers: {error}") from error
    if not H.ndim:
        return H[None, None]
    if H.ndim < 2 or H.shape[-1] != H.shape[-2] or not H.size:
        raise ValueError(f"H has the shape {H.shape}, but has to be one eigenvalue or a square matrix")
    skew = np.abs(H - np.swapaxes(H, -1, -2)).max()
    if skew > 1e-8 * np.abs(H).max():  # above the rounding errors of a float64 Hessian
        raise ValueError(f"H is not symmetric: an element and its mirror image differ by {skew:g}")
    return H


def start(mu: ArrayLike, T: ArrayLike) -> Array:
    """Step weight in step T of a bias-corrected average with constant inertia: 1 at T = 1, then S/(1 - μ^T).

    It falls to S = (1 - μ)/(1 + μ) over about 1/(1 - μ) steps, for μ near 1 as 1/(2T). At T = 1 there is no momentum
    yet and m̂_1 = g_1. For later steps it follows from the proof above with 1 - μ^T frozen, although this changes in
    every step; `largest_excursion` computes the effect of all these steps together.
    """
    mu, T = checked(mu=mu, T=T)
    if np.any(T < 1):
        raise ValueError(f"T = {T[T < 1].flat[0]:g}, but has to be 1 or above: steps count from 1")
    return np.where(T == 1, 1.0, (1 - mu) / ((1 + mu) * (1 - mu**T)))


def largest_excursion(eta: ArrayLike, H: ArrayLike, mu: ArrayLike, *, corrected: bool, T: int = 1000) -> Array:
    """max |θ_t/θ_0| over the first T steps of an average with constant inertia along an eigenvector, from m_0 = 0.

    With bias correction (Adai, Adam's m̂) it is 1 only if ηH ≤ 2. Above, the first steps multiply θ before the average
    damps it, by orders of magnitude even well below the limit of `ema`. Without bias correction (SGD's momentum at
    η(1 - μ)) the average builds up from 0. So a bias-corrected average needs a warm-up of the learning rate over at
    least 1/(1 - μ) steps, or clipping.

    Raises:
        ValueError: a symbol is out of its bounds.
    """
    eta, H, mu = np.broadcast_arrays(*checked(eta=eta, H=H, mu=mu))
    theta, m, largest = np.ones_like(H), np.zeros_like(H), np.ones_like(H)
    c = np.zeros_like(H)  # 1 - μ^t
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow gives infinity
        for _ in range(T):
            m = mu * m + (1 - mu) * H * theta
            c = mu * c + (1 - mu)
            theta = theta - eta * m / (np.where(c > 0, c, 1) if corrected else 1)
            largest = np.fmax(largest, np.abs(theta))
    return largest
