"""What is looked at: a model with its parameters, data and loss, by name or your own."""

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset, default_collate

from adai.errors import UserError
from adai.lab.data import load
from adai.lab.models import build_model
from adai.lab.objective import BatchNorm, Loss, Objective, Prepare


class Subject(NamedTuple):
    """A model, what it is measured on, and by which loss; see `Objective` for the parts."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss = cross_entropy
    prepare: Prepare | None = None

    def objective(
        self,
        *,
        samples: int | None = None,
        seed: int = 0,
        batch_norm: BatchNorm = "running",
        batch: int = 256,
        dtype: torch.dtype | None = None,
    ) -> Objective:
        """The loss over so many of the samples, drawn with the seed; over all of them in their order by default."""
        inputs, targets = self.inputs, self.targets
        if samples is not None and samples < len(targets):
            where = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))[:samples]
            inputs, targets = inputs[where.to(inputs.device)], targets[where.to(targets.device)]
        return Objective(
            self.model,
            inputs,
            targets,
            loss=self.loss,
            prepare=self.prepare,
            batch_norm=batch_norm,
            batch=batch,
            dtype=dtype,
        )


def by_name(
    dataset: str, model: str, *, seed: int = 0, device: torch.device | None = None, data_dir: Path | None = None
) -> Subject:
    """A net of `adai.lab.models` with fresh weights drawn by the seed, on a data set's training images.

    Raises:
        UserError: there is no such data set or net.
    """
    data = load(dataset, device=device or torch.device("cpu"), data_dir=data_dir)
    channels, size = data.train.pixels.shape[1:3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_model(model, channels=channels, size=size, classes=data.classes)
    return Subject(net.to(data.mean.device), data.train.pixels, data.train.labels, prepare=data.normalised)


def by_task(name: str, *, seed: int = 0, device: torch.device | None = None) -> Subject:
    """What the function ``package.module:function`` returns: something with ``model``, ``train`` and perhaps ``loss``.

    ``train`` is a map-style data set of (input, target) pairs; one that is no `TensorDataset` is read into memory.

    Raises:
        UserError: there is no such function, or it returns something else.
    """
    module, _, function = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module), function, None)
    except (ModuleNotFoundError, ValueError) as error:
        raise UserError(f"cannot import the task {name!r}: {error}") from error
    if not callable(factory):
        raise UserError(f"{module} has no function {function!r}; give --task package.module:function")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = factory()
    model, train = getattr(task, "model", None), getattr(task, "train", None)
    if not isinstance(model, nn.Module) or not hasattr(train, "__getitem__"):
        raise UserError(f"the task {name!r} returns {type(task).__name__}; it has to have a model, and train data")
    to = device or torch.device("cpu")
    inputs, targets = (t.to(to) for t in _tensors(train))
    return Subject(model.to(to), inputs, targets, getattr(task, "loss", cross_entropy))


def _tensors(data: Any) -> tuple[Tensor, Tensor]:
    if isinstance(data, TensorDataset):
        return data.tensors[0], data.tensors[1]
    inputs, targets = default_collate([data[i] for i in range(len(data))])
    return inputs, targets


def with_state(subject: Subject, file: Path) -> Subject:
    """The subject with parameters and buffers from ``torch.save(model.state_dict(), file)``; its model is written into.

    Raises:
        UserError: the file cannot be read, or is of another net.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except Exception as error:  # whatever a file that is no checkpoint makes torch raise
        raise UserError(f"{file} is not a state dict saved by torch ({type(error).__name__})") from error
    try:
        subject.model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not of this net: {' '.join(str(error).split())[:200]}") from error
    return subject
