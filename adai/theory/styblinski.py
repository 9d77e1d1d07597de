"""The test function of Appendix E, averaged over Gaussian samples: its real valleys.

This is one coordinate of L(θ) = f(√k θ - x), u = √k θ, x ~ N(0, sd²). The printed minimum and saddle are those of f,
which is sd = 0::

    f(u) = (u⁴ - 16u² + 5u) / 2
    E f(u - x) = (u⁴ + (6 sd² - 16) u² + 5u) / 2 + 3/2 sd⁴ - 8 sd²
"""

import numpy as np
from numpy.typing import ArrayLike

from adai.theory.bounds import Array, checked

PRINTED_MINIMUM = -2.903534
PRINTED_SADDLE = 0.156731


def mean_loss(u: ArrayLike, sd: ArrayLike) -> Array:
    """E f(u - x), one coordinate."""
    u, sd = checked(u=u, sd=sd)
    return (u**4 + (6 * sd**2 - 16) * u**2 + 5 * u) / 2 + 1.5 * sd**4 - 8 * sd**2


def mean_gradient(u: ArrayLike, sd: ArrayLike) -> Array:
    """d/du of `mean_loss`: 2u³ + (6 sd² - 16) u + 5/2."""
    u, sd = checked(u=u, sd=sd)
    return 2 * u**3 + (6 * sd**2 - 16) * u + 2.5


def mean_curvature(u: ArrayLike, sd: ArrayLike) -> Array:
    """d²/du² of `mean_loss`: 6u² + 6 sd² - 16."""
    u, sd = checked(u=u, sd=sd)
    return 6 * u**2 + 6 * sd**2 - 16


def gradient_variance(u: ArrayLike, sd: ArrayLike) -> Array:
    """Var f'(u - x) of one sample: 60s³ - 192s² + 256s + 36su⁴ + (144s² - 192s)u², s = sd²."""
    u, sd = checked(u=u, sd=sd)
    s = sd**2
    return 60 * s**3 - 192 * s**2 + 256 * s + 36 * s * u**4 + (144 * s**2 - 192 * s) * u**2


def critical_points(sd: float) -> Array:
    """Where `mean_gradient` is 0, in order: minimum, saddle, minimum; or the one minimum of a convex or tilted loss."""
    checked(sd=sd)
    roots = np.roots([2.0, 0.0, 6 * sd**2 - 16, 2.5])
    return np.sort(roots[np.abs(roots.imag) < 1e-9].real)


def minimum(sd: ArrayLike) -> Array:
    """The left minimum of `mean_loss`, -2.9035 at sd = 0 and -0.3054 at sd = 2; it is always the lowest."""
    (sd,) = checked(sd=sd)
    return np.asarray(np.vectorize(lambda x: critical_points(float(x))[0], otypes=[np.float64])(sd))


def largest_sd() -> float:
    """The largest sd for which the mean loss has two valleys: 1.391, less than the 2 that Appendix E prints.

    The discriminant of 2u³ + pu + q, -4·2p³ - 27·2²q², is 0 at p = -(27 q²/2)^{1/3}, with p = 6 sd² - 16, q = 5/2.
    """
    p = -((27 * 2.5**2 / 2) ** (1 / 3))
    return float(np.sqrt((p + 16) / 6))
