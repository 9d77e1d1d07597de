"""The sources of a run's batches: tensors on the training device, or a data set that processes read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, cast, runtime_checkable

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.host.processes import begin_reading, of_readers
from adai.lab.tasks.augment import Crops, cropped, draw_crops

Pair = tuple[Tensor, Tensor]  # inputs and targets, one example per row


class Examples(Protocol):
    """A map-style `torch.utils.data.Dataset` with a length."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """An input and its target."""
        ...


@runtime_checkable
class Source(Protocol):
    """Examples, numbered from 0, that come in batches on the training device."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places, batch by batch.

        Args:
            places: for each batch the indices of its examples, on the CPU.
            draws: the generator of all random numbers, which must not depend on how the places are split into batches.
        """
        ...


@runtime_checkable
class OnDevice(Source, Protocol):
    """A source whose examples are on the training device: a batch is a function of tensors that are there."""

    def drawn(self, draws: Generator) -> tuple[Tensor, ...]:
        """All random numbers of an epoch, on the training device."""
        ...

    def at(self, where: Tensor, drawn: tuple[Tensor, ...]) -> Pair:
        """The examples with these indices, which are on the training device, in the epoch of those random numbers."""
        ...


def same(inputs: Tensor) -> Tensor:
    """The inputs unchanged."""
    return inputs


class Tensors:
    """Inputs and targets that are on the training device. The device does not wait for the host within an epoch.

    Args:
        inputs: one example per row.
        targets: one example per row.
        prepare: is applied to each batch of inputs last, for example to normalise it.
        augment: whether to crop and mirror images (N, C, H, W) at random first.
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, prepare: Callable[[Tensor], Tensor] = same, *, augment: bool = False
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.prepare = prepare
        self.augment = augment

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.targets)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places. A crop is drawn for every example of the source once per epoch."""
        drawn = self.drawn(draws)
        # One copy to the device for the whole epoch.
        for where in torch.cat(list(places)).to(self.inputs.device).split([len(place) for place in places]):
            yield self.at(where, drawn)

    def drawn(self, draws: Generator) -> tuple[Tensor, ...]:
        """A crop for each example, `Crops`; nothing without augmentation."""
        return draw_crops(len(self), draws).to(self.inputs.device) if self.augment else ()

    def at(self, where: Tensor, drawn: tuple[Tensor, ...]) -> Pair:
        """The examples with these indices, cropped as was drawn."""
        inputs = self.inputs[where]
        if drawn:
            inputs = cropped(inputs, Crops(*drawn).of(where))
        return self.prepare(inputs), self.targets[where]


class Part:
    """Some of the examples of a source.

    Args:
        whole: the source.
        numbers: the indices of the examples in the source.
    """

    def __init__(self, whole: Source, numbers: Tensor) -> None:
        self.whole = whole
        self.numbers = numbers
        self._there = numbers  # on the training device, once they are needed there

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.numbers)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places of the part."""
        return self.whole.batches([self.numbers[place] for place in places], draws)

    def drawn(self, draws: Generator) -> tuple[Tensor, ...]:
        """As the whole, if that is `OnDevice`."""
        return cast(OnDevice, self.whole).drawn(draws)

    def at(self, where: Tensor, drawn: tuple[Tensor, ...]) -> Pair:
        """As the whole, if that is `OnDevice`."""
        if self._there.device != where.device:
            self._there = self._there.to(where.device)
        return cast(OnDevice, self.whole).at(self._there[where], drawn)


def on_device(source: Source) -> TypeGuard[OnDevice]:
    """Whether the examples, or the whole of which they are a part, are on the training device."""
    return isinstance(source.whole if isinstance(source, Part) else source, OnDevice)


def held_out(source: Source, share: float) -> tuple[Part, Part]:
    """A source without a share of its examples, and these examples; the choice is always the same.

    If the source is `Tensors`, the examples held out are not augmented; another source treats them like the others.
    """
    order = torch.randperm(len(source), generator=Generator().manual_seed(0))
    out = max(1, round(share * len(source)))
    plain = Tensors(source.inputs, source.targets, source.prepare) if isinstance(source, Tensors) else source
    return Part(source, order[out:]), Part(plain, order[:out])


class Loaded:
    """A data set of (input, target) pairs that worker processes read and collate.

    The workers start with the first batch and run until `close`. The random numbers that the data set draws from the
    global generators of torch, Python or numpy depend only on the batch, not on the number of workers.

    Args:
        data: a map-style data set.
        device: the device that batches are moved to.
        workers: the number of worker processes; with 0 this process reads.
        prepare: is applied to each batch of inputs on the device, for example to normalise it.
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
        """The number of examples."""
        return len(self.data)

    def batches(self, places: Sequence[Tensor], draws: Generator) -> Iterator[Pair]:
        """The examples at these places, in this order whatever the number of workers.

        Raises:
            UserError: an example of the data set is not a pair of tensors.
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
                generator=Generator(),  # otherwise it would draw unused seeds from torch's global generator
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
        """Stop the workers; the next batch starts them again."""
        readers = getattr(self._loader, "_iterator", None)
        self._loader = None
        if readers is not None:
            readers._shutdown_workers()  # stops them at once; torch has no public function for it


class _Places:
    """For each batch the seed of its random numbers and the indices of its examples."""

    now: Sequence[list[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)


class _Seeded:
    """Reads a batch of a data set from a list of its seed and the indices of its examples."""

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
    """The seed of a batch. It differs between the batches of an epoch, on all processes, as their first examples do."""
    return (base + int(place[0])) % 2**63


def _pair(batch: Any) -> Pair:
    """The inputs and targets of a batch that torch collated from the data set's examples."""
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
    """Stop the source's worker processes, if it has any."""
    if isinstance(source, Part):
        close(source.whole)
    if isinstance(source, Loaded):
        source.close()


def targets_of(source: Source) -> Tensor | None:
    """All targets if they are in memory, else None."""
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
    # A subclass that returns examples in its own way, for example augmented, is not just a pair of tensors.
    plain = isinstance(data, TensorDataset) and type(data).__getitem__ is TensorDataset.__getitem__
    if not plain or len(data.tensors) != 2:
        return None
    inputs, targets = data.tensors
    return inputs, targets
