"""Compares the named values of a fixtures file with the results of the functions.

The file is a JSON list of records ``{"name": …, "inputs": {…}, "value": number, "rtol": number}``; inputs are the
paper's symbols in ASCII (eta, b1, b3, dL, Ha, …).
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adai.theory import dynamics, escape, estimate, exact, saddle, stability
from adai.theory.bounds import Array
from adai.theory.record import Value, number

_SYMBOLS = {
    "b0": "beta0",
    "b1": "beta1",
    "b3": "beta3",
    "Ha": "H_a",
    "Hb": "H_b",
    "Hb_all": "H_all",
    "dL": "delta_L",
    "lambda": "H",  # a word of Python's
}


class Checked(NamedTuple):
    """A fixture and the value that the function gives."""

    name: str
    expected: float
    rtol: float
    got: float

    @property
    def passed(self) -> bool:
        """Whether the two agree to rtol."""
        return math.isclose(self.got, self.expected, rel_tol=self.rtol, abs_tol=0)


def check(path: Path) -> list[Checked]:
    """Evaluate every fixture of the file.

    Raises:
        ValueError: the file cannot be read or is not a list of fixtures, a name is unknown, or inputs are wrong.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path} has to hold a list of fixtures, and at least one")
    return [_check(record, f"fixture {index} of {path}") for index, record in enumerate(records)]


def _check(record: Any, where: str) -> Checked:
    try:
        name, inputs = str(record["name"]), dict(record["inputs"])
        expected, rtol = float(record["value"]), float(record["rtol"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} lacks a name, inputs, a value or an rtol that can be used: {error!r}") from error
    if name not in FIXTURES:
        raise ValueError(f"{where} has the unknown name {name!r}; known are {', '.join(FIXTURES)}")
    try:
        return Checked(name, expected, rtol, evaluate(name, inputs))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}, {name}: {error}") from error


def evaluate(name: str, inputs: Mapping[str, Any]) -> float:
    """The value of one fixture."""
    return float(number(FIXTURES[name](**{_SYMBOLS.get(key, key): value for key, value in inputs.items()})))


def _times(t: str) -> Array:
    """The escape times that a range such as "1..100" means."""
    first, last = t.split("..")
    return np.arange(int(first), int(last) + 1, dtype=np.float64)


def _noisy(function: Callable[..., Value], **fixed: Any) -> Callable[..., Value]:
    """Turn a function of the noise C into a function of B and H."""
    return lambda B, H, **inputs: function(H=H, C=dynamics.noise_covariance(B, H), **inputs, **fixed)


def _moving(function: Callable[..., Value]) -> Callable[..., Value]:
    """Turn a function of a motion into a function of the algorithm's symbols."""
    return lambda **inputs: function(*dynamics.motion(**inputs))


def _adam(function: Callable[..., escape.Escape]) -> Callable[..., escape.Escape]:
    """Turn a formula for Adam into one with a dimension: |det(H_a⁻¹H_b)| is that of dim equal curvatures."""
    return lambda H_a, H_b, dim, **inputs: function(H_a=H_a, H_b=H_b, det_ratio=abs(H_b / H_a) ** dim, **inputs)


def _stable(weight: Callable[..., Any]) -> Callable[..., Value]:
    """The largest stable learning rate of a rule as a function of H and the arguments of its step weight."""
    return lambda H, **inputs: stability.largest_stable_lr(
        H, weight(**{name: np.asarray(value) for name, value in inputs.items()})
    )


FIXTURES: dict[str, Callable[..., Value]] = {
    "mass": lambda eta, beta1, beta3: dynamics.mass(eta, beta3),
    "gamma": lambda eta, beta1, beta3: dynamics.damping(eta, beta1),
    "thm2_1.cont": saddle.spread,
    "thm2_1.sgd": saddle.sgd_printed,
    "thm2_1.taylor": saddle.sgd_taylor_printed,
    "thm3_1.cont": saddle.momentum_printed,
    "thm3_1.momentum_form": saddle.momentum_taylor_printed,
    "exact.sgd_discrete": _noisy(exact.sgd),
    "exact.momentum_discrete_eq": _noisy(exact.momentum, start="equilibrium"),
    "exact.momentum_discrete_cold": _noisy(exact.momentum, start="cold"),
    "exact.momentum_stationary_var": exact.momentum_stationary,
    "exact.langevin_eq": _moving(exact.langevin),
    "exact.langevin_eq_raw": exact.langevin,
    "exact.langevin_cold": _moving(lambda *motion: exact.langevin(*motion).diffusion),
    "eq11.ratio": escape.effective_diffusion,
    "thm3_2.paper": escape.momentum_printed,
    "thm3_2.corrected": escape.momentum_kramers,
    "thm3_2.corrected_ito": escape.momentum,
    "prop1.adam_over_eta2": lambda beta1, T: saddle.adam_taylor_printed(1.0, beta1, T),
    "exact.adam_ideal_eq_over_eta2": lambda beta1, T: exact.adam(1.0, beta1, 1.0, 0.0, T),
    "prop2.main_text": _adam(escape.adam_printed),
    "prop2.eq67": _adam(escape.adam_eq67),
    "prop2.iterations": lambda **inputs: _adam(escape.adam_printed)(**inputs).iterations,
    "eq12": saddle.total_drift,
    "prop3.paper": lambda H, **inputs: saddle.adai_drift_printed(H_all=H, **inputs),
    "prop3.corrected": lambda H, **inputs: saddle.adai_drift(H_all=H, **inputs),
    "prop4": escape.adai_printed,
    "rate.eq71": lambda t: estimate.rate(_times(t), estimator="paper"),
    "rate.mvue": lambda t: estimate.rate(_times(t), estimator="mvue"),
    "rate.mle": lambda t: estimate.rate(_times(t), estimator="mle"),
    "rate.eq72.low": lambda t: estimate.rate_interval_printed(_times(t)).low,
    "rate.eq72.high": lambda t: estimate.rate_interval_printed(_times(t)).high,
    "rate.chi2.low": lambda t: estimate.rate_interval(_times(t)).low,
    "rate.chi2.high": lambda t: estimate.rate_interval(_times(t)).high,
    "rate.eq72_coverage_n100": lambda: estimate.coverage_printed(100),
    "rate.eq71_bias_ratio_n100": lambda: estimate.bias(100, "paper"),
    "stability.adai_eta_max": _stable(stability.adai),
    "stability.sgd_eta_max": _stable(stability.sgd),
    "stability.heavy_ball_eta_max": _stable(stability.heavy_ball),
    "stability.nesterov_eta_max": _stable(stability.nesterov),
    "stability.ema_eta_max": _stable(stability.ema),
    "stability.adam_eta_max": _stable(stability.adam),
}
