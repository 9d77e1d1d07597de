"""Gradient noise as a table, files and Figure 6."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Group
from scipy.stats import norm

from adai.files import write_whole
from adai.lab.measure.noise.measure import Law, NoiseLaws
from adai.lab.measure.noise.sampling import Noise
from adai.lab.measure.noise.stable import Stable
from adai.report.axes import plain
from adai.report.rows import write_csv, write_json
from adai.report.tables import side_by_side
from adai.report.text import drawn

Array = NDArray[np.float64]
Measured = tuple[Noise, NoiseLaws]


class Row(NamedTuple):
    """The noise at one set of parameters; see `adai.lab.measure.noise.measure`.

    ``across_parameters_…`` treats one minibatch's noise as draws from one law. ``across_minibatches_…`` is the median
    over the parameters followed, with the 5 % and 95 % quantiles of the stable α. ``…_rejected`` is the share of
    parameters rejected at 5 %, ``…_gaussian`` the share for exact Gaussians.
    """

    parameters: str
    B: int
    minibatches: int
    across_parameters_stable_alpha: float
    across_parameters_mohammadi: float
    across_parameters_hill: float
    across_parameters_kurtosis: float
    across_minibatches_stable_alpha: float
    across_minibatches_stable_alpha_5: float
    across_minibatches_stable_alpha_95: float
    across_minibatches_mohammadi: float
    across_minibatches_hill: float
    across_minibatches_kurtosis: float
    tested: int
    still: int
    sparse: int
    anderson_darling_rejected: float
    anderson_darling_gaussian: float
    kolmogorov_smirnov_rejected: float
    kolmogorov_smirnov_gaussian: float
    noise_scale: float
    noise_scale_low: float
    noise_scale_high: float
    signal_to_noise: float
    parameter_signal_to_noise: float


class Followed(NamedTuple):
    """One parameter across minibatches."""

    parameters: str
    number: int
    gradient: float
    sd: float
    stable_alpha: float
    mohammadi: float
    hill: float
    kurtosis: float


def row(name: str, noise: Noise, laws: NoiseLaws) -> Row:
    """The table's row of one set of parameters."""
    many = list(laws.minibatches.values())
    alphas = [law.stable.alpha for law in many]
    anderson, kolmogorov = laws.tests
    alpha_5, alpha, alpha_95 = (float(np.quantile(alphas, q)) for q in (0.05, 0.5, 0.95))
    _, mohammadi, hill, kurtosis = (float(x) for x in np.median([_indices(law) for law in many], axis=0))
    return Row(
        name,
        noise.B,
        len(noise.squares),
        *_indices(laws.parameters),
        alpha,
        alpha_5,
        alpha_95,
        mohammadi,
        hill,
        kurtosis,
        anderson.parameters,
        laws.still,
        laws.sparse,
        anderson.share,
        anderson.gaussian.value,
        kolmogorov.share,
        kolmogorov.gaussian.value,
        *laws.scale.simple,
        laws.scale.ratio,
        laws.scale.parameter_ratio,
    )


def _indices(law: Law) -> tuple[float, float, float, float]:
    return law.stable.alpha, law.mohammadi, law.hill.alpha, law.kurtosis


def followed(name: str, noise: Noise, laws: NoiseLaws) -> list[Followed]:
    """A row for each parameter to which a law was fitted."""
    return [
        Followed(
            name,
            int(noise.parameters[j]),
            float(noise.gradient[j]),
            float(noise.across_minibatches[:, j].std(ddof=1)),
            *_indices(law),
        )
        for j, law in laws.minibatches.items()
    ]


def as_table(table: list[Row]) -> Group:
    """The table for the terminal, with a column for each set of parameters."""
    lines: list[tuple[str, Callable[[Row], str]]] = [
        ("across parameters: stable α", lambda r: f"{r.across_parameters_stable_alpha:.2f}"),
        ("  Mohammadi's α", lambda r: f"{r.across_parameters_mohammadi:.2f}"),
        ("  Hill's α", lambda r: f"{r.across_parameters_hill:.2f}"),
        (
            "across minibatches: stable α",
            lambda r: (
                f"{r.across_minibatches_stable_alpha:.2f} ({r.across_minibatches_stable_alpha_5:.2f} to "
                f"{r.across_minibatches_stable_alpha_95:.2f})"
            ),
        ),
        ("  Mohammadi's α", lambda r: f"{r.across_minibatches_mohammadi:.2f}"),
        ("  Hill's α", lambda r: f"{r.across_minibatches_hill:.2f}"),
        (
            "Anderson-Darling rejects",
            lambda r: f"{r.anderson_darling_rejected:.1%} (Gaussian {r.anderson_darling_gaussian:.1%})",
        ),
        (
            "Kolmogorov-Smirnov rejects",
            lambda r: f"{r.kolmogorov_smirnov_rejected:.1%} (Gaussian {r.kolmogorov_smirnov_gaussian:.1%})",
        ),
        (
            "noise scale (samples)",
            lambda r: f"{r.noise_scale:.4g} ({r.noise_scale_low:.4g} to {r.noise_scale_high:.4g})",
        ),
        ("signal to noise", lambda r: f"{r.signal_to_noise:.3g}"),
    ]
    cells = [(label, [*map(cell, table)]) for label, cell in lines]
    title = "gradient noise: one minibatch across parameters, and parameters across minibatches"
    return side_by_side(title, [entry.parameters for entry in table], cells, each=2)


