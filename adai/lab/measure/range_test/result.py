"""The result of a range test: when the loss blew up, and which learning rate follows from it."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

KEPT = 0.9  # weight of the old running mean in each step
FIRST = 10  # the first losses, at the lowest rates, give the starting loss and its noise
NOISE = 4.0  # a rise has to exceed this number of standard deviations of the noise
# The suggestion is the smaller of BLOW_UP_SHARE times the lowest rate at which a loss blew up, and LOWEST_SHARE times
# the rate at which the median is lowest. benchmarks/range_test.py tries other rules.
BLOW_UP_SHARE, LOWEST_SHARE = 0.25, 0.5
WARM_UP = 100  # steps; the default of the lab's runs


class RunningMean:
    """The running mean of the losses while the rate rises, and whether they have blown up.

    The mean is exponential with weight 0.1 on the newest loss, bias-corrected. The loss has blown up if it is not
    finite, or if its mean has lost half of its gain since the start and has risen by more than 4 standard deviations of
    the first ten losses. These differ only by noise, because the rates are lowest there.
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        self._losses: list[float] = []
        self._sum = self._weight = 0.0

    def blown_up_by(self, loss: float) -> bool:
        """Add a loss; returns whether the losses have blown up."""
        self._sum = KEPT * self._sum + (1 - KEPT) * loss
        self._weight = KEPT * self._weight + (1 - KEPT)
        self.values.append(self._sum / self._weight)
        if len(self._losses) < FIRST:
            self._losses.append(loss)
        if not math.isfinite(loss):
            return True
        if len(self.values) <= FIRST:
            return False
        lowest = min(self.values)
        gained = float(np.mean(self._losses)) - lowest
        return self.values[-1] > lowest + max(gained / 2, NOISE * float(np.std(self._losses)))


class Rise(NamedTuple):
    """One test: one loss per step, the rate at which they blew up or None, and the limit at its start or None."""

    losses: list[float]
    blow_up: float | None
    limit: float | None


class RangeTest(NamedTuple):
    """The range tests of one optimizer.

    Attributes:
        rates: of the steps, (steps,).
        losses: of each test, (seeds, steps); nan after its end.
        blow_ups: the rate at which each test's loss blew up, (seeds,); inf if it did not up to the highest rate.
        limits: the largest stable rate at the start of each test by theory, (seeds,); nan if there is none.
    """

    rates: Array
    losses: Array
    blow_ups: Array
    limits: Array

    @classmethod
    def of(cls, rates: Array, rises: Sequence[Rise]) -> Self:
        """Combine the tests of all seeds."""
        losses = np.full((len(rises), len(rates)), np.nan)
        for row, one in zip(losses, rises, strict=True):
            row[: len(one.losses)] = one.losses
        blow_ups = np.array([math.inf if one.blow_up is None else one.blow_up for one in rises])
        return cls(rates, losses, blow_ups, np.array([math.nan if one.limit is None else one.limit for one in rises]))

    @property
    def seeds(self) -> int:
        """The number of tests."""
        return len(self.losses)

    @property
    def means(self) -> Array:
        """The running mean of each test's losses, (seeds, steps); nan after its end."""
        means = np.full_like(self.losses, np.nan)
        for row, losses in zip(means, self.losses, strict=True):
            running = RunningMean()
            for loss in losses[~np.isnan(losses)]:
                running.blown_up_by(float(loss))
            row[: len(running.values)] = running.values
        return means

    @property
    def ends(self) -> NDArray[np.int64]:
        """The number of steps with a loss in each test, (seeds,)."""
        return np.array([int(np.flatnonzero(~np.isnan(row)).max(initial=-1)) + 1 for row in self.losses])

    def over_seeds(self) -> tuple[Array, Array, Array]:
        """Median, lowest and highest of the running means at each rate, (steps,); a test that has ended counts as inf.

        The median is inf once half of the tests have ended; lowest and highest are over the tests that have not ended.
        """
        means = self.means
        ended = np.isnan(means)
        low = np.where(ended, np.inf, means).min(axis=0)
        high = np.where(ended, -np.inf, means).max(axis=0)
        nobody = ended.all(axis=0)
        low[nobody] = high[nobody] = np.nan
        return np.asarray(np.median(np.where(ended, np.inf, means), axis=0)), low, high

    @property
    def blow_up(self) -> float:
        """The rate at which the loss blows up, median over the tests; inf if it does not."""
        return float(np.median(self.blow_ups))

    @property
    def limit(self) -> float | None:
        """The largest stable rate at the start by theory, the lowest over the tests; None if no test has one."""
        known = self.limits[~np.isnan(self.limits)]
        return float(known.min()) if known.size else None

    @property
    def at_lowest(self) -> float:
        """The rate at which the median of the running means is lowest."""
        return float(self.rates[np.argmin(self.over_seeds()[0])])

    @property
    def suggested(self) -> float | None:
        """The suggested rate for a run with a warm-up of 100 steps; None if no test blew up.

        It is the smaller of a quarter of the lowest rate at which a test blew up, and half of the rate at which the
        median is lowest. If no test blew up, no rate is known to be too large.
        """
        if not np.isfinite(self.blow_ups).any():
            return None
        return min(BLOW_UP_SHARE * float(self.blow_ups.min()), LOWEST_SHARE * self.at_lowest)

    @property
    def suggested_without_warm_up(self) -> float | None:
        """For a run without a warm-up: `suggested`, or the limit at the start if smaller; None if one is unknown."""
        return None if self.limit is None or self.suggested is None else min(self.suggested, self.limit)
