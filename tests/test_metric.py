"""Metrics add up over batches, and the lab compares, tunes and reports by a task's own metric."""

import json
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from adai.lab.results.comparison import read
from adai.lab.results.summary import measure_of, summarise, verdict
from adai.lab.settings import Settings
from adai.lab.tasks import metric
from adai.lab.tasks.task import Task
from adai.lab.training.train import train

SCORES = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 0.0, 5.0], [1.0, 0.0, 0.0]])
CLASSES = torch.tensor([0, 1, 0, 2])
NATS = float(nn.functional.cross_entropy(SCORES, CLASSES))


@pytest.mark.parametrize(
    ("one", "outputs", "targets", "expected"),
    [
        (metric.error, SCORES, CLASSES, 50.0),
        (metric.accuracy, SCORES, CLASSES, 50.0),
        (metric.bits, SCORES, CLASSES, NATS / math.log(2)),
        (metric.perplexity, SCORES, CLASSES, math.exp(NATS)),
        (metric.rmse(10), torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0, 0.0]), 20.0),
    ],
)
def test_the_value_does_not_depend_on_the_batches(one, outputs, targets, expected):
    for sizes in ([4], [1, 3], [1, 1, 2]):
        parts = zip(outputs.split(sizes), targets.split(sizes), strict=True)
        totals, weights = zip(*(one.sums(*part) for part in parts), strict=True)
        assert one.over(float(sum(totals)), float(sum(weights))) == pytest.approx(expected, rel=1e-6)


def test_no_target_no_value():
    assert metric.error.over(0.0, 0.0) is None


def points(one: metric.Metric) -> Task:
    x = torch.linspace(-1, 1, 64).unsqueeze(1)
    data = TensorDataset(x, (3 * x).squeeze(1))
    return Task(nn.Sequential(nn.Linear(1, 1), nn.Flatten(0)), data, data, nn.functional.mse_loss, metric=one)


@pytest.mark.parametrize("higher", [False, True])
def test_the_better_optimizer_is_first_whatever_the_direction(tmp_path, higher):
    one = metric.rmse()
    if higher:
        one = one._replace(name="score", value=lambda mean: -mean, lower_is_better=False, unit="%")
    rates = {"slow": 1e-4, "fast": 0.3}
    for name, lr in rates.items():
        for seed in range(3):
            settings = Settings.of("x:y", optimizer="torch:SGD", label=name, lr=lr, seed=seed, epochs=2, warmup_steps=0)
            train(settings, tmp_path / name / f"seed{seed}", factory=partial(points, one))
    config = {"epochs": 2, "seeds": 3, "optimizers": {name: {"lr": lr} for name, lr in rates.items()}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    comparison = read(tmp_path)
    summary = summarise(comparison)
    assert [row.optimizer for row in summary.rows] == ["fast", "slow"]
    assert measure_of(comparison).name == ("test score" if higher else "test RMSE")
    if not higher:
        assert "slow has a higher test RMSE than" in verdict(summary)
    best = summary.rows[0]
    column = next(e for e in comparison.entrants if e.name == "fast").runs[0].column("test_metric")
    assert best.best[0] == (max(column) if higher else min(column))


def test_old_runs_have_no_metric(tmp_path):
    settings = Settings.of("x:y", optimizer="torch:SGD", lr=0.1, epochs=1, warmup_steps=0)
    plain = partial(points, metric.rmse())
    run = train(settings, tmp_path / "run", factory=lambda: plain()._replace(metric=None))
    assert run.metric is None
    assert run.rows()[0]["test_metric"] is None
    assert run.start.test_loss is not None
