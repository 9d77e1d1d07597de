"""Several optimizers on the same task over several seeds."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import Parameter

from adai import __version__
from adai.lab.data import load
from adai.lab.machine import device_named, processor
from adai.lab.models import build_model
from adai.lab.optimizers import DEFAULT_OPTIMIZERS, recipe
from adai.lab.runs import RunFolder
from adai.lab.train import BATCH, WARMUP_STEPS, train

# Called with the label of the run at hand and how many epochs have just been done.
Progress = Callable[[str, int], None]


def compare(
    folder: RunFolder,
    *,
    optimizers: Sequence[str] = DEFAULT_OPTIMIZERS,
    seeds: int = 3,
    epochs: int = 30,
    device: str = "cpu",
    dataset: str = "digits",
    model: str = "smallnet",
    data_dir: Path | None = None,
    command: str = "",
    progress: Progress = lambda label, epochs: None,
) -> None:
    """Train every optimizer with every seed; what each epoch gives goes to the folder at once.

    Runs that the folder holds finished are not done again, so the same call goes on after an interruption.

    Args:
        folder: where the results go.
        optimizers: names from `adai.lab.optimizers.RECIPES`.
        seeds: how many; seed i is the same initial weights and data order for every optimizer.
        epochs: passes over the training images.
        device: as torch names it.
        dataset: a name that `adai.lab.data.load` knows.
        model: a name from `adai.lab.models.MODELS`.
        data_dir: where data sets lie by name.
        command: the command line, kept beside the results.
        progress: called with the label of the run at hand and how many epochs have just been done.

    Raises:
        UserError: an optimizer, a model, a data set or a device is not there, or the folder is of no use.
        ModuleNotFoundError: an optimizer comes from a package that is not installed.
    """
    recipes = {name: recipe(name) for name in optimizers}
    for r in recipes.values():
        r.build([Parameter(torch.zeros(1))])  # a package that is missing shows now, not after hours of training
    config = {
        "task": dataset,
        "model": model,
        "epochs": epochs,
        "batch": BATCH,
        "warmup_steps": WARMUP_STEPS,
        "device": device,
        "seeds": seeds,
        "optimizers": {name: r.options for name, r in recipes.items()},
    }
    data = load(dataset, device=device_named(device), data_dir=data_dir)
    build_model(model, channels=1, size=32, classes=2)  # an unknown name shows now
    folder.open(config, _about(device, command))
    for seed in range(seeds):
        for name, r in recipes.items():
            label = f"{r.label}, seed {seed}"
            if folder.finished(name, seed):
                progress(label, epochs)
                continue
            folder.restart(name, seed)
            progress(label, 0)
            for row in train(r, data, model=model, seed=seed, epochs=epochs):
                folder.append(name, seed, row)
                progress(label, 1)


def _about(device: str, command: str) -> dict[str, Any]:
    on_cuda = torch.device(device).type == "cuda"
    return {
        "command": command,
        "adai": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": torch.cuda.get_device_name(device) if on_cuda else processor(),
        "threads": torch.get_num_threads(),
    }
