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
    """What decides the figure. The paper has ResNet-18 on CIFAR-10, and prints neither B nor how far it was trained.

    Args:
        dataset: as `adai.lab.tasks.data.load` knows it.
        model: a net of `adai.lab.models`.
        epochs: of training, as `adai.paper.pretrained` does it; random initialisation is measured too.
        samples: training images to draw minibatches from; all of them as None.
        B: batch size.
        minibatches: how many.
        parameters: how many to follow across minibatches.
        device: where to compute.
        seed: of all that is drawn.
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
    """The paper's network and images; at small scale a small net on them, at quick scale one minute on one core."""
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
    """Train, measure, and write noise.csv, noise.json, parameters.csv, figure6.png and tails.png into the folder,
    and figure6-2.png and tails-2.png for random initialisation. The training run is in ``pretrained`` within it, and
    goes on there after an interruption.

    About a minute on one core with the default settings. Batch norm takes its running statistics.

    Args:
        folder: made if it is not there.
        settings: default: a net on MNIST that needs no GPU.
        data_dir: where data sets lie by name.
        progress: told what is being done.
        remark: stands behind the name of each set of parameters in everything that is written.

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
