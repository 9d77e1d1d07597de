"""How flat the minima of a comparison are: a table by optimizer, its files, and the figures of the page."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.curvature.kept import Kept
from adai.lab.optimizers import RECIPES
from adai.lab.run import finite, write_json
from adai.lab.stats import spread
from adai.report.comparison import Comparison
from adai.report.dots import dots
from adai.report.picture import Missing, Picture
from adai.report.tables import NONE, Cells, for_terminal, with_title

# Of `adai.lab.curvature.measure.Row`, with the headings.
MEASURES = {
    "loss": "loss",
    "largest": "top eigenvalue",
    "trace": "trace",
    "sam": "SAM sharpness",
    "filter_worst": "filter-normalised sharpness",
}


class Measured(NamedTuple):
    """What ``flatness.json`` of a comparison says.

    Args:
        about: what it was computed with, batch norm's mode among it.
        runs: for each optimizer the numbers of its runs, by seed; None for what was not finite.
    """

    about: dict[str, Any]
    runs: dict[str, dict[int, dict[str, Any]]]

    def values(self, optimizer: str, measure: str) -> list[float]:
        """One number a run, in the order of the seeds, of those that have it."""
        runs = self.runs.get(optimizer, {})
        return [float(value) for seed in sorted(runs) if (value := runs[seed].get(measure)) is not None]


def write(folder: Path, found: Sequence[Kept]) -> Measured:
    """Write ``flatness.csv``, ``.md`` and ``.json`` into a comparison's folder, the last one last.

    Args:
        folder: of the comparison.
        found: its runs, at least one; all computed with the same.
    """
    runs: dict[str, dict[int, dict[str, Any]]] = {}
    for kept in found:
        numbers = kept.row._asdict()
        del numbers["parameters"]
        runs.setdefault(kept.optimizer, {})[kept.seed] = finite(numbers)
    measured = Measured(found[0].about, runs)
    _write_csv(folder / "flatness.csv", measured)
    text = with_title(cells(measured))
    write_whole(folder / "flatness.md", lambda part: part.write_text(text, encoding="utf-8"))
    rows = [{"optimizer": name, "seed": seed, **own} for name, of_it in runs.items() for seed, own in of_it.items()]
    write_json(folder / "flatness.json", {"about": measured.about, "runs": rows})
    return measured


def read(folder: Path) -> Measured | None:
    """What was measured of a comparison; None where nothing was.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / "flatness.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        runs: dict[str, dict[int, dict[str, Any]]] = {}
        for row in content["runs"]:
            runs.setdefault(row["optimizer"], {})[int(row["seed"])] = row
        return Measured(dict(content["about"]), runs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {file} ({error!r}); delete it, and adai curvature makes it anew") from error


def _write_csv(path: Path, measured: Measured) -> None:
    """Every number in full; the deviation of a single seed stays empty."""
    about = measured.about

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            means = [f"{key}_{what}" for key in MEASURES for what in ("mean", "sd")]
            writer.writerow(["optimizer", "seeds", *means, "batch_norm", "samples"])
            for name, runs in measured.runs.items():
                numbers = [x for key in MEASURES for x in spread(measured.values(name, key))]
                shown = ["" if math.isnan(x) else x for x in numbers]
                writer.writerow([name, len(runs), *shown, about["batch_norm"], about["samples"]])

    write_whole(path, write)


def cells(measured: Measured) -> Cells:
    """The table as people read it, a row an optimizer in the order they were asked for."""
    about = measured.about
    title = (
        "flatness after the last epoch, mean ± standard deviation over seeds; less is flatter. "
        f"Batch norm: {about['batch_norm']}; {about['samples']} training samples"
    )
    rows = [
        [_label(name), str(len(runs)), *(_cell(measured.values(name, key)) for key in MEASURES)]
        for name, runs in measured.runs.items()
    ]
    return Cells(title, ["optimizer", "seeds", *MEASURES.values()], rows)


def as_table(measured: Measured) -> Table:
    """The table for the terminal: a column an optimizer."""
    table = cells(measured)
    headings, *rows = map(list, zip(table.headings, *table.rows, strict=True))
    names = ["", *headings[1:]]
    return for_terminal(Cells(table.title, names, rows), wrapped=names)


def _label(name: str) -> str:
    return RECIPES[name].label if name in RECIPES else name


def _cell(values: list[float]) -> str:
    mean, sd = spread(values)
    if not values:
        return NONE
    return f"{mean:.3g}" + (f" ± {sd:.2g}" if math.isfinite(sd) else "")


def pictures(comparison: Comparison, measured: Measured) -> list[Picture | Missing]:
    """Each measure as a mark a run, on a line for each optimizer."""
    return [
        dots(
            f"flatness-{key.replace('_', '-')}",
            name,
            "nats" if key in ("sam", "filter_worst") else "",
            [(entrant, measured.values(entrant.name, key)) for entrant in comparison.entrants],
        )
        for key, name in MEASURES.items()
        if key != "loss"
    ]


def unmeasured(comparison: Comparison, measured: Measured) -> int:
    """How many finished runs were not measured."""
    return sum(run.seed not in measured.runs.get(e.name, {}) for e in comparison.entrants for run in e.finished)
