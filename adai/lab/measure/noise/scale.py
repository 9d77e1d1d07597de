"""Gradient-noise scale and signal-to-noise ratio."""

from typing import NamedTuple

import numpy as np

from adai.lab.measure.noise.covariance import batch_factor
from adai.lab.measure.noise.sampling import Noise
from adai.theory.estimate import Interval


class Scale(NamedTuple):
    """tr C₁, the noise scale and the signal-to-noise ratios.

    Args:
        trace: tr C₁, the mean squared noise of a single sample's gradient.
        trace_se: the standard error of ``trace``.
        simple: tr C₁ / ‖∇L‖², in samples, with a 95 % interval from ``trace_se``: the batch size at which noise and
            gradient have the same length.
        ratio: ‖∇L‖² / E‖noise‖² at the measured batch size.
        parameter_ratio: median over the followed parameters of |∂L/∂θ_j| / sd of its noise, at the measured batch size.
    """

    trace: float
    trace_se: float
    simple: Interval
    ratio: float
    parameter_ratio: float


def noise_scale(noise: Noise) -> Scale:
    """The simple noise scale, from the noise of minibatches about the exact gradient.

    ‖∇L‖² is exact over the data here, so there is no bias that a second batch size would have to remove, as it does
    during training. Near a critical point the gradient vanishes and the scale is unbounded: it is not a property of the
    model alone.

    Raises:
        ValueError: the minibatch is the whole data, which has no noise.

    Source: S. McCandlish, J. Kaplan, D. Amodei et al., An Empirical Model of Large-Batch Training, arXiv 1812.06162,
    eq. 2.9.
    """
    factor = batch_factor(noise.B, noise.samples)
    if not factor:
        raise ValueError(f"minibatches of all {noise.samples} samples have no noise; take a smaller B")
    per_sample = noise.squares / factor
    trace, se = float(np.mean(per_sample)), float(np.std(per_sample, ddof=1) / len(per_sample) ** 0.5)
    G2 = noise.gradient_square
    over = [x / G2 if G2 > 0 else float("inf") for x in (trace, max(0.0, trace - 1.96 * se), trace + 1.96 * se)]
    sd = np.sqrt(np.mean(noise.across_minibatches**2, axis=0))
    moves = sd > 0
    by_parameter = float(np.median(np.abs(noise.gradient[moves]) / sd[moves])) if moves.any() else float("nan")
    mean_square = float(np.mean(noise.squares))
    return Scale(trace, se, Interval(*over), G2 / mean_square if mean_square else float("inf"), by_parameter)
