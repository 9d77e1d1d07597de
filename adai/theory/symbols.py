"""Every symbol of the theory, with its meaning and its bounds.

This module imports nothing heavy, so the command can list its options at once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Symbol(NamedTuple):
    """A symbol of the paper.

    ``flag`` is the name of the command's option, empty if there is none; ``bound`` describes the test of ``holds``;
    ``holds`` maps an array to an array of truth values.
    """

    flag: str
    meaning: str
    bound: str
    holds: Callable[[Any], Any]


def _finite(x: Any) -> Any:
    return (x > float("-inf")) & (x < float("inf"))


_POSITIVE: tuple[str, Callable[[Any], Any]] = ("above 0", lambda x: (x > 0) & _finite(x))
_NOT_NEGATIVE: tuple[str, Callable[[Any], Any]] = ("0 or above", lambda x: (x >= 0) & _finite(x))
_ANY: tuple[str, Callable[[Any], Any]] = ("finite", _finite)
_MOMENTUM: tuple[str, Callable[[Any], Any]] = ("in [0, 1)", lambda x: (x >= 0) & (x < 1))

SYMBOLS: dict[str, Symbol] = {
    "eta": Symbol("lr", "η, learning rate", *_POSITIVE),
    "beta0": Symbol("beta0", "β0 of Adai", "in (0, 1]", lambda x: (x > 0) & (x <= 1)),
    "beta1": Symbol("beta1", "β1, momentum", *_MOMENTUM),
    "mu": Symbol("mu", "μ, inertia: one for all parameters, or one for each", *_MOMENTUM),
    "min_inertia": Symbol("min-inertia", "floor under the inertia of Adai (μ ≥ this)", *_MOMENTUM),
    "beta3": Symbol("beta3", "β3, weight of the gradient in eq. 6: 1 for SGD-style, 1 - β1 for EMA", *_POSITIVE),
    "eps": Symbol("eps", "ε, the inertia bound of Adai (μ ≤ 1 - ε), or Adam's guard", *_MOMENTUM),
    "P": Symbol("P", "√v̂ + ε, by which Adam and RMSprop divide: one, or one for each parameter", *_POSITIVE),
    "step_weight": Symbol("", "step weight S", *_NOT_NEGATIVE),
    "weight_decay": Symbol("weight-decay", "λ, weight decay", *_NOT_NEGATIVE),
    "B": Symbol("B", "batch size", *_POSITIVE),
    "N": Symbol("", "number of samples", "2 or above", lambda x: (x >= 2) & _finite(x)),
    "C": Symbol("", "gradient noise variance", *_NOT_NEGATIVE),
    "D": Symbol("", "diffusion coefficient", *_NOT_NEGATIVE),
    "M": Symbol("", "mass", *_POSITIVE),
    "gamma": Symbol("", "γ, damping coefficient", *_POSITIVE),
    "H": Symbol(
        "H", "eigenvalue of the Hessian; for stability: all of them, or the matrix in quotes, '2 .5; .5 1'", *_ANY
    ),
    "H_all": Symbol("H-all", "every eigenvalue of the Hessian at the saddle", *_ANY),
    "H_a": Symbol("Ha", "curvature at the minimum along the escape direction", *_POSITIVE),
    "H_b": Symbol(
        "Hb", "curvature at the saddle along the escape direction", "below 0", lambda x: (x < 0) & _finite(x)
    ),
    "delta_L": Symbol("dL", "ΔL, height of the barrier", *_POSITIVE),
    "det_ratio": Symbol("", "|det(H_a⁻¹ H_b)|", *_POSITIVE),
    "s": Symbol(
        "s", "share of the barrier under the temperature of the minimum", "in (0, 1)", lambda x: (x > 0) & (x < 1)
    ),
    "T": Symbol("T", "number of iterations", *_NOT_NEGATIVE),
    "t": Symbol("", "dynamical time", *_NOT_NEGATIVE),
    "y": Symbol("", "4H / (γ²M)", "at most 1 (above, the dynamics is underdamped)", lambda x: x <= 1),
    "g": Symbol("g", "gradient", *_ANY),
    "V": Symbol("", "gradient second moment of a parameter", *_NOT_NEGATIVE),
    "n": Symbol("n", "number of replicas", "3 or above", lambda x: (x >= 3) & _finite(x)),
    "sd": Symbol("sd", "standard deviation of the samples in Appendix E", *_NOT_NEGATIVE),
    "u": Symbol("", "√k θ, the argument of the test function", *_ANY),
}

# The symbols that may have several numbers; every other symbol has one.
LISTS = ("H", "H_all", "P", "mu")
