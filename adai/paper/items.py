"""The table and the figures of training runs by name: what they need, and what draws them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from adai.paper import figure1, figure2, figure3, figure4, table1
from adai.paper.drawing import Drawn
from adai.paper.experiments import Experiment, Scale, at


class Item(NamedTuple):
    """A table or figure.

    Args:
        title: for people.
        experiments: the runs it needs, at full scale.
        draw: draws those within a folder, into it.
    """

    title: str
    experiments: Sequence[Experiment]
    draw: Callable[[Path, Scale], Drawn]

    def at(self, scale: Scale) -> Sequence[Experiment]:
        """The runs it needs at that scale; none where it is not drawn there."""
        return at(self.experiments, scale)


ITEMS = {
    "table1": Item("Table 1: test error", table1.EXPERIMENTS, table1.draw),
    "figure1": Item("Figure 1: learning curves and final epochs", figure1.EXPERIMENTS, figure1.draw),
    "figure2": Item("Figure 2: a fixed learning rate", figure2.EXPERIMENTS, figure2.draw),
    "figure3": Item("Figure 3: ResNet50 on ImageNet", figure3.EXPERIMENTS, figure3.draw),
    "figure4": Item("Figure 4: generalization and convergence", figure4.EXPERIMENTS, figure4.draw),
}
