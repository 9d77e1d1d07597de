"""The benchmark of where a warm-up acts: its rule is Adai's, and the warm-up is all that differs."""

import math

import pytest

from adai import Adai
from benchmarks import warm_up


def test_without_a_warm_up_its_rule_is_adais(monkeypatch):
    monkeypatch.setattr(warm_up, "WARM_UP", 0)
    monkeypatch.setattr(warm_up, "STEPS", 20)

    def adai(model):
        return Adai(model.parameters(), lr=0.1, weight_decay=warm_up.DECAY, min_inertia=0.9).step

    expected = warm_up.final_loss(adai, 256, seed=0)
    monkeypatch.setattr(warm_up, "LR", 0.1)
    assert warm_up.final_loss(warm_up.entering, 256, seed=0) == pytest.approx(expected, rel=1e-4)


def test_a_warm_up_of_the_gradient_trains_where_one_of_the_step_diverges():
    seeds = range(4)
    assert all(warm_up.final_loss(warm_up.entering, 256, seed) < 0.01 for seed in seeds)
    assert not all(math.isfinite(warm_up.final_loss(warm_up.from_sgd, 256, seed)) for seed in seeds)
