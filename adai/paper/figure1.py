"""Figure 1: learning curves, and test error against training loss over the final 40 epochs.

ResNet18 on CIFAR-10 and ResNet34 on CIFAR-100, the runs of Table 1.
"""

from pathlib import Path

from adai.paper.drawing import Drawn, found, titled
from adai.paper.experiments import RESNET18, RESNET34, Scale, at
from adai.report.grid import SCATTER, TEST_ERROR, TRAINING_LOSS, Panel, write_grid

EXPERIMENTS = (RESNET18, RESNET34)


def draw(folder: Path, scale: Scale) -> Drawn:
    """Draw the folder's runs into figure1.png and figure1.pdf in the same folder."""
    rows = []
    for experiment in at(EXPERIMENTS, scale):
        runs = found(folder, experiment, scale)
        rows.append([Panel(experiment.title, runs, what) for what in (TEST_ERROR, TRAINING_LOSS, SCATTER)])
    return Drawn(write_grid(folder, "figure1", titled("Figure 1: learning curves and final epochs", scale), rows))
