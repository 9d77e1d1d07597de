"""Two joined parabolas: the landscape on which the assumptions of the escape theory hold exactly.

A valley of curvature H_a has its minimum at θ = 0. A hilltop of curvature H_b < 0 is at θ = b and ΔL higher. They are
joined at the point where their values and slopes agree. The noise is C = H_a / B up to the junction and |H_b| / B
beyond: these are the two temperatures in the proof of Theorem 3.2. Here s is no longer free::

    s = |H_b| / (H_a + |H_b|),   b = sqrt(2 ΔL (1/H_a + 1/|H_b|)),   junction at s b
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from adai.theory.bounds import Array, checked


class Parabolas(NamedTuple):
    """Curvature of the valley (> 0) and of the hilltop (< 0), and the height of the barrier."""

    H_a: float
    H_b: float
    delta_L: float

    @property
    def s(self) -> float:
        """Share of the barrier on the valley's side: L(junction) = s ΔL."""
        return float(share(self.H_a, self.H_b))

    @property
    def b(self) -> float:
        """The position of the hilltop; the minimum is at 0."""
        H_a, H_b, delta_L = checked(H_a=self.H_a, H_b=self.H_b, delta_L=self.delta_L)
        return float(np.sqrt(2 * delta_L * (1 / H_a - 1 / H_b)))

    @property
    def junction(self) -> float:
        """The position at which the parabolas are joined."""
        return self.s * self.b

    def curvature(self, theta: ArrayLike) -> Array:
        """H(θ): H_a before the junction, H_b after."""
        return np.where(np.asarray(theta) < self.junction, self.H_a, self.H_b)

    def loss(self, theta: ArrayLike) -> Array:
        """L(θ) - L(0)."""
        theta = np.asarray(theta, dtype=np.float64)
        valley, hilltop = self.H_a * theta**2 / 2, self.delta_L + self.H_b * (theta - self.b) ** 2 / 2
        return np.where(theta < self.junction, valley, hilltop)

    def gradient(self, theta: ArrayLike) -> Array:
        """dL/dθ, continuous."""
        theta = np.asarray(theta, dtype=np.float64)
        return np.where(theta < self.junction, self.H_a * theta, self.H_b * (theta - self.b))


def share(H_a: ArrayLike, H_b: ArrayLike) -> Array:
    """s = |H_b| / (H_a + |H_b|) of two parabolas joined with equal slope."""
    H_a, H_b = checked(H_a=H_a, H_b=H_b)
    return -H_b / (H_a - H_b)
