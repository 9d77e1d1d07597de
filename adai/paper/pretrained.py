"""A net trained quickly, to look at: an ordinary run of `adai.lab.training.train`, in a folder beneath the figure's."""

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
    """A net before and after, and how the training ended.

    Args:
        trained: after the last epoch.
        random: with the weights from which it started.
        ended: losses and errors (percent) of the last epoch, as `adai.lab.training.learner.COLUMNS` has them.
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
    """Train a net, or go on with it: SGD with momentum 0.9 and batch 128, learning rate from 0.1 to 0 along a cosine.

    Neither warm-up nor weight decay nor augmentation, so that what is trained is the very loss that is then measured.

    Args:
        folder: of the figure; the run is in `FOLDER` within it.
        dataset: as `adai.lab.tasks.data.load` knows it.
        model: a net of `adai.lab.models`.
        epochs: of training.
        seed: of weights and order.
        device: where to compute.
        data_dir: where data sets lie by name.
        progress: told what is being done.

    Raises:
        UserError: the folder holds another run, or the training diverges.
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
        raise UserError(f"the training in {run.path} {run.status}, so there is no net to look at")
    fresh = partial(by_settings, settings, device=torch.device(device), data_dir=data_dir)
    trained = subject_at(run.path, fresh, device=torch.device(device), data_dir=data_dir)
    last = run.rows()[-1]
    kept = ("train_loss", "train_error", "test_loss", "test_error")
    return Pretrained(trained, fresh(), {key: last[key] for key in kept})
