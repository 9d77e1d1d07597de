"""Sources of batches: data in memory, and data read by any number of processes with the same result."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from adai.lab.tasks.sources import Loaded, Part, Tensors, close, in_memory, targets_of
from adai.lab.tasks.task import source

CPU = torch.device("cpu")


class Noisy(Dataset):
    """Draws from all three generators."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()), random.random(), np.random.rand()]), index


def read(workers, epochs=2):
    loaded = Loaded(Noisy(), CPU, workers)
    draws = torch.Generator().manual_seed(0)
    found = [torch.cat([x for x, _ in loaded.batches(torch.arange(12).split(5), draws)]) for _ in range(epochs)]
    close(loaded)
    return torch.stack(found)


def test_random_numbers_drawn_on_reading_depend_on_the_batch():
    here = read(0)
    torch.rand(3)
    random.random()
    assert torch.equal(read(0), here)
    assert not torch.equal(here[0], here[1])  # another epoch
    assert len(here[0, :, 1:].unique()) == 36  # nor is a draw repeated within one


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_random_numbers_do_not_depend_on_the_number_of_processes(workers):
    assert torch.equal(read(workers), read(0))


def test_reading_leaves_the_generators_alone():
    torch.manual_seed(0)
    random.seed(0)
    expected = torch.Generator().manual_seed(0)
    read(0)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=expected))
    assert random.random() == random.Random(0).random()


class Doubled(TensorDataset):
    """A data set that does not return its tensors unchanged."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return 2 * x, y


def test_pairs_of_tensors_are_held_in_memory_and_others_read():
    x, y = torch.arange(6.0).unsqueeze(1), torch.arange(6)
    plain = TensorDataset(x, y)
    assert isinstance(source(plain, CPU, 2), Tensors)
    some = source(Subset(Subset(plain, [5, 1, 3]), [2, 0]), CPU, 2)
    assert isinstance(some, Tensors)
    assert some.inputs.flatten().tolist() == [3, 5]
    assert some.targets.tolist() == [3, 5]
    for own in (Doubled(x, y), Subset(Doubled(x, y), [0])):
        assert in_memory(own) is None
    loaded = source(Doubled(x, y), CPU, 0)
    ((doubled, _),) = loaded.batches([torch.arange(6)], torch.Generator())
    assert torch.equal(doubled, 2 * x)


def test_targets_are_known_where_they_are_in_memory():
    whole = Tensors(torch.zeros(4, 1), torch.arange(4))
    assert targets_of(Part(whole, torch.tensor([3, 0]))).tolist() == [3, 0]
    assert targets_of(Loaded(Noisy(), CPU, 0)) is None
