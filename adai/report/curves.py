"""Learning curves of a comparison, with bands over seeds."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from adai.files import write_whole
from adai.lab.optimizers import RECIPES
from adai.lab.runs import RunFolder


def draw_curves(folder: RunFolder, path: Path) -> None:
    """Draw test error and training loss against epochs: mean over finished seeds, band from lowest to highest seed."""
    config = folder.config()
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    for number, name in enumerate(config["optimizers"]):
        runs = [folder.metrics(name, seed) for seed in range(config["seeds"]) if folder.finished(name, seed)]
        if not runs:
            continue
        for ax, key in zip(axes, ("test_error", "train_loss"), strict=True):
            _band(ax, np.array([[epoch[key] for epoch in run] for run in runs]), RECIPES[name].label, f"C{number}")
    axes[0].set(xlabel="epoch", ylabel="test error (%)", yscale="log")
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[1].set(xlabel="epoch", ylabel="training loss (nats)", yscale="log")
    axes[1].legend(frameon=False)
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{config['model']} on {config['task']}: mean and range over seeds")
    write_whole(path, lambda part: figure.savefig(part, dpi=150))


def _band(ax: Axes, values: np.ndarray, label: str, color: str) -> None:
    """Plot values (seeds, epochs)."""
    epochs = np.arange(1, values.shape[1] + 1)
    ax.plot(epochs, values.mean(axis=0), label=label, color=color)
    ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