def sentence(row: Row) -> str:
    """Says whether noise is Gaussian across minibatches, by Anderson and Darling's test, and α across parameters."""
    share, gaussian = row.anderson_darling_rejected, row.anderson_darling_gaussian
    chance = gaussian + 2 * (gaussian * (1 - gaussian) / row.tested) ** 0.5
    if share <= chance:
        said = "is Gaussian as far as the test can tell"
    elif share < 0.5:
        said = "is not Gaussian for some parameters"
    else:
        said = "is not Gaussian for most parameters"
    return (
        f"{row.parameters}: across minibatches the noise {said}: Anderson-Darling rejects {share:.1%} of {row.tested} "
        f"parameters, and {gaussian:.1%} of Gaussians. One minibatch across parameters has a stable α of "
        f"{row.across_parameters_stable_alpha:.2f}; a Gaussian has 2."
    ).replace("%", " %")


def write(folder: Path, results: Mapping[str, Measured], about: Mapping[str, Any]) -> list[Row]:
    """Write noise.csv, noise.json and parameters.csv into the folder; returns the table."""
    table = [row(name, *measured) for name, measured in results.items()]
    write_csv(folder / "noise.csv", table)
    write_csv(folder / "parameters.csv", [f for name, measured in results.items() for f in followed(name, *measured)])
    write_json(folder / "noise.json", table, {"about": about})
    return table


def write_figures(folder: Path, results: Mapping[str, Measured], *, first: int = 1) -> None:
    """Draw figure6.png and tails.png for the first set of parameters, and with its number for the others.

    Args:
        folder: the folder of the figures.
        results: the measurements by the name of the parameters.
        first: the number of the first of them.
    """
    for number, (name, (noise, laws)) in enumerate(results.items(), start=first):
        which = "" if number == 1 else f"-{number}"
        draw(folder / f"figure6{which}.png", name, noise, laws)
        draw_tails(folder / f"tails{which}.png", name, laws)


def draw(path: Path, name: str, noise: Noise, laws: NoiseLaws) -> None:
    """Draw Figure 6: sizes of the noise, measured on the left, drawn from a named law on the right; lines are fits."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2, sharex="row", sharey="row")
    across = noise.across_parameters[noise.across_parameters != 0]
    column = noise.across_minibatches[:, laws.typical]
    one, many = laws.parameters.stable, laws.minibatches[laws.typical].stable
    count = len(column)
    gaussian = np.random.default_rng(0).normal(column.mean(), column.std(ddof=1), count)
    _pair(a, b, across, one.draw(len(across)), one)
    _pair(c, d, column, gaussian, many)
    a.set_title(f"(a) one minibatch across {len(across):,} parameters", fontsize=10)
    b.set_title(f"(b) Lévy noise, α = {one.alpha:.2f}", fontsize=10)
    c.set_title(f"(c) parameter {noise.parameters[laws.typical]} across {count:,} minibatches", fontsize=10)
    d.set_title("(d) Gaussian noise", fontsize=10)
    for ax in (c, d):
        ax.set_xlabel("size of the noise")
    for ax in (a, c):
        ax.set_ylabel("density")
        ax.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Gradient noise, {drawn(name)}, minibatches of {noise.B}", fontsize=11)
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def _pair(left: Axes, right: Axes, measured: Array, drawn: Array, stable: Stable) -> None:
    """Histograms of sizes up to the largest measured, with the densities fitted to the measured values, folded at 0."""
    limit = float(np.abs(measured).max())
    x = np.linspace(0, limit, 100)
    gaussian = norm(measured.mean(), measured.std())
    curves = (
        (gaussian.pdf(x) + gaussian.pdf(-x), "C0", "Gaussian"),
        (stable.density(x) + stable.density(-x), "C3--", f"Lévy-stable, α = {stable.alpha:.2f}"),
    )
    bins = 60 if len(measured) > 5000 else 30
    highest = 0.0
    for ax, values in ((left, measured), (right, drawn)):
        heights, edges = np.histogram(np.abs(values), bins=bins, range=(0, limit))
        density = heights / (len(values) * np.diff(edges))
        highest = max(highest, float(density.max()))
        ax.stairs(density, edges, fill=True, color="C7", alpha=0.5)
        for curve, style, label in curves:
            ax.plot(x, curve, style, label=label)
        plain(ax)
    low = bins / (len(measured) * limit)  # the density of one value in a bin
    left.set(yscale="log", ylim=(low / 3, 3 * highest), xlim=(0, limit))
    right.set(yscale="log")


def draw_tails(path: Path, name: str, laws: NoiseLaws) -> None:
    """Draw the tail indices of all followed parameters, with that of one minibatch across parameters."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    one, many = laws.parameters, laws.minibatches.values()
    panels = (
        ("stable fit", one.stable.alpha, [law.stable.alpha for law in many]),
        ("Mohammadi et al.", one.mohammadi, [law.mohammadi for law in many]),
        ("Hill, largest 5 %", one.hill.alpha, [law.hill.alpha for law in many]),
    )
    for ax, (title, single, values) in zip(figure.subplots(1, 3), panels, strict=True):
        # Hill's index is infinite if the largest values are all the same.
        ax.hist(
            np.array(values)[np.isfinite(values)], bins=30, color="C0", alpha=0.6, label="parameters across minibatches"
        )
        ax.axvline(single, color="C3", linewidth=2, label="one minibatch across parameters")
        ax.set(title=title, xlabel="tail index α")
        plain(ax)
    figure.axes[0].set_ylabel("parameters")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(f"Tail index of the gradient noise, {drawn(name)}", fontsize=11)
    write_whole(path, lambda part: figure.savefig(part, dpi=150))
