"""The settings of the escape times: landscape, learning rates, sharpnesses, and the theory that applies."""

from collections.abc import Callable
from typing import NamedTuple

from adai.simulate import landscapes, rules
from adai.simulate.landscapes import DIMENSIONS, NOISE, Landscape
from adai.simulate.rules import Rule
from adai.theory import escape
from adai.theory.styblinski import PRINTED_MINIMUM, PRINTED_SADDLE, mean_curvature, mean_loss

# The matched parabolas: batch size 1, barrier 0.06, learning rate 0.02.
B, DELTA_L, ETA, OTHERS = 1.0, 0.06, 0.02, (0.1, 0.1, 0.4)


class Setting(NamedTuple):
    """A setting of the escape times.

    Args:
        title: a description in one line.
        landscape: gives the landscape of an optimizer's replicas at sharpness k.
        rules: the optimizers that can run, with their options.
        first: the optimizers that run by default.
        ks: the sharpnesses that run by default.
        warm: whether replicas start with settled averages.
        theory: mean escape time in iterations against k, for the optimizers to which a theory applies.
    """

    title: str
    landscape: Callable[[str, float], Landscape]
    rules: dict[str, Rule]
    first: tuple[str, ...]
    ks: tuple[float, ...]
    warm: bool
    theory: dict[str, Callable[[float], escape.Escape]]


def _rules(lr: float, adam: float) -> dict[str, Rule]:
    """Every optimizer at learning rate ``lr``, but SGD-style momentum at a tenth of it, and Adam at ``adam``."""
    return {
        "adai": rules.adai(lr),
        "momentum": rules.momentum(lr / 10),
        "ema": rules.ema(lr),
        "adam": rules.adam(adam),
        "sgd": rules.sgd(lr),
        "adaiw": rules.adaiw(lr),
    }


def _matched(optimizer: str, k: float) -> Landscape:
    # In one dimension Adai is EMA momentum, whatever the noise, so it needs other coordinates.
    others = OTHERS if optimizer.startswith("adai") else ()
    return landscapes.matched(k, others, eta=ETA, B=B, delta_L=DELTA_L)


def _momentum(eta: float, beta1: float, beta3: float) -> Callable[[float], escape.Escape]:
    return lambda k: escape.momentum(eta, beta1, beta3, B, k, -k, 0.5, DELTA_L)


def _adai(k: float) -> escape.Escape:
    return escape.adai(ETA, 0.1, B, k, -k, 0.5, DELTA_L, H_all=[-k, *(k * h for h in OTHERS)])


def _uniform(eta: float, beta1: float, beta3: float, *, adaptive: bool = False) -> Callable[[float], escape.Escape]:
    """Kramers' time through any of the saddles of the double well; Adam divides its learning rate by sqrt(C)."""

    def theory(k: float) -> escape.Escape:
        C = k * NOISE**2
        rate = eta / C**0.5 if adaptive else eta
        H_a, H_b = k * mean_curvature(PRINTED_MINIMUM, 0), k * mean_curvature(PRINTED_SADDLE, 0)
        delta_L = mean_loss(PRINTED_SADDLE, 0) - mean_loss(PRINTED_MINIMUM, 0)
        return escape.uniform(rate, beta1, beta3, C, H_a, H_b, delta_L).times(1 / DIMENSIONS)

    return theory


SETTINGS = {
    "paper": Setting(
        title="Appendix E as printed: Styblinski-Tang with samples x ~ N(0, 4 I), whose mean loss is convex",
        landscape=lambda optimizer, k: landscapes.appendix_e(k),
        rules=_rules(1e-3, adam=0.03),
        first=("adai", "momentum", "adam"),
        ks=(1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.6, 4.5, 6.0),
        warm=False,
        theory={},
    ),
    "double-well": Setting(
        title="Styblinski-Tang with additive Gaussian noise: a true double well",
        landscape=lambda optimizer, k: landscapes.double_well(k),
        rules=_rules(1.5e-3, adam=0.12),
        first=("adai", "momentum", "ema", "adam"),
        ks=(1.2, 1.3, 1.4, 1.55, 1.7, 1.9, 2.1, 2.4, 2.7, 3.0),
        warm=False,
        theory={
            "adai": _uniform(1.5e-3, 0.9, 0.1),
            "momentum": _uniform(1.5e-4, 0.9, 1.0),
            "ema": _uniform(1.5e-3, 0.9, 0.1),
            "adam": _uniform(0.12, 0.9, 0.1, adaptive=True),
            "sgd": _uniform(1.5e-3, 0.0, 1.0),
        },
    ),
    "matched": Setting(
        title="Matched parabolas with C = |H|/B: the theory's assumptions hold exactly",
        landscape=_matched,
        rules=_rules(ETA, adam=ETA),
        first=("sgd", "ema", "adam", "adai"),
        ks=(0.95, 1.05, 1.2, 1.35, 1.5, 1.7, 2.0),
        warm=True,
        theory={
            "sgd": _momentum(ETA, 0.0, 1.0),
            "momentum": _momentum(ETA / 10, 0.9, 1.0),
            "ema": _momentum(ETA, 0.9, 0.1),
            "adam": lambda k: escape.adam(ETA, 0.9, B, k, -k, 0.5, DELTA_L),
            "adai": _adai,
        },
    ),
}
