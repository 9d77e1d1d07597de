"""Displacement from a strict saddle, simulated with the optimizers' rules; each coordinate has one eigenvalue.

g_i = H_i θ_i + sqrt(|H_i| / B) z_i, so C = |H| / B as in the paper. Three quantities are measured:

- **cold**: θ² after T iterations with a new optimizer at θ = 0, as in a run that starts there.
- **settled**: the same with an optimizer whose averages have first settled on the noise at the saddle, with θ = 0: the
  paper's equilibrium velocity.
- **drift**: the displacement that the settled momentum alone causes if all later gradients are zero.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from adai.simulate import rules
from adai.simulate.rules import Array, Rule
from adai.theory.bounds import checked


class Squares(NamedTuple):
    """Squared displacements, with one row per replica and one column per eigenvalue."""

    cold: Array
    settled: Array
    drift: Array


def displacements(
    rule: Rule, H: ArrayLike, seeds: NDArray[np.uint32], *, B: float, T: int, settle: int, coast: int
) -> Squares:
    """Run one replica for each seed.

    Args:
        rule: from `adai.simulate.rules`.
        H: eigenvalues at the saddle; Adai's mean of v̂ is over them.
        seeds: one per replica.
        B: batch size.
        T: iterations of a displacement.
        settle: iterations of noise with θ fixed at 0 before the start; several times 1/(1 - μ) and 1/(1 - beta2).
        coast: iterations with zero gradients after which the drift is measured.

    Raises:
        ValueError: an eigenvalue is 0, or B or T is below its bound.
    """
    H, *_ = checked(H=H, B=B, T=T)
    if np.any(H == 0):
        raise ValueError("H = 0, but has to be other than 0: without curvature there is no noise here")
    squares = Squares(*(np.empty((seeds.size, H.size)) for _ in Squares._fields))
    _run(rule, H, np.sqrt(np.abs(H) / B), seeds, T, settle, coast, squares)
    return squares


@njit(nogil=True, cache=True)
def _run(
    rule: Rule,
    H: Array,
    noise: Array,
    seeds: NDArray[np.uint32],
    T: int,
    settle: int,
    coast: int,
    squares: Squares,
) -> None:
    n = H.size
    theta, g, m, v, c = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    kept, kept_v, kept_c = np.zeros(n), np.zeros(n), np.zeros(n)
    for replica in range(seeds.size):
        np.random.seed(seeds[replica])
        theta[:], m[:], v[:], c[:] = 0, 0, 0, 0
        _move(rule, H, noise, theta, g, m, v, c, 0, T)
        squares.cold[replica] = theta**2

        m[:], v[:], c[:] = 0, 0, 0
        for t in range(1, settle + 1):
            theta[:] = 0
            for i in range(n):
                g[i] = noise[i] * np.random.standard_normal()
            rules.step(rule, theta, g, m, v, c, t)
        kept[:], kept_v[:], kept_c[:] = m, v, c

        theta[:] = 0
        _move(rule, H, noise, theta, g, m, v, c, settle, T)
        squares.settled[replica] = theta**2

        theta[:], g[:] = 0, 0
        m[:], v[:], c[:] = kept, kept_v, kept_c
        for t in range(settle + 1, settle + coast + 1):
            rules.step(rule, theta, g, m, v, c, t)
        squares.drift[replica] = theta**2


@njit(nogil=True, cache=True)
def _move(
    rule: Rule, H: Array, noise: Array, theta: Array, g: Array, m: Array, v: Array, c: Array, age: int, T: int
) -> None:
    for t in range(age + 1, age + T + 1):
        for i in range(H.size):
            g[i] = H[i] * theta[i] + noise[i] * np.random.standard_normal()
        rules.step(rule, theta, g, m, v, c, t)
