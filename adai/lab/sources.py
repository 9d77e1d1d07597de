"""Where a run's batches come from: tensors on the training device, or a data set read by worker processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from adai.lab.augment import cropped, draw_crops

Pair = tuple[Tensor, Tensor]  # inputs and targets, one a row


class Examples(Protocol):
    """What a map-style `torch.utils.data.Dataset` with a length is."""

    def __len__(self) -> int:
        """How many examples."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """An input and its target."""
        ...


@runtime_checkable
class Source(Protocol):
    """Examples, numbered from 0, that come in batches on the training device."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places, batch by batch.

        Args:
            places: for each batch the numbers of its examples, on the CPU.
            draws: whatever is drawn at random comes from here, and does not depend on how the places are cut.
        """
        ...


def same(inputs: Tensor) -> Tensor:
    """The inputs as they are."""
    return inputs


class Tensors:
    """Inputs and targets that live on the training device. Nothing waits for the host within an epoch.

    Args:
        inputs: one example a row.
        targets: one a row.
        prepare: what becomes of a batch of inputs last, say the normalisation.
        augment: images (N, C, H, W) are cropped and mirrored at random first.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, prepare: Callable[[Tensor], Tensor] = same, *, augment: bool = False
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.prepare = prepare
        self.augment = augment

    def __len__(self) -> int:
        """How many examples."""
        return len(self.targets)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places; each of them all has its own crop, drawn once an epoch."""
        device = self.inputs.device
        crops = draw_crops(len(self), draws).to(device) if self.augment else None
        # One copy to the device for the whole epoch.
        for where in torch.cat(list(places)).to(device).split([len(place) for place in places]):
            inputs = self.inputs[where]
            if crops:
                inputs = cropped(inputs, crops.of(where))
            yield self.prepare(inputs), self.targets[where]


class Part:
    """Some of the examples of a source.

    Args:
        whole: the source.
        numbers: which of its examples, by their numbers.
    """

    def __init__(self, whole: Source, numbers: Tensor) -> None:
        self.whole = whole
        self.numbers = numbers

    def __len__(self) -> int:
        """How many examples."""
        return len(self.numbers)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places of the part."""
        return self.whole.batches([self.numbers[place] for place in places], draws)


def held_out(source: Source, share: float) -> tuple[Part, Part]:
    """A source without a share of its examples, and these; drawn once and for all.

    Those that are held out are as they are, where the source is `Tensors`; another keeps whatever it does to them.
    """
    order = torch.randperm(len(source), generator=Generator().manual_seed(0))
    out = max(1, round(share * len(source)))
    plain = Tensors(source.inputs, source.targets, source.prepare) if isinstance(source, Tensors) else source
    return Part(source, order[out:]), Part(plain, order[:out])


class Loaded:
    """A data set of (input, target) pairs, read and put together by worker processes.

    Args:
        data: map-style.
        device: where batches go.
        workers: processes; with 0 the training process reads, which torch's global generator then decides on.
        prepare: what becomes of a batch of inputs on the device, say the normalisation.
    """

    def __init__(
        self, data: Examples, device: torch.device, workers: int, prepare: Callable[[Tensor], Tensor] = same
    ) -> None:
        self.data = data
        self.device = device
        self.workers = workers
        self.prepare = prepare

    def __len__(self) -> int:
        """How many examples."""
        return len(self.data)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places, in this order whatever the number of workers."""
        on_cuda = self.device.type == "cuda"
        loader: DataLoader[Any] = DataLoader(
            cast(Dataset[Any], self.data),
            batch_sampler=[place.tolist() for place in places],
            num_workers=self.workers,
            pin_memory=on_cuda,
            generator=draws,
        )
        for inputs, targets in loader:
            yield (
                self.prepare(inputs.to(self.device, non_blocking=on_cuda)),
                targets.to(self.device, non_blocking=on_cuda),
            )
