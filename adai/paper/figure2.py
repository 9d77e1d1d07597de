"""Figure 2: VGG16 on CIFAR-10 for 1000 epochs with a fixed learning rate, Adai against Adam.

The paper prints no learning rates for it. We use those of Appendix D.1, 1 for Adai and 0.001 for Adam, and also 0.0001
for Adam, the next lower value of the grid there: the caption mentions a pair that converges similarly fast, and a pair
that ends similarly low.

At small scale the same three run on the handwritten digits, after the warm-up that small nets need.
"""

from dataclasses import replace
from pathlib import Path

from adai.paper.drawing import Drawn, found, titled
from adai.paper.experiments import Experiment, Scale, at
from adai.report.grid import TEST_ERROR, TRAINING_LOSS, Panel, write_grid

FIXED = {"epochs": 1000, "schedule": "constant", "warmup_steps": 0}
LOWER = 1e-4


def _with_small(experiment: Experiment) -> Experiment:
    settings = {**FIXED, "warmup_steps": 100}
    return experiment._replace(small=experiment._replace(dataset="digits", model="smallnet", settings=settings))


EXPERIMENTS = (
    _with_small(Experiment("cifar10", "vgg16", ("adai", "adam"), FIXED, variant="fixed")),
    _with_small(Experiment("cifar10", "vgg16", ("adam",), FIXED, {"adam": {"lr": LOWER}}, variant="fixed-lower")),
)


def draw(folder: Path, scale: Scale) -> Drawn:
    """Draw the folder's runs into figure2.png and figure2.pdf there, with a column for each of Adam's rates."""
    experiments = at(EXPERIMENTS, scale)
    first, lower = (found(folder, experiment, scale) for experiment in experiments)
    adai = first.entrants[0]
    rates = [experiment.runs(scale)["adam"].options["lr"] for experiment in experiments]
    columns = {
        f"Adam at lr {rates[0]:g}": first,
        f"Adam at lr {rates[1]:g}": replace(lower, entrants=[adai, *lower.entrants]),
    }
    rows = [[Panel(title, runs, what) for title, runs in columns.items()] for what in (TRAINING_LOSS, TEST_ERROR)]
    title = titled(f"Figure 2: {experiments[0].title}, fixed learning rate", scale)
    return Drawn(write_grid(folder, "figure2", title, rows))
