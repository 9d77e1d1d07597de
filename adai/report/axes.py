"""Axes as every figure has them."""

from matplotlib.axes import Axes


def plain(ax: Axes) -> None:
    """A faint grid, and no frame above and to the right."""
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
