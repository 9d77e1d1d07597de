"""Figure 3: ResNet50 on ImageNet: top-1 and top-5 test error, training loss.

The paper prints batch 256 and the weight decay, but neither epochs nor milestones. We use 90 epochs, and a cosine with
warm-up, the lab's default.
"""

from pathlib import Path

from adai.paper.drawing import Drawn, found, titled
from adai.paper.experiments import THREE, Experiment, Scale
from adai.report.grid import TEST_ERROR, TOP5_ERROR, TRAINING_LOSS, Panel, write_grid

DECAY = {name: {"weight_decay": 1e-4} for name in THREE}

EXPERIMENTS = (Experiment("imagenet", "resnet50", THREE, overrides=DECAY),)


def draw(folder: Path, scale: Scale) -> Drawn:
    """Draw the folder's runs into figure3.png and figure3.pdf in the same folder."""
    runs = found(folder, EXPERIMENTS[0], scale)
    titles = {"top-1 test error": TEST_ERROR, "top-5 test error": TOP5_ERROR, "training loss": TRAINING_LOSS}
    row = [Panel(title, runs, what) for title, what in titles.items()]
    return Drawn(write_grid(folder, "figure3", titled("Figure 3: ResNet50 on ImageNet", scale), [row]))
