"""The subject of a measurement: a model with its parameters, data and loss, found by name, from a run, or your own."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.boundary import Failed, in_a_line, original, theirs
from adai.lab.measure.objective import BatchNorm, Objective, Prepare
from adai.lab.models import build_model
from adai.lab.settings import Settings
from adai.lab.tasks.data import load
from adai.lab.tasks.named import named_task
from adai.lab.tasks.sources import Source, Tensors, close, held_out
from adai.lab.tasks.targets import Loss
from adai.lab.tasks.task import function_named, source

# In nats. Below this loss the probabilities, which determine the curvature, have too few digits in float32.
FITTED = 1e-6

_READ = 256  # samples read at a time from a source that is not in memory


class Subject(NamedTuple):
    """A model, the training data that it is measured on, and the loss; see `Objective` for the parts.

    If the parameters are those of a run, ``epoch`` is the number of epochs that they were trained for.
    """

    model: nn.Module
    data: Source
    loss: Loss = cross_entropy
    epoch: int | None = None

    def objective(
        self,
        *,
        samples: int | None = None,
        seed: int = 0,
        batch_norm: BatchNorm = "running",
        batch: int = 256,
        dtype: torch.dtype | None = None,
    ) -> Objective:
        """The loss over this number of samples, drawn with the seed; by default over all of them.

        With ``batch_norm="batch"`` the minibatches matter, so the samples are always in an order drawn with the seed,
        as in training: data are often sorted by class.

        Raises:
            UserError: the model or the loss cannot handle these data, or as `Objective`.
        """
        try:
            inputs, targets, prepare = self._drawn(samples, seed, shuffled=batch_norm == "batch")
            return Objective(
                self.model,
                inputs,
                targets,
                loss=self.loss,
                prepare=prepare,
                batch_norm=batch_norm,
                batch=batch,
                dtype=dtype,
            )
        except UserError:
            raise
        except Exception as error:  # a user's model, loss or data set may raise anything
            raise Failed(f"cannot compute the loss of this model on its data: {in_a_line(error)}") from error

    def precise_objective(self, dtype: str, **options: Any) -> Objective:
        """The loss in a dtype; in float64 if it is below `FITTED` and the device has float64.

        Args:
            dtype: ``float32`` or ``float64``.
            options: the other arguments of `objective`.

        Raises:
            UserError: as `objective`.
        """
        at = self.objective(dtype=getattr(torch, dtype), **options)
        if at.loss() < FITTED and at.theta.device.type != "mps":  # which has no float64
            return self.objective(dtype=torch.float64, **options)
        return at

    def _drawn(
        self, samples: int | None, seed: int, *, shuffled: bool = False
    ) -> tuple[Tensor, Tensor, Prepare | None]:
        """The samples as tensors: those that are in memory already, or those of the source, which is read once."""
        total = len(self.data)
        in_order = not shuffled and (samples is None or samples >= total)
        if isinstance(self.data, Tensors) and in_order:
            return self.data.inputs, self.data.targets, self.data.prepare
        order = torch.randperm(total, generator=Generator().manual_seed(seed))
        where = torch.arange(total) if in_order else order[:samples]
        if isinstance(self.data, Tensors):
            at = where.to(self.data.inputs.device)
            return self.data.inputs[at], self.data.targets[at], self.data.prepare
        with random_state.untouched(next(self.model.parameters(), torch.empty(0)).device):
            random_state.seed(seed)  # a source that augments its own examples must do the same each time
            try:
                read = list(self.data.batches(where.split(_READ), Generator().manual_seed(seed)))
            except UserError as error:
                raise UserError(original(error)) from error
            finally:
                close(self.data)
        inputs, targets = zip(*read, strict=True)
        return torch.cat(inputs), torch.cat(targets), None


def by_name(
    dataset: str, model: str, *, seed: int = 0, device: torch.device | None = None, data_dir: Path | None = None
) -> Subject:
    """A net of `adai.lab.models` with initial weights drawn with the seed, on a data set's training images.

    Raises:
        UserError: there is no such data set or net.
    """
    data = load(dataset, device=device or torch.device("cpu"), data_dir=data_dir)
    channels, size = data.train.pixels.shape[1:3]
    with random_state.untouched(data.mean.device):
        random_state.seed(seed)
        net = build_model(model, channels=channels, size=size, classes=data.classes)
    return Subject(net.to(data.mean.device), Tensors(data.train.pixels, data.train.labels, data.normalised))


def by_task(name: str, *, seed: int = 0, device: torch.device | None = None) -> Subject:
    """The subject that the function ``package.module:function`` makes.

    It returns an object with ``model``, ``train`` and optionally ``loss``. ``train`` is a map-style data set of (input,
    target) pairs; a data set that is not a `TensorDataset` is read into memory.

    Raises:
        UserError: there is no such function, or it returns something else.
    """
    factory, to = function_named(name), device or torch.device("cpu")
    with random_state.untouched(to):
        random_state.seed(seed)
        with theirs(f"the task {name}"):
            task = factory()
    model, train = getattr(task, "model", None), getattr(task, "train", None)
    if not isinstance(model, nn.Module) or train is None or not hasattr(train, "__getitem__"):
        raise UserError(f"the task {name!r} returns {type(task).__name__}; it has to have a model, and train data")
    return Subject(model.to(to), source(train, to, workers=0), getattr(task, "loss", cross_entropy))


def by_settings(settings: Settings, *, device: torch.device | None = None, data_dir: Path | None = None) -> Subject:
    """The initial model, training data and loss of a run of `adai train` with its seed, without augmentation.

    Augmentation inside a task of your own is not removed: each sample is read once and kept.

    Raises:
        UserError: the task or the data set does not exist.
    """
    to = device or torch.device("cpu")
    factory = named_task(replace(settings, augment=False), to, data_dir)
    with random_state.untouched(to):
        random_state.seed(settings.seed)
        with theirs(settings.name):
            task = factory()
    train = source(task.train, to, settings.workers)
    if settings.validation:
        train, _ = held_out(train, settings.validation)
    return Subject(task.model.to(to), train, task.loss)
