"""How flat the minima of a comparison are: a table by optimizer, its files, what it says, and figures."""

import csv
import math
from pathlib import Path

import numpy as np

from adai.files import write_whole
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.run import write_json
from adai.lab.results.stats import MIN_SEEDS, Difference, paired_difference, spread
from adai.report import chosen
from adai.report.axes import log_where_it_helps
from adai.report.comparison import Comparison, Flatness, median
from adai.report.dots import dots
from adai.report.fitting import Fitting
from adai.report.panels import add_legend
from adai.report.picture import Missing, Picture, one_axes, short, with_unit
from adai.report.style import style
from adai.report.summary import joined, seeds_of
from adai.report.tables import Cells, for_terminal, significant, with_title

# Of `adai.lab.measure.curvature.measure.Row`, with the headings.
MEASURES = {
    "loss": "loss",
    "largest": "top eigenvalue",
    "trace": "trace",
    "sam": "SAM sharpness",
    "filter_worst": "filter-normalised sharpness",
}


def write(folder: Path, measured: Flatness) -> list[Path]:
    """Write ``flatness.csv``, ``.md``, ``.json``, or ``equal-loss.…``, into a comparison's folder; returns them."""
    table, readable, numbers = files = [folder / f"{_stem(measured)}.{kind}" for kind in ("csv", "md", "json")]
    _write_csv(table, measured)
    text = with_title(cells(measured))
    write_whole(readable, lambda part: part.write_text(text, encoding="utf-8"))
    rows = [
        {"optimizer": name, "seed": seed, **own} for name, of_it in measured.runs.items() for seed, own in of_it.items()
    ]
    write_json(numbers, {"about": measured.about, "at_loss": measured.at_loss, "runs": rows})
    return files


def _stem(measured: Flatness) -> str:
    return "flatness" if measured.at_loss is None else "equal-loss"


def _write_csv(path: Path, measured: Flatness) -> None:
    """Every number in full; the deviation of a single seed stays empty."""
    about = measured.about

    def write(part: Path) -> None:
        with part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            means = [f"{key}_{what}" for key in MEASURES for what in ("mean", "sd", "seeds")]
            writer.writerow(["optimizer", "seeds", *means, "batch_norm", "samples"])
            for name, runs in measured.runs.items():
                columns = [[*measured.values(name, key).values()] for key in MEASURES]
                numbers = [x for column in columns for x in (*spread(column), len(column))]
                shown = ["" if math.isnan(x) else x for x in numbers]
                writer.writerow([name, len(runs), *shown, about["batch_norm"], about["samples"]])

    write_whole(path, write)


def cells(measured: Flatness) -> Cells:
    """The table as people read it, a row an optimizer in the order they were asked for."""
    about = measured.about
    where = (
        "after the last epoch" if measured.at_loss is None else f"at a loss of {_of_loss(measured.at_loss, measured)}"
    )
    title = (
        f"flatness {where}, mean ± standard deviation over seeds; less is flatter. "
        f"Batch norm: {about['batch_norm']}; {about['samples']} training samples"
    )
    rows = [
        [_label(name), str(len(runs)), *(_cell([*measured.values(name, key).values()], len(runs)) for key in MEASURES)]
        for name, runs in measured.runs.items()
    ]
    return Cells(title, ["optimizer", "seeds", *MEASURES.values()], rows)


def _cell(values: list[float], seeds: int) -> str:
    """Mean and deviation, and of how many seeds where some have no finite number."""
    return significant(values) + (f" ({len(values)} of {seeds})" if len(values) < seeds else "")


def as_table(measured: Flatness) -> Fitting:
    """The table for the terminal: a column an optimizer."""
    table = cells(measured)
    narrow = [heading.replace("-", "-\n") for heading in table.headings]
    headings, *rows = map(list, zip(narrow, *table.rows, strict=True))
    names = ["", *headings[1:]]
    return for_terminal(Cells(table.title, names, rows))


def _label(name: str) -> str:
    return RECIPES[name].label if name in RECIPES else name


def verdicts(comparison: Comparison, measured: Flatness, reference: str) -> list[str]:
    """What runs say of flatness at equal loss, by top eigenvalue and by filter-normalised sharpness; or nothing.

    One of the two alone would be a choice of what to show: they need not agree, and only the second stays the same when
    layers are rescaled. Runs at different losses are not compared: curvature shrinks as the loss does.

    Args:
        comparison: the runs.
        measured: what they were found to be at one loss.
        reference: the optimizer that the others are compared with.

    Raises:
        ValueError: the losses are not equal.
    """
    if measured.at_loss is None:
        raise ValueError("flatness is compared at equal loss alone, but these runs are after their last epochs")
    said = [_sentence(comparison, measured, reference, key) for key in ("largest", "filter_worst")]
    if not all(said):
        return []
    where = f"{chosen.how(comparison)} and at equal loss, {_of_loss(measured.at_loss, measured)},"
    return [f"{where} {said[0]}", f"There {said[1]}"]


