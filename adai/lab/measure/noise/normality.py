"""Is the noise of each parameter Gaussian? Tests across minibatches, and how often they reject what is."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr
from scipy.stats import binomtest

from adai.theory.estimate import Interval

Array = NDArray[np.float64]

# Critical values at 5 % of the modified statistics, mean and variance estimated. Source: M. Stephens, in R. D'Agostino
# and M. Stephens, Goodness-of-Fit Techniques, 1986, Table 4.7, case 3.
AD_5, KS_5 = 0.752, 0.895


class Rejected(NamedTuple):
    """Shares of parameters for which a test at 5 % rejects the Gaussian.

    Args:
        test: its name.
        share: rejected among the parameters.
        gaussian: rejected among simulated Gaussians of as many values, with its exact 95 % interval: what the share
            would be if the noise were Gaussian.
        parameters: how many were tested: those whose noise is not always the same.
    """

    test: str
    share: float
    gaussian: Interval
    parameters: int


def anderson_darling(x: Array) -> Array:
    """A² (1 + 0.75/m + 2.25/m²) of each column of x (m, …), against a Gaussian of its own mean and variance.

    It weighs the tails. Reject at 5 % above `AD_5`.
    """
    m, z = _standardised(x)
    rank = np.arange(1, m + 1).reshape(-1, *[1] * (z.ndim - 1))
    A2 = -m - np.sum((2 * rank - 1) * (log_ndtr(z) + log_ndtr(-z[::-1])), axis=0) / m
    return np.asarray(A2 * (1 + 0.75 / m + 2.25 / m**2))


def kolmogorov_smirnov(x: Array) -> Array:
    """D (√m − 0.01 + 0.85/√m) of each column of x (m, …), against a Gaussian of its own mean and variance.

    As these are estimated it is Lilliefors' test, and Kolmogorov's own table, far too lenient here, does not apply.
    Reject at 5 % above `KS_5`.
    """
    m, z = _standardised(x)
    rank = np.arange(1, m + 1).reshape(-1, *[1] * (z.ndim - 1))
    p = ndtr(z)
    D = np.maximum(rank / m - p, p - (rank - 1) / m).max(axis=0)
    return np.asarray(D * (m**0.5 - 0.01 + 0.85 / m**0.5))


_TESTS: dict[str, tuple[Callable[[Array], Array], float]] = {
    "Anderson-Darling": (anderson_darling, AD_5),
    "Kolmogorov-Smirnov": (kolmogorov_smirnov, KS_5),
}


def rejected(noise: Array, *, simulated: int = 2000, seed: int = 0) -> list[Rejected]:
    """Both tests on the noise of each parameter (minibatches, parameters), beside simulated Gaussians.

    With enough minibatches the tests find any departure, however small; and the noise of two parameters is not
    independent, so the share has no binomial interval. Compare it with the Gaussian rate.

    Args:
        noise: values; columns that are constant are left out.
        simulated: how many Gaussian columns.
        seed: of those.

    Raises:
        ValueError: fewer than 8 minibatches, or noise in no parameter.
    """
    if len(noise) < 8:
        raise ValueError(f"{len(noise)} minibatches, but the tests need at least 8")
    moving = noise[:, np.ptp(noise, axis=0) > 0]
    if not moving.shape[1]:
        raise ValueError("no parameter has noise, so there is nothing to test")
    gaussian = np.random.default_rng(seed).standard_normal((simulated, len(noise))).T
    results = []
    for name, (statistic, critical) in _TESTS.items():
        false = int(np.sum(statistic(gaussian) > critical))
        ends = binomtest(false, simulated).proportion_ci()
        rate = Interval(false / simulated, float(ends.low), float(ends.high))
        results.append(Rejected(name, float(np.mean(statistic(moving) > critical)), rate, moving.shape[1]))
    return results


def _standardised(x: Array) -> tuple[int, Array]:
    """How many rows, and the columns sorted with mean 0 and variance 1."""
    x = np.asarray(x, dtype=np.float64)
    return len(x), np.sort((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), axis=0)
