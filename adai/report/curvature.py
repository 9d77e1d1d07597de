"""Curvature at one or several sets of parameters, as table, files and figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Group

from adai.files import write_whole
from adai.lab.measure.curvature.density import Quadrature
from adai.lab.measure.curvature.measure import Curvature, Row, row
from adai.lab.measure.curvature.surface import Surface
from adai.report.axes import plain
from adai.report.rows import write_csv, write_json
from adai.report.tables import side_by_side
from adai.report.text import drawn

Array = NDArray[np.float64]


class Eigenvalue(NamedTuple):
    """One eigenvalue; rank 1 is the largest."""

    parameters: str
    rank: int
    value: float
    residual: float


class Density(NamedTuple):
    """The density of eigenvalues at one of them."""

    parameters: str
    eigenvalue: float
    density: float
    se: float


class Height(NamedTuple):
    """The loss at one point of the plane of the top two eigenvectors, steps along unit vectors."""

    parameters: str
    first: float
    second: float
    loss: float


def as_table(table: Sequence[Row]) -> Group:
    """The table for the terminal, with a column for each set of parameters."""
    lines: dict[str, Callable[[Row], str]] = {
        "loss": lambda r: f"{r.loss:.4g}",
        "‖gradient‖": lambda r: f"{r.gradient_norm:.3g}",
        "largest eigenvalue": lambda r: f"{r.largest:.4g}",
        "trace": lambda r: f"{r.trace:.4g} ± {r.trace_se:.2g}",
        "SAM sharpness": lambda r: f"{r.sam:.3g}",
        "  one step": lambda r: f"{r.sam_first_order:.3g}",
        "filter-normalised, worst": lambda r: f"{r.filter_worst:.3g}",
        "  mean": lambda r: f"{r.filter_average:.3g} ± {r.filter_average_se:.1g}",
    }
    cells = [(label, [*map(cell, table)]) for label, cell in lines.items()]
    names = [entry.parameters for entry in table]
    return side_by_side("curvature, ± standard error; less is flatter", names, cells, each=2)


def write(folder: Path, results: Mapping[str, Curvature], about: Mapping[str, Any]) -> list[Row]:
    """Write curvature.csv and .json, eigenvalues.csv, density.csv and .png, surface.csv and .png; returns the table."""
    table = [row(name, found.flatness) for name, found in results.items()]
    write_csv(folder / "curvature.csv", table)
    write_json(folder / "curvature.json", table, {"about": about})
    eigenvalues = [
        Eigenvalue(name, rank, float(value), float(residual))
        for name, found in results.items()
        for rank, (value, residual) in enumerate(
            zip(found.flatness.eigenpairs.values, found.flatness.eigenpairs.residuals, strict=True), start=1
        )
    ]
    write_csv(folder / "eigenvalues.csv", eigenvalues)
    grid = _grid(results)
    densities = [d for name, found in results.items() for d in _density(name, found.quadrature, *grid)]
    write_csv(folder / "density.csv", densities)
    draw_density(folder / "density.png", results)
    surfaces = {name: found.surface for name, found in results.items() if found.surface}
    if surfaces:
        write_csv(folder / "surface.csv", [h for name, surface in surfaces.items() for h in _heights(name, surface)])
        draw_surfaces(folder / "surface.png", surfaces)
    return table


def _grid(results: Mapping[str, Curvature]) -> tuple[Array, float]:
    """Eigenvalues and a width that all densities share, so that they can be compared."""
    together = [found.quadrature.nodes.ravel() for found in results.values()]
    nodes = np.concatenate(together)[None]
    return Quadrature(nodes, np.ones_like(nodes)).grid()


def _density(name: str, quadrature: Quadrature, grid: Array, width: float) -> list[Density]:
    columns = (grid, *quadrature.density(grid, width))
    return [Density(name, *map(float, values)) for values in zip(*columns, strict=True)]


def _heights(name: str, surface: Surface) -> list[Height]:
    steps = surface.steps
    return [
        Height(name, float(a), float(b), float(surface.loss[i, j]))
        for i, a in enumerate(steps)
        for j, b in enumerate(steps)
    ]


def draw_density(path: Path, results: Mapping[str, Curvature]) -> None:
    """Draw the density of eigenvalues of each, one below the other on a shared axis, and mark the top eigenvalues."""
    figure = Figure(figsize=(8, 1.2 + 2.2 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 1, sharex=True, squeeze=False)[:, 0]
    grid, width = _grid(results)
    for number, (ax, (name, found)) in enumerate(zip(axes, results.items(), strict=True)):
        density, _ = found.quadrature.density(grid, width)
        size = len(found.flatness.eigenpairs.vectors)
        low = 0.1 / size / width  # a tenth of the share of one eigenvalue
        ax.fill_between(grid, low, np.maximum(density, low), color=f"C{number}", alpha=0.5, linewidth=0)
        top = found.flatness.eigenpairs.values
        marks = np.full(len(top), low * 2)
        ax.plot(top, marks, "v", color="k", markersize=5, linestyle="none", label=f"largest {len(top)}")
        ax.set(yscale="log", ylim=(low, 3 * density.max()), ylabel="density")
        ax.set_title(
            f"{drawn(name)}: trace {found.flatness.trace.value:.4g} ± {found.flatness.trace.se:.2g}",
            fontsize=10,
            loc="left",
        )
        plain(ax)
    axes[0].legend(frameon=False, fontsize=8)
    axes[-1].set_xlabel("eigenvalue of the Hessian")
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def draw_surfaces(path: Path, surfaces: Mapping[str, Surface]) -> None:
    """Draw the loss over the plane of the top two eigenvectors, side by side with the same colours."""
    lowest = min(float(np.nanmin(surface.loss)) for surface in surfaces.values())
    highest = max(float(np.nanmax(surface.loss)) for surface in surfaces.values())
    highest = max(highest, lowest + 1e-6 * (abs(lowest) or 1))  # a constant loss needs levels too
    # A loss above 0 is drawn on a logarithmic scale, because a linear one has few levels in the valley.
    spaced, norm = (np.geomspace, LogNorm(lowest, highest)) if lowest > 0 else (np.linspace, None)
    levels = spaced(lowest, highest, 25)
    figure = Figure(figsize=(4.2 * len(surfaces) + 0.8, 4.2), layout="constrained")
    axes = figure.subplots(1, len(surfaces), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (name, surface) in zip(axes, surfaces.items(), strict=True):
        filled = ax.contourf(surface.steps, surface.steps, surface.loss.T, levels=levels, cmap="viridis", norm=norm)
        ax.contour(surface.steps, surface.steps, surface.loss.T, levels=levels, colors="w", linewidths=0.4)
        ax.plot(0, 0, "r+", markersize=10)
        ax.set(title=drawn(name), xlabel="along the first eigenvector", aspect="equal")
    axes[0].set_ylabel("along the second")
    figure.colorbar(filled, ax=axes.tolist(), label="loss", ticks=levels[::4], format="%.2g")
    write_whole(path, lambda part: figure.savefig(part, dpi=150))
