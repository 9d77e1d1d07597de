"""Figure 2: VGG16 on CIFAR-10 for 1000 epochs with a fixed learning rate, Adai against Adam.

The paper prints no rates for it. Adai and Adam have those of Appendix D.1, 1 and 0.001; Adam has 0.0001 too, the next
lower of that grid: the caption tells of a pair that converges similarly fast, and of one that ends similarly low.
"""

from dataclasses import replace
from pathlib import Path

from adai.paper.drawing import Drawn, found, titled
from adai.paper.experiments import Experiment, Scale
from adai.report.grid import TEST_ERROR, TRAINING_LOSS, Panel, write_grid

FIXED = {"epochs": 1000, "schedule": "constant", "warmup_steps": 0}
LOWER = 1e-4

EXPERIMENTS = (
    Experiment("cifar10", "vgg16", ("adai", "adam"), FIXED, variant="fixed"),
    Experiment("cifar10", "vgg16", ("adam",), FIXED, {"adam": {"lr": LOWER}}, variant="fixed-lower"),
)


def draw(folder: Path, scale: Scale) -> Drawn:
    """Draw the runs within the folder into figure2.png and figure2.pdf there, a column for each rate of Adam's."""
    first, lower = (found(folder, experiment, scale) for experiment in EXPERIMENTS)
    adai = first.entrants[0]
    rates = [experiment.runs(scale)["adam"].options["lr"] for experiment in EXPERIMENTS]
    columns = {
        f"Adam at lr {rates[0]:g}": first,
        f"Adam at lr {rates[1]:g}": replace(lower, entrants=[adai, *lower.entrants]),
    }
    rows = [[Panel(title, runs, what) for title, runs in columns.items()] for what in (TRAINING_LOSS, TEST_ERROR)]
    return Drawn(write_grid(folder, "figure2", titled("Figure 2: VGG16 on CIFAR-10, fixed learning rate", scale), rows))
