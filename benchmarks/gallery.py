"""Draws the paths of Adai, SGD and Adam on two functions of the plane that are often used to look at optimizers.

Each optimizer uses the learning rate, out of a grid, whose mean value over all steps is lowest. The paths show how an
optimizer moves. They do not tell which one trains a net better::

    python benchmarks/gallery.py --out docs/gallery
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib import rc_context
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from adai import Adai
from adai.files import write_whole
from adai.report.picture import RC

STEPS = 500
RATES = [round(a * 10.0**b, 6) for b in range(-4, 1) for a in (1, 2, 5)]


class Landscape(NamedTuple):
    """A function of two variables, where to start on it, its lowest point, and the part of the plane to draw."""

    name: str
    value: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, float]
    lowest: tuple[float, float]
    window: tuple[float, float, float, float]


class Walk(NamedTuple):
    """The points that an optimizer visits with a learning rate, start included, and the value at each."""

    optimizer: str
    lr: float
    points: list[tuple[float, float]]
    values: list[float]

    @property
    def mean(self) -> float:
        """The mean of the values; infinite if the walk left the plane."""
        mean = math.fsum(self.values) / len(self.values)
        return mean if math.isfinite(mean) else math.inf


def rosenbrock(x: Tensor, y: Tensor) -> Tensor:
    """A curved valley with a flat floor: (1 - x)² + 100 (y - x²)²."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def styblinski_tang(x: Tensor, y: Tensor) -> Tensor:
    """Four minima, of which one is the lowest: half the sum of u⁴ - 16 u² + 5 u, shifted so that its value is 0."""
    return (x**4 - 16 * x**2 + 5 * x + y**4 - 16 * y**2 + 5 * y) / 2 + 78.33233140754282


LANDSCAPES = {
    "rosenbrock": Landscape("Rosenbrock", rosenbrock, (-1.5, 2.0), (1.0, 1.0), (-2.0, 2.0, -1.0, 3.0)),
    "styblinski-tang": Landscape(
        "Styblinski–Tang", styblinski_tang, (-0.3, 4.2), (-2.903534, -2.903534), (-5.0, 5.0, -5.0, 5.0)
    ),
}

OPTIMIZERS: dict[str, Callable[[list[Tensor], float], Optimizer]] = {
    "Adai": lambda params, lr: Adai(params, lr=lr, min_inertia=0.9, warmup_steps=100),
    "SGD, momentum 0.9": lambda params, lr: SGD(params, lr=lr, momentum=0.9),
    "Adam": lambda params, lr: Adam(params, lr=lr),
}

COLOURS = {"Adai": "#b84a00", "SGD, momentum 0.9": "#0b62a8", "Adam": "#2b7a3d"}


def walk(landscape: Landscape, optimizer: str, lr: float, steps: int = STEPS) -> Walk:
    """Take the steps, as long as the point is finite."""
    x, y = (torch.tensor(u, dtype=torch.float64, requires_grad=True) for u in landscape.start)
    stepper = OPTIMIZERS[optimizer]([x, y], lr)
    walked = Walk(optimizer, lr, [], [])
    for _ in range(steps + 1):
        value = landscape.value(x, y)
        walked.points.append((x.item(), y.item()))
        walked.values.append(value.item())
        if not math.isfinite(value.item()):
            break
        stepper.zero_grad()
        value.backward()
        stepper.step()
    return walked


def best(landscape: Landscape, optimizer: str, steps: int = STEPS) -> Walk:
    """The walk with the learning rate whose mean value is lowest."""
    return min((walk(landscape, optimizer, lr, steps) for lr in RATES), key=lambda each: each.mean)


def draw(landscape: Landscape, walks: list[Walk]) -> Figure:
    """Contours of the function, and the paths on them."""
    left, right, bottom, top = landscape.window
    x = torch.linspace(left, right, 300, dtype=torch.float64)
    y = torch.linspace(bottom, top, 300, dtype=torch.float64)
    height = landscape.value(x[None, :], y[:, None]).clamp(min=1e-2)
    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axes = figure.subplots()
    levels = torch.logspace(-2, math.log10(height.max().item()), 28).tolist()
    axes.contour(x, y, height, levels, cmap="Greys_r", norm=LogNorm(levels[0], levels[-1] * 20), linewidths=0.6)
    for each in walks:
        across, up = zip(*each.points, strict=True)
        label = f"{each.optimizer}, lr {each.lr:g}: {max(each.values[-1], 0):.2g}"
        axes.plot(across, up, lw=1.3, marker=".", ms=2.5, color=COLOURS[each.optimizer], label=label)
    axes.plot(*landscape.start, "o", color="#22211f", ms=5)
    axes.plot(*landscape.lowest, "*", color="#22211f", ms=11)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y", title=landscape.name)
    axes.grid(visible=False)
    figure.legend(loc="outside lower center", title=f"value after {STEPS} steps, above the lowest")
    return figure


def pages(out: Path) -> Iterator[Path]:
    """Draw every landscape into a folder; gives the files."""
    for key, landscape in LANDSCAPES.items():
        walks = [best(landscape, optimizer) for optimizer in OPTIMIZERS]
        for each in walks:
            print(
                f"{landscape.name}: {each.optimizer}, lr {each.lr:g}, ends at {each.points[-1]}, {each.values[-1]:.3g}"
            )
        with rc_context(RC):
            figure = draw(landscape, walks)
        write_whole(out / f"{key}.png", lambda part, figure=figure: figure.savefig(part, dpi=110))  # type: ignore[misc]
        yield out / f"{key}.png"


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"), help="default: %(default)s")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for file in pages(options.out):
        print(file)


if __name__ == "__main__":
    main()
