"""Records of results that are not in the paper: how large the learning rate may be, and which directions oscillate."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from adai.theory import damping, stability
from adai.theory.bounds import Array, checked
from adai.theory.record import Formula, Result, Sweep
from adai.theory.stability import WEIGHTS

_REFERENCE = "not in the paper; ours"
_LIMIT = "largest stable lr"
_MATRIX = ((2.0, 0.5, 0.0), (0.5, 1.0, 0.3), (0.0, 0.3, 0.2))
_MU = (0.1, 0.9, 0.99)


def _hessian(H: ArrayLike) -> Array:
    """One eigenvalue or a matrix unchanged; several eigenvalues as a diagonal matrix."""
    (H,) = checked(H=H)
    return np.diag(H) if H.ndim == 1 else H


def _largest(name: str, H: ArrayLike, decay: Mapping[str, float] | None = None, **options: ArrayLike) -> Array:
    """The largest stable learning rate of a rule. Each option has one value, or one for each parameter."""
    H = _hessian(H)
    parameters = H.shape[-1] if H.ndim else 1
    values = dict(zip(options, checked(**options), strict=True))
    for option, value in values.items():
        if value.size not in (1, parameters):
            raise ValueError(
                f"{option} has {value.size} values, but H {parameters} parameters; give one, or one for each"
            )
    return stability.largest_stable_lr(H, WEIGHTS[name].function(**values), **(decay or {}))


def _floored(H: ArrayLike, mu: ArrayLike, min_inertia: ArrayLike) -> Array:
    mu, floor = checked(mu=mu, min_inertia=min_inertia)
    return _largest("adai", H, mu=np.maximum(mu, floor))


def _formula(name: str, function: Callable[..., Array]) -> Formula:
    return Formula(f"{WEIGHTS[name].label}: {WEIGHTS[name].limit}", function)


def _momentum(name: str) -> Formula:
    """The limit of a rule with one momentum."""
    return _formula(name, lambda H, beta1: _largest(name, H, beta1=beta1))


OURS: tuple[Result, ...] = (
    Result(
        key="stability",
        name="How large the learning rate may be",
        reference=_REFERENCE,
        kind="N",
        ours=(
            _formula("adai", lambda H, mu: _largest("adai", H, mu=mu)),
            _formula("sgd", lambda H: _largest("sgd", H)),
            _momentum("heavy-ball"),
            _momentum("nesterov"),
            _momentum("ema"),
        ),
        valid="a quadratic, μ frozen, no noise, no weight decay, after the start (stability-start); directions of "
        "negative curvature grow at any rate and are left out",
        note="Parameters with large gradients have μ = 0, and their limit is that of plain SGD: a nineteenth of the "
        "limit of an average with β1 = 0.9. If v̂ ∝ |H|, the sharpest directions have the least inertia. So a large "
        "learning rate leaves sharp minima, which is another reason for flat minima besides the paper's; and Adai can "
        "blow up at a rate at which SGD with momentum of the same effective rate does not. Several eigenvalues mean a "
        "diagonal H; a matrix need not commute with μ. Proof: adai/theory/stability.py.",
        quantity=_LIMIT,
        inputs={"eta": 1.0, "H": _MATRIX, "mu": _MU, "beta1": 0.9},
        sweep=Sweep("mu", 0.05, 0.95),
        limits="eta",
    ),
    Result(
        key="stability-adam",
        name="How large the learning rate may be, Adam's kind",
        reference=_REFERENCE,
        kind="N",
        ours=(
            _formula("rmsprop", lambda H, P: _largest("rmsprop", H, P=P)),
            _formula("adam", lambda H, P, beta1: _largest("adam", H, P=P, beta1=beta1)),
        ),
        valid="a quadratic, v̂ frozen, no noise, no weight decay, after the start (stability-start)",
        note="At β1 = 0.9 Adam's limit is 38/η. Full-batch training with Adam settles there: the adaptive edge of "
        "stability (Cohen et al., arXiv 2207.14484). RMSprop is without momentum.",
        quantity=_LIMIT,
        inputs={"eta": 0.001, "H": _MATRIX, "P": (0.03, 0.01, 0.002), "beta1": 0.9},
        sweep=Sweep("beta1", 0.05, 0.95),
        limits="eta",
    ),
    Result(
        key="stability-floor",
        name="A floor under the inertia",
        reference=_REFERENCE,
        kind="N",
        ours=(
            Formula(
                "whatever μ ≥ min_inertia: 2(1+min_inertia)/((1-min_inertia) λmax(H))",
                lambda H, min_inertia: _floored(H, 0.0, min_inertia),
            ),
            Formula("these μ, raised to min_inertia where below", _floored),
        ),
        valid="as stability",
        note="The first is a lower bound of the second. With min_inertia = 0.7 it is 17/3 = 5.67 times SGD's limit.",
        quantity=_LIMIT,
        inputs={"eta": 1.0, "H": _MATRIX, "mu": _MU, "min_inertia": 0.7},
        sweep=Sweep("min_inertia", 0.05, 0.95),
        limits="eta",
    ),
    Result(
        key="stability-decay",
        name="Weight decay and the learning rate",
        reference=_REFERENCE,
        kind="N",
        ours=(
            Formula(
                "Adai, L2: 2/λmax(D^½ (H+λI) D^½)",
                lambda H, mu, weight_decay: _largest("adai", H, {"l2": weight_decay}, mu=mu),
            ),
            Formula(
                "Adai, decoupled: 2/(λmax(D^½ H D^½) + λ)",
                lambda H, mu, weight_decay: _largest("adai", H, {"decoupled": weight_decay}, mu=mu),
            ),
        ),
        valid="as stability",
        note="Decoupled decay is not averaged, so it adds λ to the preconditioned curvature; L2 adds λ to the "
        "curvature before preconditioning. For another rule, replace D by its step weight. With plain SGD both are "
        "2/(λmax(H) + λ).",
        quantity=_LIMIT,
        inputs={"eta": 1.0, "H": _MATRIX, "mu": _MU, "weight_decay": 0.1},
        sweep=Sweep("weight_decay", 0.001, 10),
        limits="eta",
    ),
    Result(
        key="stability-start",
        name="The start of a bias-corrected average",
        reference=_REFERENCE,
        kind="N",
        ours=(
            Formula(
                "with bias correction, as Adai: θ' = θ - η m'/(1-μ^t)",
                lambda eta, H, mu: stability.largest_excursion(eta, H, mu, corrected=True),
            ),
            Formula(
                "without, as SGD's momentum at η(1-μ): θ' = θ - η m'",
                lambda eta, H, mu: stability.largest_excursion(eta, H, mu, corrected=False),
            ),
        ),
        valid="along an eigenvector, μ constant, m_0 = 0, 1,000 steps",
        note="m̂_1 = g_1, so the first step is plain SGD's: θ_1 = (1-ηH)θ_0, and a direction with ηH > 2 grows, "
        "whatever its inertia. The step weight falls from 1 to (1-μ)/(1+μ) over about 1/(1-μ) steps, for μ near 1 as "
        "1/(2t). So even far below the limit of the settled average (ηH = 38 for μ = 0.9) the start multiplies θ by "
        "large factors. A warm-up makes the first steps smaller. The same is true for Adam's m̂, with P^-½ H P^-½ in "
        "place of H.",
        quantity="max |θ_t/θ_0|",
        inputs={"eta": 10.0, "H": 1.0, "mu": 0.9},
        sweep=Sweep("eta", 0.5, 37),
    ),
    Result(
        key="damping",
        name="Adai gives every direction the same damping",
        reference=_REFERENCE,
        kind="N",
        ours=(
            Formula("Adai: ζ_i = √((1-μ_i)/(4ηH_i)), = √(β0/(4ηH̄)) where nothing is clipped", damping.adai_ratio),
            Formula(
                "EMA momentum, β1 = 1-β0: ζ_i = √(β0/(4ηH_i))",
                lambda eta, beta0, H_all: damping.ratio(eta, 1 - np.asarray(beta0), beta0, H_all),
            ),
        ),
        valid="eq. 9 at a minimum, so 1-μ ≪ 1; noise follows the Hessian (eq. 5)",
        note="This follows from eq. 8 with γM = 1 and M = η/(1-μ). ζ = 1 is critical damping; below it a direction "
        "oscillates (rings), above it the direction creeps. With one inertia for all parameters, sharp directions ring "
        "while flat ones creep. Inertia speeds up a flat direction by a factor of 2 at most (the rate per step is ηH "
        "at ζ ≫ 1, 2ηH at ζ = 1); only a larger η does more. In the figure the dots are the optimizers themselves on a "
        "quadratic with noise of variance |H|/B, and the lines are the same with frozen averages. Adai's dots ring "
        "slightly more because v̂ fluctuates; the closer β2 is to 1, the closer they are to the lines.",
        quantity="ζ_i",
        inputs={"eta": 0.0753, "beta0": 0.1, "H_all": (4.0, 1.0, 0.25, 0.0625), "eps": 0.001},
        picture="θ/θ_0 against ηHT along four eigenvectors: EMA momentum rings along the sharp ones and creeps along "
        "the flat ones, Adai takes nearly the same path along each",
    ),
)
