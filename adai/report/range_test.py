"""A learning-rate range test as lines for the terminal, files and a figure."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from adai.files import write_whole
from adai.lab.measure.range_test.result import WARM_UP, RangeTest
from adai.lab.results.words import short
from adai.report.picture import RC
from adai.report.rows import write_csv, write_json


class Row(NamedTuple):
    """One step of one test: the loss of its minibatch, and the running mean of the losses up to it."""

    test: int
    step: int
    lr: float
    loss: float
    mean_loss: float


def rows(test: RangeTest) -> list[Row]:
    """All steps, test by test, up to the end of each."""
    return [
        Row(number, step, float(test.rates[step]), float(loss), float(mean))
        for number, (losses, means) in enumerate(zip(test.losses, test.means, strict=True))
        for step, (loss, mean) in enumerate(zip(losses[: test.ends[number]], means, strict=False))
    ]


def lines(test: RangeTest, subject: str, *, default: float | None = None) -> list[str]:
    """The result for the terminal; ``default`` is the rate of the optimizer's recipe."""
    seeds = f"{test.seeds} seeds" if test.seeds > 1 else "1 seed"
    low, high = test.rates[0], test.rates[-1]
    said = [f"{subject}: rates from {low:g} to {high:g} in {len(test.rates)} steps, {seeds}."]
    if test.suggested is None:
        return [*said, f"No blow-up up to {high:g}, so no rate is known to be too large; give a larger `highest`."]
    said.append(f"The loss blows up at {_over(test.blow_ups)}.")
    if test.limit is not None:
        said.append(f"Largest stable rate at the start, by theory: {_over(test.limits)}.")
    cold = test.suggested_without_warm_up
    recipe = f" The recipe has {default:g}." if default is not None else ""
    without = "" if cold is None else f", {short(cold)} without"
    said.append(f"Suggested lr: {short(test.suggested)} with a warm-up of {WARM_UP} steps{without}.{recipe}")
    said.append(
        "The rates of this test rise over many steps, which is itself a warm-up: its result is for a run with one. "
        + (
            "Without a warm-up the limit at the start applies."
            if cold is not None
            else "Without a warm-up use a smaller rate: no limit at the start is known for this optimizer."
        )
    )
    return said


def _over(values: NDArray[np.float64]) -> str:
    """The median, and the lowest and the highest if they differ."""
    low, middle, high = ("no rate tried" if value == math.inf else short(float(value))
                         for value in (values.min(), np.median(values), values.max()))  # fmt: skip
    return middle if low == high else f"{middle} (over the seeds {low} to {high})"


def write(folder: Path, test: RangeTest, about: Mapping[str, Any]) -> None:
    """Write lr.csv and lr.json into the folder."""
    table = rows(test)
    found = {
        "suggested": finite(test.suggested),
        "suggested_without_warm_up": finite(test.suggested_without_warm_up),
        "blow_ups": [finite(value) for value in test.blow_ups],
        "limits": [finite(value) for value in test.limits],
    }
    write_csv(folder / "lr.csv", table)
    write_json(folder / "lr.json", table, {"about": about, **found})


def finite(value: float | None) -> float | None:
    """The number as JSON stores it: None if it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def draw(path: Path, test: RangeTest, subject: str) -> None:
    """Draw the running mean of the loss against the rate: median and band of the seeds, with lines for the results."""
    with rc_context(RC):
        figure = Figure(figsize=(7.5, 4.5), layout="constrained")
        ax = figure.subplots()
        median, low, high = test.over_seeds()
        there = np.isfinite(median)
        ax.fill_between(test.rates, low, high, where=list(there), color="C0", alpha=0.2, linewidth=0)
        ax.plot(test.rates[there], median[there], color="C0", label="loss, median; band: lowest to highest")
        marks = (
            (test.suggested, "C2", "-", f"suggested with a warm-up of {WARM_UP} steps"),
            (test.suggested_without_warm_up, "C2", "--", "suggested without a warm-up"),
            (test.limit, "C1", ":", "largest stable rate at the start, by theory"),
            (test.blow_up, "C3", "-.", "the loss blows up"),
        )
        for value, color, style, text in marks:
            if value is not None and math.isfinite(value):
                ax.axvline(value, color=color, linestyle=style, label=f"{text}: {short(value)}")
        start = float(np.nanmedian(test.losses[:, 0]))
        bottom = float(np.nanmin(low[there])) if there.any() else 0.0
        if bottom > 0:
            ax.set_yscale("log")
        if math.isfinite(start) and start > bottom:
            ax.set_ylim(bottom / 1.3 if bottom > 0 else bottom, start * 2 if start > 0 else None)
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss, running mean", title=subject)
        figure.legend(loc="outside lower center", ncols=1)
        write_whole(path, lambda part: figure.savefig(part, dpi=150))
