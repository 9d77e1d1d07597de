"""Learning-rate sensitivity: a comparison at several factors on each optimizer's own learning rate.

Each factor is a comparison of its own (`adai.lab.results.folders.folder_at`). Optimizers are compared at their best
rates. The best rate is chosen in this order: the largest share of runs that have ended, the smallest share that died,
the lowest mean over the runs that finished.
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
    """An optimizer at one rate.

    Args:
        values: what decides, of the runs that finished.
        ends: what became of those that died.
        planned: how many there were to be.
    """

    values: list[float]
    ends: list[str]
    planned: int

    @property
    def ended(self) -> float:
        """The share of the runs that are over."""
        return (len(self.values) + len(self.ends)) / self.planned if self.planned else 0.0

    @property
    def deaths(self) -> float:
        """The share of those that are over which died."""
        return len(self.ends) / max(1, len(self.values) + len(self.ends))

    @property
    def died(self) -> str:
        """``2 of 3 died``; empty where none did."""
        return f"{len(self.ends)} of {self.planned} died" if self.ends else ""


class Best(NamedTuple):
    """An optimizer's best rate.

    Args:
        factor: on its own learning rate; 1 where no run has finished.
        lr: the rate itself; None where it was not recorded.
        edge: ``lowest`` or ``highest`` where it is that of its rates, so that a better one may lie beyond; else empty.
    """

    factor: float
    lr: float | None
    edge: str


class Grid(NamedTuple):
    """The comparison at every factor, from the lowest on.

    Args:
        at: by factor; that at 1 is the comparison itself.
        measure: what decides.
    """

    at: dict[float, Comparison]
    measure: Measure

    @property
    def optimizers(self) -> list[str]:
        """In the order they were asked for."""
        return [entrant.name for entrant in self.at[1.0].entrants]

    def entrants(self, optimizer: str) -> dict[float, Entrant]:
        """An optimizer at every factor that it is to run at."""
        return {f: e for f, comparison in self.at.items() for e in comparison.entrants if e.name == optimizer}

    def tried(self, optimizer: str) -> dict[float, Tried]:
        """The same as numbers."""
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
        """The comparison with every optimizer at its best rate; its settings say so, and the verdict by them."""
        base = self.at[1.0]
        best = {name: self.best(name) for name in self.optimizers}
        chosen = {"lr_grid": list(self.at), "best": {name: list(own) for name, own in best.items()}}
        entrants = [self.entrants(name)[own.factor] for name, own in best.items()]
        return replace(base, entrants=entrants, config={**base.config, **chosen})


def read_grid(comparison: Comparison) -> Grid | None:
    """The comparison at other rates, with itself; None where it has been asked for at its own alone.

    Raises:
        UserError: a file is damaged.
    """
    at = {f: comparison if f == 1 else read(folder_at(comparison.path, f)) for f in factors_in(comparison.path)}
    return Grid(at, measure_of(*at.values())) if len(at) > 1 else None


def load(folder: Path | str) -> Comparison:
    """Read a comparison that `adai compare` or `adai.lab.compare` has made; at its best rates, if there are several.

    Args:
        folder: of the comparison.

    Raises:
        UserError: it holds none, or a file in it is damaged.

    Example:
        >>> from adai.lab import load
        >>> load("results/digits-flatness").to_frame().groupby("optimizer").seed.nunique().to_dict()
        {'adai': 10, 'adam': 10, 'sgd': 10}
    """
    comparison = read(Path(folder))
    grid = read_grid(comparison)
    return grid.at_best() if grid else comparison
