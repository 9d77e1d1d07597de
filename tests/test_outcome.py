"""What became of a run: finished, diverged, or nothing learned; and the evaluation before the first step."""

import json
import os

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import TensorDataset

from adai.cli import main
from adai.errors import UserError
from adai.lab.host.ranks import Ranks
from adai.lab.results.comparison import read
from adai.lab.results.outcome import CHANCE, Start, outcome, start_of
from adai.lab.results.run import Run
from adai.lab.results.summary import summarise, verdict
from adai.lab.settings import Settings
from adai.lab.tasks.data import load
from adai.lab.tasks.targets import Counted
from adai.lab.tasks.task import Task
from adai.lab.training.learner import Learner
from adai.lab.training.metrics import Frequencies
from adai.lab.training.train import train
from adai.report.tables import write_csv
from tests.folders import comparison
from tests.untimed import untimed

HERE = "tests.test_outcome"


def row(train_loss=1.0, test_error=None, test_loss=1.0):
    return {"train_loss": train_loss, "test_error": test_error, "test_loss": test_loss}


@pytest.mark.parametrize(
    ("last", "start", "expected"),
    [
        (row(test_error=3.0), Start(2.3, 90.0, 88.65), "finished"),
        (row(test_error=88.65), Start(2.3, 90.0, 88.65), "did not learn"),
        (row(test_error=90.2), Start(2.3, 90.0, 88.65), "did not learn"),
        (row(test_error=88.0), Start(2.3, 90.0, 88.65), "did not learn"),
        (row(test_error=87.65), Start(2.3, 90.0, 88.65), "finished"),
        (row(test_error=90.2), Start(), "finished"),  # undecided
        (row(test_loss=0.5), Start(1.0), "finished"),
        (row(test_loss=6e6), Start(1.0), "did not learn"),
        (row(test_loss=1.0), Start(1.0), "did not learn"),
        (row(test_loss=None), Start(1.0), "did not learn"),
        (row(test_loss=6e6), Start(), "finished"),  # undecided
        (row(train_loss=None, test_error=3.0), Start(2.3, 90.0, 88.65), "diverged"),
    ],
)
def test_what_became_of_a_run(last, start, expected):
    assert outcome([row(), last], 2, start) == expected
    if expected != "diverged":
        assert outcome([last], 2, start) == "unfinished"
    assert outcome([], 2, start) == "unfinished"


def test_a_run_without_a_start_is_judged_by_the_chance_of_its_data_set(tmp_path):
    assert start_of(tmp_path, {"task": "mnist"}) == Start(None, None, 88.65)
    for undecided in ({"task": "mnist", "limit": 10}, {"task": "mnist", "validation": 0.1}, {"task": "a:b"}):
        assert start_of(tmp_path, undecided) == Start()
    (tmp_path / "start.json").write_text("{")
    with pytest.raises(UserError, match=r"start\.json is damaged"):
        start_of(tmp_path, {})


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CHANCE))
def test_chance_is_that_of_the_test_images(name):
    if name != "digits" and not os.environ.get("ADAI_DATA_DIR"):
        pytest.skip("no images here")
    if name == "cifar100":
        pytest.skip("its test images are balanced as those of cifar10 are, and take long to read")
    labels = load(name, device=torch.device("cpu"), data_dir=None, limit=None).test.labels
    assert pytest.approx(100 * (1 - int(torch.bincount(labels).max()) / len(labels))) == CHANCE[name]


def test_chance_counts_classes_alone():
    counted, outputs = Frequencies(Counted(cross_entropy)), torch.zeros(5, 3)
    assert counted.chance_error(Ranks()) is None
    counted.add(outputs, torch.tensor([0, 1, 1, -100, 2]))
    counted.add(outputs[:, :1], torch.zeros(5))  # a loss, not classes
    assert counted.chance_error(Ranks()) == 50.0


