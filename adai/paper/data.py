"""Checks that the data of the experiments exist before any run starts."""

from collections.abc import Sequence
from pathlib import Path

import torch

from adai.errors import UserError
from adai.lab.tasks.hub import find
from adai.lab.tasks.named import named_task
from adai.paper.experiments import Experiment, Scale


def check(experiments: Sequence[Experiment], scale: Scale, data_dir: Path | None) -> None:
    """Read the data of each experiment.

    Raises:
        UserError: a data set does not exist. ImageNet is never downloaded: it has to be in a folder.
    """
    for experiment in {e.dataset: e for e in experiments}.values():
        if experiment.dataset == "imagenet" and not Path(find("imagenet", data_dir)).is_dir():
            raise UserError(
                "ImageNet is not on this machine; point --data-dir or ADAI_DATA_DIR at a folder that holds imagenet, "
                "with train and validation"
            )
        settings = next(iter(experiment.runs(scale).values()))
        named_task(settings, torch.device("cpu"), data_dir)
