"""The style of axes in all figures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray


def plain(ax: Axes) -> None:
    """Draw a faint grid, and no frame at the top and on the right."""
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def log_where_it_helps(ax: Axes, which: str, columns: Sequence[NDArray[np.float64]]) -> None:
    """Use a logarithmic axis, with plain numbers, if all values are above 0 and differ by more than a factor of 3."""
    values = np.concatenate([np.zeros(0), *columns])
    values = values[np.isfinite(values)]
    if not values.size:
        return
    low, high = values.min(), values.max()
    if low > 0 and high > 3 * low:
        ax.set(**{f"{which}scale": "log", f"{which}lim": (low / 1.15, high * 1.15)})
        axis = ax.xaxis if which == "x" else ax.yaxis
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