class Moved(nn.Module):
    """A net with all that an evaluation could move: dropout, batch norm, a buffer that counts what it sees."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x)
        return self.net(x + 0.01 * torch.randn_like(x))


def task():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=draws)
    y = (x[:, 0] > 0.2).long()
    return Task(Moved(), TensorDataset(x, y), TensorDataset(x[:30], y[:30]))


def test_the_first_evaluation_does_not_change_training(tmp_path, monkeypatch):
    settings = Settings.of(f"{HERE}:task", epochs=3, batch=8)
    run = train(settings, tmp_path / "with")
    y = task().test.tensors[1]
    assert run.start.chance_error == pytest.approx(100 * (1 - max(y.float().mean(), 1 - y.float().mean())))
    assert run.start.test_error is not None
    assert run.start.test_loss is not None
    monkeypatch.setattr(Learner, "start", lambda self: dict.fromkeys(Start._fields))
    assert untimed(train(settings, tmp_path / "without")) == untimed(run)


def test_a_resumed_run_has_its_start_and_one_of_an_early_version_gets_it(tmp_path):
    settings = Settings.of(f"{HERE}:task", epochs=3, batch=8)
    whole = train(settings, tmp_path / "whole")

    def stop(rows):
        if len(rows) == 1:
            raise KeyboardInterrupt

    for name, early in (("interrupted", False), ("early", True)):
        with pytest.raises(KeyboardInterrupt):
            train(settings, tmp_path / name, progress=stop)
        if early:
            (tmp_path / name / "start.json").unlink()
        run = train(settings, tmp_path / name)
        assert run.start == whole.start
        assert untimed(run) == untimed(whole)


def test_a_start_of_other_settings_is_not_kept(tmp_path):
    run = Run(tmp_path)
    run.open({"lr": 1}, {})
    run.write_start({"test_loss": 1.0, "test_error": 2.0, "chance_error": float("nan")})
    assert run.start == Start(1.0, 2.0, None)
    run.open({"lr": 2}, {})  # nothing had been trained there
    assert not run.started


def regression():
    x = torch.linspace(-1, 1, 40).unsqueeze(1)
    return Task(nn.Linear(1, 1), TensorDataset(x, 2 * x), TensorDataset(x, 2 * x), mse_loss)


def test_a_finite_blow_up_is_named_with_its_cure(tmp_path, capsys):
    command = ["train", "--task", f"{HERE}:regression", "--optimizer", "sgd-plain", "--epochs", "2", "--batch", "40"]
    command += ["--warmup-steps", "0", "--schedule", "constant"]
    assert main([*command, "--lr", "1e3", "--out", str(tmp_path / "dead")]) == 0
    out = capsys.readouterr().out
    assert "Did not learn: test loss " in out
    assert "is no better than before training (" in out
    cure = "a smaller learning rate, a longer warm-up or clipped gradients may help (--lr, --warmup-steps, --clip-norm)"
    assert cure in out
    assert Run(tmp_path / "dead").status == "did not learn"
    assert main([*command, "--lr", "0.1", "--out", str(tmp_path / "well")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("2 epochs, test loss ")
    assert main([*command, "--lr", "0.1", "--epochs", "1", "--out", str(tmp_path / "short")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 epoch, test loss ")


def test_dead_runs_are_in_no_mean_and_the_verdict_counts_them(tmp_path):
    path = comparison(tmp_path / "r", {"adai": [3.0, 3.1, 90.0, 3.3, 89.7], "sgd": [3.5, 3.4, 3.9, 3.8, 3.6]})
    found = summarise(read(path))
    adai = next(one for one in found.rows if one.optimizer == "adai")
    assert adai.last == {0: 3.0, 1: 3.1, 3: 3.3}
    assert adai.runs == "3 of 5, 2 did not learn"
    text = verdict(found)
    assert text.startswith("Adai: 2 of 5 runs did not learn; a smaller ")
    assert "What follows is of the other runs. At untuned CIFAR settings" in text
    assert text.endswith("(3 seeds, 95 % interval).")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "task": "nobody:knows"}))
    assert "did not learn" not in verdict(summarise(read(path)))
    for seed in (2, 4):
        (path / "adai" / f"seed{seed}" / "start.json").write_text('{"chance_error": 50.0}')
    assert "Adai: 2 of 5 runs did not learn" in verdict(summarise(read(path)))


def test_below_three_seeds_a_difference_has_no_interval(tmp_path):
    few = read(comparison(tmp_path / "few", {"adai": [3.0, 3.1], "sgd": [3.5, 3.4]}))
    sgd = few.summary().loc["sgd"]
    assert sgd["difference"] == pytest.approx(0.4)
    assert sgd[["difference_low", "difference_high"]].isna().all()
    assert "+0.40 (no interval)" in str(few)
    write_csv(tmp_path / "few.csv", summarise(few))
    assert "nan" not in (tmp_path / "few.csv").read_text()
    enough = read(comparison(tmp_path / "enough", {"adai": [3.0, 3.1, 3.3], "sgd": [3.5, 3.4, 3.9]}))
    assert enough.summary().loc["sgd", ["difference_low", "difference_high"]].notna().all()
