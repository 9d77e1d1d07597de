"""The table and the figures of training runs by name: the runs that they need, and the function that draws them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from adai.paper import figure1, figure2, figure3, figure4, table1
from adai.paper.drawing import Drawn
from adai.paper.experiments import Experiment, Scale, at


class Item(NamedTuple):
    """A table or figure.

    Args:
        title: for readers.
        experiments: the runs it needs, at full scale.
        draw: draws the runs of a folder into the same folder.
    """

    title: str
    experiments: Sequence[Experiment]
    draw: Callable[[Path, Scale], Drawn]

    def at(self, scale: Scale) -> Sequence[Experiment]:
        """The runs it needs at that scale; empty if it is not drawn at that scale."""
        return at(self.experiments, scale)


ITEMS = {
    "table1": Item("Table 1: test error", table1.EXPERIMENTS, table1.draw),
    "figure1": Item("Figure 1: learning curves and final epochs", figure1.EXPERIMENTS, figure1.draw),
    "figure2": Item("Figure 2: a fixed learning rate", figure2.EXPERIMENTS, figure2.draw),
    "figure3": Item("Figure 3: ResNet50 on ImageNet", figure3.EXPERIMENTS, figure3.draw),
    "figure4": Item("Figure 4: generalization and convergence", figure4.EXPERIMENTS, figure4.draw),
}
