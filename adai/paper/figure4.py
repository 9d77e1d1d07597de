"""Figure 4: test curves above, training curves below, of SGD with momentum, Adai and Adam; the runs of Table 1.

At small scale it has the two networks of that scale.
"""

from pathlib import Path

from adai.paper.drawing import Drawn, found, titled
from adai.paper.experiments import DENSENET121, GOOGLENET, RESNET8_CIFAR100, RESNET18, THREE, VGG16, Scale, at
from adai.report.grid import TEST_ERROR, TRAINING_LOSS, Panel, write_grid

EXPERIMENTS = tuple(
    e._replace(optimizers=THREE) for e in (RESNET18, VGG16, DENSENET121._replace(small=RESNET8_CIFAR100), GOOGLENET)
)


def draw(folder: Path, scale: Scale) -> Drawn:
    """Draw the folder's runs into figure4.png and figure4.pdf in the same folder."""
    runs = {experiment.title: found(folder, experiment, scale) for experiment in at(EXPERIMENTS, scale)}
    rows = [[Panel(title, one, what) for title, one in runs.items()] for what in (TEST_ERROR, TRAINING_LOSS)]
    return Drawn(write_grid(folder, "figure4", titled("Figure 4: generalization and convergence", scale), rows))
