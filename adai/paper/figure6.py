"""Figure 6: is gradient noise Gaussian across minibatches, and heavy-tailed across parameters?"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from adai.files import made
from adai.lab.measure.noise.measure import noise_laws
from adai.lab.measure.noise.sampling import minibatch_noise
from adai.lab.measure.objective import Progress, silent
from adai.paper.experiments import SMALL, Scale, remarked
from adai.paper.pretrained import pretrained
from adai.report import noise as report
from adai.report.noise import Measured, Row


class Settings(NamedTuple):
    """The settings of the figure. The paper uses ResNet-18 on CIFAR-10, and prints neither B nor the training.

    Args:
        dataset: a name for `adai.lab.tasks.data.load`.
        model: a net of `adai.lab.models`.
        epochs: of training by `adai.paper.pretrained`; random initialisation is measured too.
        samples: the number of training images to draw minibatches from; None for all.
        B: batch size.
        minibatches: the number of minibatches.
        parameters: the number of parameters to follow across minibatches.
        device: the device to compute on.
        seed: of all random numbers.
    """

    dataset: str = "mnist"
    model: str = "fc3"
    epochs: int = 3
    samples: int | None = None
    B: int = 128
    minibatches: int = 1000
    parameters: int = 500
    device: str = "cpu"
    seed: int = 0


def settings_at(scale: Scale) -> Settings:
    """The paper's network and images; a small net on them at small scale; a minute's work at quick scale."""
    if scale is SMALL:
        return Settings(dataset="cifar10", model="resnet8")
    return Settings() if scale.note else Settings(dataset="cifar10", model="resnet18")


def figure6(
    folder: Path,
    settings: Settings | None = None,
    *,
    data_dir: Path | None = None,
    progress: Progress = silent,
    remark: str = "",
) -> list[Row]:
    """Train, measure, and write noise.csv, noise.json, parameters.csv, figure6.png and tails.png into the folder.

    figure6-2.png and tails-2.png are for random initialisation. The training run is in the subfolder ``pretrained`` and
    resumes after an interruption.

    It takes about a minute on one core with the default settings. Batch norm uses its running statistics.

    Args:
        folder: is created if it does not exist.
        settings: default: a net on MNIST that needs no GPU.
        data_dir: the folder that contains the data sets.
        progress: called with the name of the work, the units just done, and their total.
        remark: is appended to the name of each set of parameters in all files.

    Returns:
        The table.
    """
    settings = settings or Settings()
    net = pretrained(
        folder,
        settings.dataset,
        settings.model,
        epochs=settings.epochs,
        seed=settings.seed,
        device=settings.device,
        data_dir=data_dir,
        progress=progress,
    )
    results: dict[str, Measured] = {}
    about = {**settings._asdict(), "training": net.ended}
    for name, subject in ((f"after {settings.epochs} epochs", net.trained), ("random initialisation", net.random)):
        objective = subject.objective(samples=settings.samples, seed=settings.seed)
        noise = minibatch_noise(
            objective,
            B=settings.B,
            minibatches=settings.minibatches,
            parameters=settings.parameters,
            seed=settings.seed,
            progress=partial(_labelled, progress, name),
        )
        results[remarked(name, remark)] = noise, noise_laws(noise, seed=settings.seed)
        about.update(objective.about())
    report.write_figures(made(folder), results)
    return report.write(folder, results, about)


def _labelled(progress: Progress, name: str, what: str, done: int, total: int) -> None:
    progress(f"{name}: {what}", done, total)
