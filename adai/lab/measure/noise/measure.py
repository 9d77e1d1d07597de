"""All measures of the gradient noise at one set of parameters, as numbers that can be compared."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adai.lab.measure.noise.normality import Rejected, rejected
from adai.lab.measure.noise.sampling import Noise
from adai.lab.measure.noise.scale import Scale, noise_scale
from adai.lab.measure.noise.stable import Stable, fit_stable
from adai.lab.measure.noise.tail import Tail, hill, mohammadi

Array = NDArray[np.float64]

ENOUGH = 40  # values; 5 % of them are two values, the least for Hill's index


class Law(NamedTuple):
    """The distribution of a list of noise values.

    Args:
        values: the number of values that are not 0.
        stable: the symmetric stable law that fits best.
        mohammadi: the tail index as Simsekli et al. estimated it, on shuffled values.
        hill: hill's tail index of the largest 5 %.
        kurtosis: excess; 0 for a Gaussian.
    """

    values: int
    stable: Stable
    mohammadi: float
    hill: Tail
    kurtosis: float


class NoiseLaws(NamedTuple):
    """One minibatch across parameters against one parameter across minibatches.

    Args:
        parameters: the law of one minibatch's noise, with all parameters as draws from one law.
        minibatches: the law of each followed parameter's noise, centred by its own mean.
        typical: the column of `Noise.across_minibatches` that has the median stable α.
        tests: normality of each parameter across minibatches.
        scale: the gradient-noise scale.
        still: the number of followed parameters without any noise, for example behind dead units; neither tested nor
            fitted.
        sparse: the number of parameters whose noise is the same in most minibatches; tested, but not fitted, because
            their quartiles are equal.
    """

    parameters: Law
    minibatches: dict[int, Law]
    typical: int
    tests: list[Rejected]
    scale: Scale
    still: int
    sparse: int


def law(values: Array) -> Law:
    """Fit a law to values, which must be centred. It raises the errors of `fit_stable`."""
    moving = values[values != 0]
    z = (moving - moving.mean()) / moving.std()
    return Law(len(moving), fit_stable(moving), mohammadi(moving), hill(moving), float(np.mean(z**4)) - 3)


def noise_laws(noise: Noise, *, seed: int = 0) -> NoiseLaws:
    """Fit and test minibatch noise in every way.

    Raises:
        ValueError: no followed parameter has noise, there are too few minibatches or parameters, or a minibatch is the
            whole data.
    """
    scale = noise_scale(noise)
    columns = noise.across_minibatches
    for number, what in ((len(columns), "minibatches"), (np.count_nonzero(noise.across_parameters), "parameters")):
        if number < ENOUGH:
            raise ValueError(f"noise of {number} {what}, but tail indices need at least {ENOUGH}")
    low, high = np.quantile(columns, [0.25, 0.75], axis=0)
    fitted, still = np.flatnonzero(high > low), int(np.sum(np.ptp(columns, axis=0) == 0))
    if not fitted.size:
        raise ValueError("no followed parameter has noise in most minibatches; follow more of them, or take a larger B")
    laws = {int(j): law(columns[:, j] - columns[:, j].mean()) for j in fitted}
    by_alpha = sorted(laws, key=lambda j: laws[j].stable.alpha)
    return NoiseLaws(
        law(noise.across_parameters),
        laws,
        by_alpha[len(by_alpha) // 2],
        rejected(columns, seed=seed),
        scale,
        still,
        columns.shape[1] - still - fitted.size,
    )
