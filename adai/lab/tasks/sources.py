"""Where a run's batches come from: tensors on the training device, or a data set read by processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.processes import begin_reading, of_readers
from adai.lab.tasks.augment import cropped, draw_crops

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
    """A data set of (input, target) pairs, read and put together by processes beside this one.

    These start when the first batch is asked for, and go on until `close`. What the data set draws at random from
    torch's, Python's or numpy's global generator is decided by the batch alone, not by how many processes there are.

    Args:
        data: map-style.
        device: where batches go.
        workers: processes; with 0 this process reads.
        prepare: what becomes of a batch of inputs on the device, say the normalisation.
    """

    def __init__(
        self, data: Examples, device: torch.device, workers: int, prepare: Callable[[Tensor], Tensor] = same
    ) -> None:
        self.data = data
        self.device = device
        self.workers = workers
        self.prepare = prepare
        self._places = _Places()
        self._loader: DataLoader[Any] | None = None

    def __len__(self) -> int:
        """How many examples."""
        return len(self.data)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places, in this order whatever the number of workers.

        Raises:
            UserError: what the data set gives is no pair of tensors.
        """
        on_cuda = self.device.type == "cuda"
        if self._loader is None:
            self._loader = DataLoader(
                cast(Dataset[Any], _Seeded(self.data)),
                batch_sampler=self._places,
                num_workers=self.workers,
                pin_memory=on_cuda,
                persistent_workers=self.workers > 0,
                multiprocessing_context=of_readers() if self.workers else None,
                worker_init_fn=begin_reading if self.workers else None,
                generator=Generator(),  # torch's global one would be drawn from, for seeds that nobody uses
            )
        base = int(torch.empty((), dtype=torch.int64).random_(generator=draws))
        self._places.now = [[_seed(base, place), *place.tolist()] for place in places]
        for batch in self._loader:
            inputs, targets = _pair(batch)
            yield (
                self.prepare(inputs.to(self.device, non_blocking=on_cuda)),
                targets.to(self.device, non_blocking=on_cuda),
            )

    def close(self) -> None:
        """End the processes; the next batch starts them again."""
        readers = getattr(self._loader, "_iterator", None)
        self._loader = None
        if readers is not None:
            readers._shutdown_workers()  # at once; torch has no public name for it


class _Places:
    """What each batch consists of: the seed of its draws, and the numbers of its examples."""

    now: Sequence[list[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


class _Seeded:
    """A data set that is asked for a batch's seed and numbers at once."""

    def __init__(self, data: Examples) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, asked: list[int]) -> list[Any]:
        seed, *numbers = asked
        with random_state.untouched(torch.device("cpu")):
            random_state.seed(seed)
            several = getattr(self.data, "__getitems__", None)
            return list(several(numbers)) if several else [self.data[number] for number in numbers]


def _seed(base: int, place: Tensor) -> int:
    """Of a batch: another one for each of an epoch, on any process, as no two begin with the same example."""
    return (base + int(place[0])) % 2**63


def _pair(batch: Any) -> Pair:
    """A batch as the data set gave it and torch put it together."""
    if isinstance(batch, Mapping):
        raise UserError(
            f"the data set gives dicts with {', '.join(map(repr, batch))}; it has to give pairs (input, target)"
        )
    if not isinstance(batch, list | tuple) or len(batch) != 2:
        what = f"{len(batch)} values" if isinstance(batch, list | tuple) else f"a {type(batch).__name__}"
        raise UserError(f"the data set gives {what} for an example; it has to give pairs (input, target)")
    for name, values in zip(("input", "target"), batch, strict=True):
        if not isinstance(values, Tensor):
            raise UserError(
                f"the data set gives {name}s that become a {type(values).__name__}; they have to be tensors, arrays or "
                "numbers"
            )
    inputs, targets = batch
    return inputs, targets


def close(source: Source) -> None:
    """End the processes that read for it, if any do."""
    if isinstance(source, Part):
        close(source.whole)
    if isinstance(source, Loaded):
        source.close()


def targets_of(source: Source) -> Tensor | None:
    """All targets, where they are in memory."""
    if isinstance(source, Part):
        whole = targets_of(source.whole)
        return None if whole is None else whole[source.numbers.to(whole.device)]
    return source.targets if isinstance(source, Tensors) else None


def in_memory(data: Any) -> tuple[Tensor, Tensor] | None:
    """The inputs and targets of a `TensorDataset` of two tensors, or of a `Subset` of one; else None."""
    if isinstance(data, Subset) and type(data).__getitem__ is Subset.__getitem__:
        whole = in_memory(data.dataset)
        where = torch.as_tensor(data.indices, dtype=torch.int64)
        return whole and (whole[0][where], whole[1][where])
    # One that has its own way to give an example, say with augmentation, is no mere pair of tensors.
    plain = isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__
    if not plain or len(data.tensors) != 2:
        return None
    inputs, targets = data.tensors
    return inputs, targets
