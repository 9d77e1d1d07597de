"""How often a 95 % interval of a paired difference holds, by simulation: that of the report, and other candidates.

    python benchmarks/intervals.py [--comparisons 1000] [--out FILE]

Two equal optimizers: both errors of a seed are drawn from the same law, so the mean difference is 0 and its law is
symmetric, whatever the law of the errors. Two unlike optimizers: the difference is drawn from a skewed law with mean 0.
The script prints the share of simulated comparisons, in percent, whose interval contains 0. For the whole sentence,
with four rivals compared with one reference, it prints the share in which all four intervals do.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import DegenerateDataWarning, bootstrap

from adai.files import write_whole
from adai.lab.results.stats import paired_difference

Array = NDArray[np.float64]
SEEDS = (3, 5, 10, 20)
RIVALS = 4


def _outliers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.normal(size=shape) * np.where(rng.random(shape) < 0.1, 5, 1))


# Test errors of one optimizer over seeds. "Rounded": the standard deviation is one test image.
EQUAL: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "Gaussian": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape),
    "a tenth with 5 times the spread": _outliers,
    "Gaussian, rounded to sd 1": lambda rng, shape: np.round(rng.normal(10.3, 1, size=shape)),
}
UNLIKE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "exponential difference": lambda rng, shape: rng.exponential(size=shape) - 1,
    "log-normal difference": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
}


def resampled(differences: Array, method: Literal["percentile", "BCa"]) -> float:
    """Share of rows (comparisons, seeds) whose bootstrap interval of the mean contains 0."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # rows of one number, which count as below
        low, high = bootstrap(
            (differences,), np.mean, axis=1, n_resamples=999, batch=100, method=method, rng=np.random.default_rng(1)
        ).confidence_interval
    exact = np.ptp(differences, axis=1) == 0  # scipy gives nan there
    held = np.where(exact, differences[:, 0] == 0, (low <= 0) & (high >= 0))
    return float(held.mean())


def shipped(a: Array, b: Array) -> float:
    """The share for `adai.lab.results.stats.paired_difference`: a (comparisons, rivals, n), b (comparisons, 1, n)."""
    held = 0
    for rivals, reference in zip(a, b, strict=True):
        gaps = [paired_difference(x, reference[0], comparisons=len(rivals)) for x in rivals]
        held += not any(gap.shown for gap in gaps)
    return held / len(a)


def table(comparisons: int) -> str:
    """The whole table as Markdown."""
    lines = [
        f"| {comparisons} comparisons, in percent | seeds | percentile | BCa | shipped | sentence of {RIVALS} |",
        "|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    for name, law in EQUAL.items():
        for n in SEEDS:
            a, b = law(rng, (comparisons, RIVALS, n)), law(rng, (comparisons, 1, n))
            d = a[:, 0] - b[:, 0]
            shares = (resampled(d, "percentile"), resampled(d, "BCa"), shipped(a[:, :1], b), shipped(a, b))
            lines.append(f"| equal: {name} | {n} | " + " | ".join(f"{100 * x:.1f}" for x in shares) + " |")
    for name, law in UNLIKE.items():
        for n in SEEDS:
            d = law(rng, (comparisons, n))
            alone = shipped(d[:, None], np.zeros_like(d)[:, None])
            text = " | ".join(f"{100 * x:.1f}" for x in (resampled(d, "percentile"), resampled(d, "BCa"), alone))
            lines.append(f"| unlike: {name} | {n} | {text} | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="How often the interval of a paired difference holds.")
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    text = table(options.comparisons)
    print(text, end="")
    if options.out:
        write_whole(options.out, lambda part: part.write_text(text))
