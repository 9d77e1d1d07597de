"""benchmarks/gallery.py: the functions, and the paths on them."""

import math

import pytest
import torch

from benchmarks.gallery import LANDSCAPES, OPTIMIZERS, RATES, best, walk
from tests.snippets import ROOT


@pytest.mark.parametrize("key", LANDSCAPES)
def test_the_lowest_point_is_a_minimum_of_value_zero(key):
    landscape = LANDSCAPES[key]
    x, y = (torch.tensor(u, dtype=torch.float64, requires_grad=True) for u in landscape.lowest)
    value = landscape.value(x, y)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-9)
    assert [x.grad.item(), y.grad.item()] == pytest.approx([0, 0], abs=1e-4)
    assert (ROOT / f"docs/gallery/{key}.png").is_file()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_learning_rate_is_the_best_of_the_grid(optimizer):
    landscape = LANDSCAPES["rosenbrock"]
    chosen = best(landscape, optimizer, steps=20)
    assert chosen.points[0] == landscape.start
    assert len(chosen.points) == len(chosen.values) == 21
    assert chosen.mean == min(walk(landscape, optimizer, lr, 20).mean for lr in RATES) < chosen.values[0]


def test_a_walk_that_leaves_the_plane_ends_and_is_never_chosen():
    gone = walk(LANDSCAPES["rosenbrock"], "SGD, momentum 0.9", 0.5)
    assert len(gone.points) < 50
    assert gone.mean == math.inf
