"""Learning-rate sensitivity: a comparison in which each optimizer's own learning rate is multiplied by several factors.

Each factor has a comparison of its own (`adai.lab.results.folders.folder_at`). Optimizers are compared at their best
rates. The best rate has the largest share of runs that have ended; among these, the smallest share of runs that died;
among these, the best mean over the finished runs.
"""

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from adai.lab.results.comparison import Comparison, Entrant, read
from adai.lab.results.folders import factors_in, folder_at
from adai.lab.results.summary import Measure, measure_of


class Tried(NamedTuple):
    """The runs of an optimizer at one rate.

    Args:
        values: the measure after the last epoch, for each finished run.
        ends: the status of each run that died.
        planned: the number of runs that were asked for.
    """

    values: list[float]
    ends: list[str]
    planned: int

    @property
    def ended(self) -> float:
        """The share of the runs that have ended."""
        return (len(self.values) + len(self.ends)) / self.planned if self.planned else 0.0

    @property
    def deaths(self) -> float:
        """The share of the ended runs that died."""
        return len(self.ends) / max(1, len(self.values) + len(self.ends))

    @property
    def died(self) -> str:
        """``2 of 3 died``; empty if none did."""
        return f"{len(self.ends)} of {self.planned} died" if self.ends else ""


class Best(NamedTuple):
    """An optimizer's best rate.

    Args:
        factor: the factor on its own learning rate; 1 if no run has finished.
        lr: the rate itself; None if it was not recorded.
        edge: ``lowest`` or ``highest`` if it is the lowest or highest rate that was tried, so that a better one may lie
            beyond; else empty.
    """

    factor: float
    lr: float | None
    edge: str


class Grid(NamedTuple):
    """The comparison at every factor.

    Args:
        at: the comparisons by factor, in increasing order; the one at 1 is the comparison itself.
        measure: the measure by which optimizers are compared.
    """

    at: dict[float, Comparison]
    measure: Measure

    @property
    def optimizers(self) -> list[str]:
        """The names of the optimizers, in the order in which they were given."""
        return [entrant.name for entrant in self.at[1.0].entrants]

    def entrants(self, optimizer: str) -> dict[float, Entrant]:
        """An optimizer with its runs, by factor."""
        return {f: e for f, comparison in self.at.items() for e in comparison.entrants if e.name == optimizer}

    def tried(self, optimizer: str) -> dict[float, Tried]:
        """The numbers of an optimizer, by factor."""
        found = {}
        for factor, entrant in self.entrants(optimizer).items():
            last = [float(run.column(self.measure.column)[-1]) for run in entrant.finished]
            ends = [run.status for run in entrant.runs if run.died]
            found[factor] = Tried([x for x in last if np.isfinite(x)], [*ends], len(entrant.runs))
        return found

    def best(self, optimizer: str) -> Best:
        """The optimizer's best rate."""
        tried = self.tried(optimizer)
        most = max(t.ended for t in tried.values())
        ended = {f: t for f, t in tried.items() if t.values and t.ended == most}
        if not ended:
            return Best(1.0, self._lr(optimizer, 1.0), "")
        sign = 1 if self.measure.lower_is_better else -1
        factor = min(ended, key=lambda f: (ended[f].deaths, sign * fmean(ended[f].values)))
        ends = {min(tried): "lowest", max(tried): "highest"} if len(tried) > 1 else {}
        return Best(factor, self._lr(optimizer, factor), ends.get(factor, ""))

    def _lr(self, optimizer: str, factor: float) -> float | None:
        return self.entrants(optimizer)[factor].options.get("lr")

    def at_best(self) -> Comparison:
        """The comparison with every optimizer at its best rate; its ``config`` says so, which changes the verdict."""
        base = self.at[1.0]
        best = {name: self.best(name) for name in self.optimizers}
        chosen = {"lr_grid": list(self.at), "best": {name: list(own) for name, own in best.items()}}
        entrants = [self.entrants(name)[own.factor] for name, own in best.items()]
        return replace(base, entrants=entrants, config={**base.config, **chosen})


def read_grid(comparison: Comparison) -> Grid | None:
    """The comparison at all its rates; None if it has only one.

    Raises:
        UserError: a file is damaged.
    """
    at = {f: comparison if f == 1 else read(folder_at(comparison.path, f)) for f in factors_in(comparison.path)}
    return Grid(at, measure_of(*at.values())) if len(at) > 1 else None


def load(folder: Path | str) -> Comparison:
    """Read a comparison of `adai compare` or `adai.lab.compare`.

    If it ran at several learning rates, each optimizer has its best one.

    Args:
        folder: the folder of the comparison.

    Raises:
        UserError: the folder holds no comparison, or a file in it is damaged.

    Example:
        >>> from adai.lab import load
        >>> load("results/digits-flatness").to_frame().groupby("optimizer").seed.nunique().to_dict()
        {'adai': 10, 'adam': 10, 'sgd': 10}
    """
    comparison = read(Path(folder))
    grid = read_grid(comparison)
    return grid.at_best() if grid else comparison