def not_compared(measured: Flatness) -> str:
    """Why the flatness after the last epoch makes no verdict; empty where nothing was measured."""
    losses = [spread([*measured.values(name, "loss").values()]).mean for name in measured.runs]
    known = [loss for loss in losses if math.isfinite(loss)]
    if not known:
        return ""
    return (
        f"Flatness after the last epoch is not compared: the mean losses are {_plain(min(known))} to "
        f"{_plain(max(known))}, and curvature shrinks as the loss does. adai compare --flatness N measures along "
        "training and compares at equal loss."
    )


def _sentence(comparison: Comparison, measured: Flatness, reference: str, key: str) -> str:
    """How many times the reference's number each rival's is, with intervals.

    They are those of `paired_difference` between logarithms. Empty where no rival shares `MIN_SEEDS` seeds with the
    reference.
    """
    logs = {
        entrant.name: {s: math.log(x) for s, x in measured.values(entrant.name, key).items() if x > 0}
        for entrant in comparison.entrants
    }
    ours = logs.pop(reference, {})
    shared = {name: sorted(own.keys() & ours.keys()) for name, own in logs.items()}
    shared = {name: seeds for name, seeds in shared.items() if len(seeds) >= MIN_SEEDS}
    if not shared:
        return ""
    gaps = {
        name: paired_difference([logs[name][s] for s in seeds], [ours[s] for s in seeds], comparisons=len(shared))
        for name, seeds in shared.items()
    }
    intervals = "95 % interval" if len(gaps) == 1 else "95 % intervals that hold together"
    return f"{_compared(gaps, reference, key)} ({seeds_of([*gaps.values()])}, {intervals})."


def _compared(gaps: dict[str, Difference], reference: str, key: str) -> str:
    """Which rivals differ by what factor, and which do not."""
    what = f"{MEASURES[key]} of H" if key == "largest" else MEASURES[key]
    us = _label(reference)
    differ = [f"{_times(math.exp(g.mean))} times with {_label(n)} ({_range(g)})" for n, g in gaps.items() if g.shown]
    equal = joined([f"{_label(n)} ({_range(g)} times)" for n, g in gaps.items() if not g.shown])
    if not differ:
        return f"no difference is shown in the {what} between {us} and {equal}"
    differ[0] = differ[0].replace("times", f"times {us}’s", 1)
    return f"the {what} is {joined(differ)}" + (f", and no difference is shown to {equal}" if equal else "")


def left_out(comparison: Comparison, measured: Flatness) -> str:
    """How many finished runs were not measured, or in another way than most; empty where all were."""
    number = sum(run.seed not in measured.runs.get(e.name, {}) for e in comparison.entrants for run in e.finished)
    return f"{number} finished {'run is' if number == 1 else 'runs are'} not in it" if number else ""


def _range(gap: Difference) -> str:
    return f"{_times(math.exp(gap.low))} to {_times(math.exp(gap.high))}"


def _times(x: float) -> str:
    """A ratio; near 1 with a digit more, so that it can be told from 1."""
    return f"{x:.3g}" if 0.5 < x < 2 else _plain(x)


def _of_loss(loss: float, measured: Flatness) -> str:
    return f"{_plain(loss)} {measured.unit}".rstrip()


def _plain(x: float) -> str:
    return f"{x:.0f}" if x >= 99.5 else f"{x:.2g}"


def pictures(comparison: Comparison, measured: Flatness) -> list[Picture | Missing]:
    """The top eigenvalue against the loss, and the other measures as a mark a run on a line for each optimizer."""
    others = [
        dots(
            f"flatness-{key.replace('_', '-')}",
            name,
            measured.unit if key in ("sam", "filter_worst") else "",
            [(entrant, [*measured.values(entrant.name, key).values()]) for entrant in comparison.entrants],
            factors=True,
        )
        for key, name in MEASURES.items()
        if key not in ("loss", "largest")
    ]
    return [_against_loss(comparison, measured), *others]


def _against_loss(comparison: Comparison, measured: Flatness) -> Picture:
    """Marks on one rising line say that the loss alone makes the difference."""
    figure, ax = one_axes()
    said, drawn = [], []
    for entrant in comparison.entrants:
        look = style(entrant.name, comparison.names)
        loss, largest = (measured.values(entrant.name, key) for key in ("loss", "largest"))
        x, y = (np.array([column[seed] for seed in loss.keys() & largest.keys()]) for column in (loss, largest))
        if x.size:
            ax.scatter(x, y, s=36, marker=look.marker, color=look.light, alpha=0.8, linewidths=0, clip_on=False)
            drawn.append((x, y))
            said.append(f"{entrant.label} {short(median(y))} at {short(median(x))} {measured.unit}".rstrip())
    for axis, values in zip("xy", zip(*drawn, strict=True), strict=False):
        log_where_it_helps(ax, axis, values)
    ax.set(xlabel=with_unit("loss on the samples", measured.unit), ylabel=MEASURES["largest"])
    add_legend(figure, comparison, lines=False)
    description = (
        f"Medians: {'; '.join(said)}. A mark a run; along one rising line the loss alone makes the difference."
    )
    return Picture("flatness-largest", "Top eigenvalue against the loss", description, figure)
