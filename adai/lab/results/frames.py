"""A comparison as pandas tables."""

import pandas as pd

from adai.lab.results.comparison import Comparison
from adai.lab.results.stats import spread
from adai.lab.results.summary import Summary


def runs(comparison: Comparison) -> pd.DataFrame:
    """A row for each run and epoch, with all recorded columns."""
    return pd.DataFrame(
        [
            {"optimizer": entrant.name, "seed": run.seed, "status": run.status, **row}
            for entrant in comparison.entrants
            for run in entrant.runs
            for row in run.rows
        ]
    )


def measurements(comparison: Comparison, measure: str) -> pd.DataFrame:
    """A row for each measurement of a measure."""
    return pd.DataFrame(
        [
            {"optimizer": entrant.name, "seed": run.seed, "epoch": one.epoch, **one.numbers}
            for entrant in comparison.entrants
            for run in entrant.runs
            for one in run.measured(measure)
        ]
    )


def summary(found: Summary) -> pd.DataFrame:
    """A row for each optimizer, the best mean first. Differences are to the reference."""
    rows = []
    for row in found.rows:
        last, best = spread([*row.last.values()]), spread([*row.best.values()])
        difference = row.difference
        rows.append(
            {
                "optimizer": row.optimizer,
                "label": row.label,
                "runs": row.planned,
                "finished": row.finished,
                "measure": found.measure.column,
                "last": last.mean,
                "last_sd": last.sd,
                "best": best.mean,
                "best_sd": best.sd,
                "difference": difference.mean if difference else None,
                "difference_low": difference.low if difference else None,
                "difference_high": difference.high if difference else None,
                "difference_shown": difference.shown if difference else None,
                "train_loss": spread(row.train_losses).mean,
                "ms_per_step": row.ms_per_step,
                "state_bytes": row.state_bytes,
                "peak_bytes": row.peak_bytes,
            }
        )
    return pd.DataFrame(rows).set_index("optimizer")
