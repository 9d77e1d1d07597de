"""Is the noise of each parameter Gaussian? Tests across minibatches, and how often they reject real Gaussians."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr
from scipy.stats import binomtest

from adai.theory.estimate import Interval

Array = NDArray[np.float64]

# Critical values of the modified statistics at 5 %, with mean and variance estimated. Source: M. Stephens, in
# R. D'Agostino and M. Stephens, Goodness-of-Fit Techniques, 1986, Table 4.7, case 3.
AD_5, KS_5 = 0.752, 0.895


class Rejected(NamedTuple):
    """Shares of parameters for which a test at 5 % rejects the Gaussian.

    Args:
        test: the name of the test.
        share: the share of parameters rejected.
        gaussian: the share rejected among simulated Gaussians of the same number of values, with its exact 95 %
            interval: the expected share if the noise were Gaussian.
        parameters: the number of parameters tested: those whose noise is not constant.
    """

    test: str
    share: float
    gaussian: Interval
    parameters: int


def anderson_darling(x: Array) -> Array:
    """A² (1 + 0.75/m + 2.25/m²) of each column of x (m, …), against a Gaussian of its own mean and variance.

    This test gives weight to the tails. Reject at 5 % above `AD_5`.
    """
    m, z = _standardised(x)
    rank = np.arange(1, m + 1).reshape(-1, *[1] * (z.ndim - 1))
    A2 = -m - np.sum((2 * rank - 1) * (log_ndtr(z) + log_ndtr(-z[::-1])), axis=0) / m
    return np.asarray(A2 * (1 + 0.75 / m + 2.25 / m**2))


def kolmogorov_smirnov(x: Array) -> Array:
    """D (√m − 0.01 + 0.85/√m) of each column of x (m, …), against a Gaussian of its own mean and variance.

    Mean and variance are estimated, so this is Lilliefors' test. Kolmogorov's own table would be far too lenient.
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
    """Both tests on the noise of each parameter (minibatches, parameters), and on simulated Gaussians.

    With enough minibatches the tests find any deviation, however small. The noise of two parameters is not independent,
    so the share has no binomial interval. Compare it with the share for Gaussians.

    Args:
        noise: values; constant columns are left out.
        simulated: the number of Gaussian columns.
        seed: of the Gaussian columns.

    Raises:
        ValueError: there are fewer than 8 minibatches, or no parameter has noise.
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
    """The number of rows, and the columns, sorted and with mean 0 and variance 1."""
    x = np.asarray(x, dtype=np.float64)
    return len(x), np.sort((x - x.mean(axis=0)) / x.std(axis=0, ddof=1), axis=0)
