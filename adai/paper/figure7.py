"""Figure 7: is C = H/B along the Hessian's eigenvectors, trained and at random initialisation?"""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from adai.files import made
from adai.lab.measure.noise.covariance import Directions, eigenbasis
from adai.lab.measure.objective import Progress, silent
from adai.paper.experiments import Scale, remarked
from adai.paper.pretrained import pretrained
from adai.report import eq5
from adai.report.eq5 import Row


class Settings(NamedTuple):
    """The settings of the figure.

    The paper prints neither the width of its net nor how it was trained. With ten units there are 8,070 parameters on
    MNIST, and the whole Hessian fits in memory.

    Args:
        dataset: a name for `adai.lab.tasks.data.load`.
        model: a net of `adai.lab.models`.
        epochs: of training over all training images by `adai.paper.pretrained`.
        samples: the number of training images for H and C.
        batches: batch sizes, with a column for each.
        seed: of the weights, the order, and the images.
    """

    dataset: str = "mnist"
    model: str = "fc3-10"
    epochs: int = 10
    samples: int = 1000
    batches: tuple[int, ...] = (1, 10, 100)
    seed: int = 0


def settings_at(scale: Scale) -> Settings:
    """The defaults, or at quick scale settings that take a minute."""
    return Settings(model="fc3-4", epochs=1, samples=200) if scale.note else Settings()


def figure7(
    folder: Path,
    settings: Settings | None = None,
    *,
    data_dir: Path | None = None,
    progress: Progress = silent,
    remark: str = "",
) -> list[Row]:
    """Train, compute in float64, and write eq5.csv, .json, decades.csv, directions.csv and figure7.png into the folder.

    The training run is in the subfolder ``pretrained`` and resumes after an interruption.

    It takes about ten minutes on one core with the default settings, mostly for eigenvectors, and 3 GB of memory.

    Args:
        folder: is created if it does not exist.
        settings: default: the paper's, as far as it prints them.
        data_dir: the folder that contains the data sets.
        progress: called with the name of the work, the units just done, and their total.
        remark: is appended to the name of each set of parameters in all files.

    Returns:
        The table, with a row for each set of parameters and batch size.
    """
    settings = settings or Settings()
    net = pretrained(
        folder,
        settings.dataset,
        settings.model,
        epochs=settings.epochs,
        seed=settings.seed,
        data_dir=data_dir,
        progress=progress,
    )
    results: dict[str, Directions] = {}
    about: dict[str, Any] = {}
    for name, subject in (("pretrained", net.trained), ("random", net.random)):
        objective = subject.objective(samples=settings.samples, seed=settings.seed, dtype=torch.float64)
        results[remarked(name, remark)] = eigenbasis(objective, progress=partial(_labelled, progress, name))
        about = {**settings._asdict(), "training": net.ended, **objective.about()}
    return eq5.write(made(folder), results, about, settings.batches)


def _labelled(progress: Progress, name: str, what: str, done: int, total: int) -> None:
    progress(f"{name}: {what}", done, total)
