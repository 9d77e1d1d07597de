"""The comparison: fair starts, a folder that can be trusted, numbers that are what they say."""

import json
import math

import numpy as np
import pytest
import torch

from adai.errors import UserError
from adai.files import write_whole
from adai.lab import train as training
from adai.lab.compare import compare
from adai.lab.data import load
from adai.lab.models import SmallNet
from adai.lab.optimizers import RECIPES, Recipe
from adai.lab.runs import RunFolder

CPU = torch.device("cpu")


def test_small_net():
    assert sum(p.numel() for p in SmallNet().parameters()) == 9978
    assert SmallNet(3, 32, 5)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


class Recorder(torch.optim.SGD):
    """Keeps the parameters it is given, and the gradients of its first step."""

    def __init__(self, params, log):
        super().__init__(params, lr=0.0)
        self.log = log
        self.log["start"] = [p.detach().clone() for g in self.param_groups for p in g["params"]]

    def step(self, closure=None):
        self.log.setdefault("gradients", [p.grad.clone() for g in self.param_groups for p in g["params"]])
        super().step(closure)


def test_seed_is_the_same_start_and_order_for_every_optimizer_and_another_one_for_another_seed():
    logs = [{}, {}, {}]
    for log, seed in zip(logs, (0, 0, 1), strict=True):
        list(training.train(Recipe("", Recorder, {"log": log}), load("digits", device=CPU), seed=seed, epochs=1))
        torch.rand(3)  # whatever else draws random numbers in between
    a, b, other = logs
    assert all(map(torch.equal, a["start"], b["start"]))
    assert all(map(torch.equal, a["gradients"], b["gradients"]))
    assert not torch.equal(a["start"][0], other["start"][0])
    assert not torch.equal(a["gradients"][0], other["gradients"][0])


def test_data_order_differs_between_seeds_at_equal_weights():
    first = [torch.randperm(10, generator=torch.Generator().manual_seed(seed)).tolist() for seed in (0, 1)]
    assert first[0] != first[1]


def test_schedule_warms_up_and_falls_to_zero():
    factors = [training.schedule(step, 1000) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 101)
    assert max(factors) == factors[100] == 1
    assert np.all(np.diff(factors[:101]) > 0)
    assert np.all(np.diff(factors[100:]) < 0)
    assert factors[1000] == pytest.approx(0, abs=1e-15)
    assert training.schedule(9, 20) == pytest.approx(10 / 11)  # a short run warms up for half of it


def test_training_learns_and_evaluates_on_the_test_images():
    data = load("digits", device=CPU)
    epochs = list(training.train(RECIPES["adai"], data, seed=0, epochs=4))
    assert [row["epoch"] for row in epochs] == [1, 2, 3, 4]
    assert epochs[-1]["test_error"] < 12
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"] / 5
    assert all(row["ms_per_step"] > 0 for row in epochs)
    always_zero = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.nn.init.zeros_(always_zero[1].weight)
    always_zero[1].bias.data = torch.eye(10)[0]
    share_of_others = (data.test.labels != 0).double().mean().item()
    assert training.test_error(always_zero, data) == pytest.approx(100 * share_of_others)


def test_a_comparison_writes_everything_and_is_not_done_twice(tmp_path):
    folder = RunFolder(tmp_path / "runs")
    seen = []

    def do(**options):
        seen.clear()
        compare(folder, seeds=2, epochs=2, **options, progress=lambda label, epochs: seen.append((label, epochs)))

    do(optimizers=["adai", "sgd"])
    assert len([s for s in seen if s[1] == 1]) == 8
    kept = folder.metrics_file("adai", 1).read_bytes()
    do(optimizers=["sgd", "adai"])
    assert [s[1] for s in seen] == [2] * 4
    assert folder.metrics_file("adai", 1).read_bytes() == kept

    config = json.loads((folder.path / "config.json").read_text())
    assert config["optimizers"]["sgd"] == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    assert config["torch"] == torch.__version__
    assert not list(folder.path.glob(".*"))


def test_an_interrupted_comparison_goes_on_to_the_same_end(tmp_path):
    straight, broken = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    compare(straight, optimizers=["adai", "sgd"], seeds=1, epochs=2)

    def interrupt(label, epochs):
        if label.startswith("SGD") and epochs == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(broken, optimizers=["adai", "sgd"], seeds=1, epochs=2, progress=interrupt)
    assert broken.finished("adai", 0)
    assert not broken.finished("sgd", 0)
    with broken.metrics_file("sgd", 0).open("a") as file:
        file.write('{"epoch": 2, "tr')  # killed in the middle of a line
    assert len(broken.metrics("sgd", 0)) == 1
    compare(broken, optimizers=["adai", "sgd"], seeds=1, epochs=2)
    for name in ("adai", "sgd"):
        for a, b in zip(straight.metrics(name, 0), broken.metrics(name, 0), strict=True):
            assert {k: v for k, v in a.items() if k != "ms_per_step"} == {
                k: v for k, v in b.items() if k != "ms_per_step"
            }


def test_optimizers_and_seeds_are_added_and_other_settings_refused(tmp_path):
    folder = RunFolder(tmp_path)
    compare(folder, optimizers=["sgd"], seeds=1, epochs=1)
    compare(folder, optimizers=["adam"], seeds=2, epochs=1)
    assert [folder.finished(name, 1) for name in ("adam", "sgd")] == [True, False]
    assert sorted(folder.config()["optimizers"]) == ["adam", "sgd"]
    with pytest.raises(UserError, match="holds a comparison with another epochs; give another folder with --out"):
        compare(folder, optimizers=["sgd"], seeds=1, epochs=2)


def test_nan_is_kept_as_null_and_read_as_nan(tmp_path):
    folder = RunFolder(tmp_path)
    folder.restart("adai", 0)
    folder.append("adai", 0, {"epoch": 1, "train_loss": math.nan})
    json.loads(folder.metrics_file("adai", 0).read_text(), parse_constant=pytest.fail)
    assert math.isnan(folder.metrics("adai", 0)[0]["train_loss"])


def test_files_are_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "x.txt"
    write_whole(file, lambda part: part.write_text("old"))

    def fail(part):
        part.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
