"""A quickly trained net to measure: an ordinary run of `adai.lab.training.train` in a subfolder of the figure's."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from adai.errors import UserError
from adai.lab.measure.objective import Progress, silent
from adai.lab.measure.stored import subject_at
from adai.lab.measure.subject import Subject, by_settings
from adai.lab.results.outcome import DIED
from adai.lab.settings import Settings
from adai.lab.training.train import train

FOLDER = "pretrained"


class Pretrained(NamedTuple):
    """A net before and after training, and its last losses and errors.

    Args:
        trained: after the last epoch.
        random: with the initial weights.
        ended: losses and errors (percent) of the last epoch, as in `adai.lab.training.learner.COLUMNS`.
    """

    trained: Subject
    random: Subject
    ended: dict[str, float | None]


def pretrained(
    folder: Path,
    dataset: str,
    model: str,
    *,
    epochs: int,
    seed: int = 0,
    device: str = "cpu",
    data_dir: Path | None = None,
    progress: Progress = silent,
) -> Pretrained:
    """Train a net, or resume: SGD with momentum 0.9 and batch 128, learning rate from 0.1 to 0 along a cosine.

    There is no warm-up, weight decay or augmentation, so that the loss that is measured is the loss that was trained.

    Args:
        folder: of the figure; the run is in its subfolder `FOLDER`.
        dataset: a name for `adai.lab.tasks.data.load`.
        model: a net of `adai.lab.models`.
        epochs: of training.
        seed: of weights and order.
        device: the device to compute on.
        data_dir: the folder that contains the data sets.
        progress: called with the name of the work, the units just done, and their total.

    Raises:
        UserError: the folder has another run, or the training diverges or does not learn.
    """
    settings = Settings.of(
        dataset,
        model=model,
        optimizer="sgd",
        lr=0.1,
        weight_decay=0.0,
        epochs=epochs,
        batch=128,
        seed=seed,
        device=device,
        schedule="cosine",
        warmup_steps=0,
        augment=False,
    )
    run = train(settings, folder / FOLDER, data_dir=data_dir, stepped=partial(progress, "training"))
    if run.status in DIED:
        raise UserError(f"the training in {run.path} {run.status}, so there is no net to measure")
    fresh = partial(by_settings, settings, device=torch.device(device), data_dir=data_dir)
    trained = subject_at(run.path, fresh, device=torch.device(device), data_dir=data_dir)
    last = run.rows()[-1]
    kept = ("train_loss", "train_error", "test_loss", "test_error")
    return Pretrained(trained, fresh(), {key: last[key] for key in kept})
