"""One training run: fair starts, numbers that are what they say, settings that do what they say."""

import functools
import json
import math
import os
import sys
import types
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from adai.cli import main
from adai.errors import UserError
from adai.lab.host import machine
from adai.lab.host.ranks import Ranks
from adai.lab.models import SmallNet
from adai.lab.optimizers.recipes import RECIPES, Recipe
from adai.lab.queue.compare import compare
from adai.lab.results.run import Run
from adai.lab.schedules import PAPER_SCHEDULES, factor
from adai.lab.settings import Settings
from adai.lab.tasks.data import Dataset, Images, load
from adai.lab.tasks.sources import Tensors
from adai.lab.tasks.task import Task, image_task
from adai.lab.training import learner as learning
from adai.lab.training.learner import COLUMNS, Learner
from adai.lab.training.metrics import Tally, inertia
from adai.lab.training.train import train
from tests.untimed import untimed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    """A small part of the digits."""
    return image_task(load("digits", device=CPU, limit=200), "smallnet", augment=False)


def learner(factory, **given):
    return Learner(Settings.of("digits", **given), factory, CPU, Ranks())


class Recorder(torch.optim.SGD):
    """Keeps the parameters it is given, and the gradients of its first step."""

    def __init__(self, params, lr, log):
        super().__init__(params, lr=lr)
        log["start"] = [p.detach().clone() for g in self.param_groups for p in g["params"]]
        self.log = log

    def step(self, closure=None):
        self.log.setdefault("gradients", [p.grad.clone() for g in self.param_groups for p in g["params"]])
        super().step(closure)


@pytest.fixture
def record(monkeypatch, digits):
    """A maker of what an optimizer sees at the start of a run with these settings."""

    def run(factory=digits, **given):
        log = {}
        monkeypatch.setitem(RECIPES, "recorder", Recipe("", functools.partial(Recorder, log=log), {"lr": 0.0}))
        row = learner(factory, optimizer="recorder", **given).epoch(0)
        return log | {"row": row}

    return run


def test_seed_is_the_same_start_and_order_for_every_optimizer_and_another_one_for_another_seed(record):
    a = record(seed=0)
    torch.rand(3)  # whatever else draws random numbers in between
    b, other = record(seed=0), record(seed=1)
    assert all(map(torch.equal, a["start"], b["start"]))
    assert all(map(torch.equal, a["gradients"], b["gradients"]))
    assert not torch.equal(a["start"][0], other["start"][0])
    assert not torch.equal(a["gradients"][0], other["gradients"][0])


def test_data_order_differs_between_seeds_at_equal_weights(digits, record):
    task = digits()

    def same_weights():
        model = deepcopy(task.model)
        model.load_state_dict(weights)
        return task._replace(model=model)

    weights = {name: value.clone() for name, value in task.model.state_dict().items()}
    a, b = record(same_weights, seed=0), record(same_weights, seed=1)
    assert all(map(torch.equal, a["start"], b["start"]))
    assert not torch.equal(a["gradients"][0], b["gradients"][0])


# --- the row ---------------------------------------------------------------------------------------------------------


def test_training_learns_and_writes_every_column(tmp_path):
    rows = train(Settings.of("digits", epochs=4), tmp_path / "run").rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["test_error"] < 12
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] / 5
    assert tuple(rows[0])[: len(COLUMNS)] == COLUMNS
    quantiles = ["inertia_01", "inertia_10", "inertia_50", "inertia_90", "inertia_99"]
    assert list(rows[0])[len(COLUMNS) :] == ["v_hat_mean", *quantiles]
    for row in rows:
        without = {"peak_memory_bytes", "train_metric", "test_metric"}  # on a CPU, and of a task without a metric
        assert all(row[key] is None for key in without)
        assert all(math.isfinite(value) for key, value in row.items() if key not in without)
        assert row["test_error_top5"] < row["test_error"]
        assert row["images_per_second"] == pytest.approx(1198 / row["seconds"])
        assert 0 <= row["inertia_01"] <= row["inertia_50"] <= row["inertia_99"] <= 0.999
    assert rows[0]["optimizer_state_bytes"] == 9978 * 3 * 4 + 8 * 4  # m, v, c; steps


def test_training_error_and_loss_are_those_of_the_steps_own_passes(record, digits):
    row = record(batch=200)["row"]  # learning rate 0 and one batch: nothing changes within the epoch
    torch.manual_seed(0)
    task = digits()
    outputs = task.model(task.train.prepare(task.train.inputs))
    assert row["train_loss"] == pytest.approx(cross_entropy(outputs, task.train.targets).item(), rel=1e-6)
    assert row["train_error"] == pytest.approx(100 * (outputs.argmax(1) != task.train.targets).double().mean().item())


def test_losses_are_means_over_examples_also_when_the_last_batch_is_small(digits, record):
    row = record(batch=150)["row"]  # and one of 50
    task = digits()
    assert row["steps"] == 2
    task.model.eval()
    losses = []

    def keep(outputs, targets):
        losses.append((cross_entropy(outputs, targets), len(targets)))
        return losses[-1][0]

    row = record(lambda: task._replace(model=deepcopy(task.model), loss=keep), batch=150)["row"]
    (first, n), (second, m) = losses[:2]
    assert (n, m) == (150, 50)
    assert row["train_loss"] == pytest.approx((first.item() * n + second.item() * m) / 200, rel=1e-6)


def test_errors_count_the_wrong_and_those_not_among_the_five():
    tally = Tally(CPU, top=True)
    outputs = torch.arange(20.0).view(2, 10)  # class 9 likeliest, then 8, …
    tally.add(torch.tensor(1.5), outputs, torch.tensor([9, 5]))
    tally.add(torch.tensor(4.5), outputs[:1], torch.tensor([4]))
    assert tally.means(Ranks()) == (3, pytest.approx(2.5), pytest.approx(200 / 3), pytest.approx(100 / 3), None)


def test_gradient_norm_is_that_of_the_raw_gradient_before_clipping_and_before_a_step_that_writes_to_it(digits, record):
    log = record(batch=200)
    norm = math.sqrt(sum(g.double().square().sum().item() for g in log["gradients"]))
    assert log["row"]["grad_norm"] == pytest.approx(norm, rel=1e-5)
    for options in ({"optimizer": "adabound", "weight_decay": 100.0}, {"optimizer": "sgd", "clip_norm": 1e-3}):
        assert learner(digits, batch=200, **options).epoch(0)["grad_norm"] == pytest.approx(norm, rel=1e-5)


def test_clipping_limits_the_gradient(record):
    clipped = record(batch=200, clip_norm=0.5)["gradients"]
    assert math.sqrt(sum(g.square().sum().item() for g in clipped)) == pytest.approx(0.5, rel=1e-4)


def test_inertia_is_that_of_the_rule(digits):
    run = learner(digits, optimizer="adai-paper")
    row = run.epoch(0)
    v_hat = torch.cat(
        [(s["exp_avg_sq"].double() / (1 - 0.99 ** s["step"].item())).flatten() for s in run.optimizer.state.values()]
    )
    mu = (1 - 0.1 * v_hat / v_hat.mean()).clamp(0, 0.999)
    assert row["v_hat_mean"] == pytest.approx(v_hat.mean().item(), rel=1e-5)
    for name, q in (("01", 0.01), ("10", 0.1), ("50", 0.5), ("90", 0.9), ("99", 0.99)):
        assert row[f"inertia_{name}"] == pytest.approx(torch.quantile(mu, q).item(), abs=1e-5)
    assert inertia(learner(digits, optimizer="adam").optimizer) == {}


def test_inertia_of_a_large_net_is_that_of_a_sample():
    p = torch.nn.Parameter(torch.zeros(300_000))
    optimizer = RECIPES["adai-paper"].build([p])
    p.grad = torch.linspace(0, 1, 300_000)
    optimizer.step()
    row = inertia(optimizer)
    assert row == inertia(optimizer)
    assert row["v_hat_mean"] == pytest.approx(1 / 3, rel=1e-4)
    for name, q in (("10", 0.1), ("50", 0.5), ("90", 0.9)):  # μ = 1 - 0.3 u² for u uniform
        assert row[f"inertia_{name}"] == pytest.approx(min(0.999, 1 - 0.3 * (1 - q) ** 2), abs=2e-3)


def test_nan_ends_the_run_as_diverged(tmp_path, digits, capsys):
    settings = Settings.of("digits", epochs=3)
    calls = iter(range(100))

    def bad(outputs, targets):
        return cross_entropy(outputs, targets) * (
            math.nan if next(calls) == 9 else 1
        )  # three are the trial's; in the second epoch

    run = train(settings, tmp_path, factory=lambda: digits()._replace(loss=bad))
    assert run.status == "diverged"
    text = (tmp_path / "metrics.jsonl").read_text()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    assert len(rows) == 2
    assert rows[1]["train_loss"] is rows[1]["test_loss"] is rows[1]["test_error"] is rows[1]["v_hat_mean"] is None
    assert [file.name for file in tmp_path.glob("checkpoint*")] == ["checkpoint-000001.pt"]  # the last good state
    seen = []
    assert train(settings, tmp_path, progress=seen.append).status == "diverged"
    assert [len(rows) for rows in seen] == [2]
    assert main(["train", "--epochs", "3", "--out", str(tmp_path)]) == 0
    assert "Diverged in epoch 2: the loss is not a finite number" in capsys.readouterr().out


# --- settings --------------------------------------------------------------------------------------------------------


def test_warm_up_rises_and_a_cosine_falls_to_zero():
    cosine = functools.partial(factor, kind="cosine", task="digits", epochs=10, warmup=100)
    factors = [cosine(step, steps=1000) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 101)
    assert max(factors) == factors[100] == 1
    assert np.all(np.diff(factors[:101]) > 0)
    assert np.all(np.diff(factors[100:]) < 0)
    assert factors[1000] == pytest.approx(0, abs=1e-15)
    assert cosine(9, steps=20) == pytest.approx(10 / 11)  # a short run warms up for half of it


def test_the_papers_milestones_are_scaled_to_the_epochs_of_the_run():
    paper = PAPER_SCHEDULES["cifar10"]
    assert paper.scaled(200) == paper
    assert paper.scaled(30).milestones == (12, 24)
    assert paper.scaled(1).milestones == (1, 1)  # a single epoch is at the full rate

    def at(epoch, **given):
        return factor(7 * epoch + 6, kind="paper", task="cifar10", steps=7 * 30, epochs=30, **given)

    assert [at(epoch, warmup=0) for epoch in (0, 11, 12, 23, 24, 29)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert factor(0, kind="paper", task="cifar10", steps=210, epochs=30, warmup=0) == 1
    assert factor(1, kind="paper", task="cifar10", steps=210, epochs=30, warmup=3) == 0.5
    assert factor(150, kind="constant", task="cifar10", steps=210, epochs=30, warmup=3) == 1


def test_the_rate_of_each_step_is_the_schedules(digits):
    run = learner(digits, optimizer="sgd", lr=3.0, epochs=2, warmup_steps=3)
    seen = []
    run.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
    rows = [run.epoch(0), run.epoch(1)]
    expected = [3 * factor(step, kind="cosine", task="digits", epochs=2, steps=8, warmup=3) for step in range(8)]
    assert seen == expected
    assert [row["lr"] for row in rows] == [expected[3], expected[7]]


def test_defaults_are_the_papers_on_cifar_and_warm_up_elsewhere():
    cifar = Settings.of("cifar100")
    assert (cifar.model, cifar.epochs, cifar.batch, cifar.schedule) == ("resnet34", 200, 128, "paper")
    assert cifar.warmup_steps == 0
    assert Settings.of("cifar10", model="vgg16").warmup_steps == 0
    small = Settings.of("cifar10", model="convnet")
    assert (small.schedule, small.epochs, small.warmup_steps) == ("paper", 200, 100)
    assert cifar.augment
    assert Settings.of("cifar10", schedule="cosine").warmup_steps == 100
    mnist = Settings.of("mnist", optimizer="sgd", lr=0.3, epochs=7)
    assert (mnist.warmup_steps, mnist.schedule, mnist.epochs, mnist.augment) == (100, "cosine", 7, False)
    assert mnist.options == {"lr": 0.3, "momentum": 0.9, "weight_decay": 5e-4}
    assert RECIPES["sgd"].options["lr"] == 0.1  # what was given is not kept in the recipe


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; choose from adai"),
        ({"model": "resnet19"}, "unknown model 'resnet19'; choose from smallnet"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; choose from fp32, tf32, bf16, fp16"),
        ({"schedule": "step"}, "unknown schedule 'step'; choose from paper, cosine, constant"),
        ({"schedule": "paper"}, "the paper prints no schedule for digits; choose cosine or constant"),
    ],
)
def test_unknown_names_are_said_in_one_line(given, message, capsys):
    with pytest.raises(UserError, match=message):
        Settings.of("digits", **given)
    name, value = next(iter(given.items()))
    assert main(["train", f"--{name}", value]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"adai train: {message}")
    assert captured.err.count("\n") == 1


def test_an_unknown_setting_is_an_error():
    with pytest.raises(UserError, match=r"unknown setting 'epoch'; did you mean epochs\?"):
        Settings.of("digits", epoch=1)
    with pytest.raises(UserError, match="unknown setting 'color'; choose from lr, weight_decay, task, "):
        Settings.of("digits", color=1)


def test_accumulation_gives_the_step_of_the_whole_batch(record):
    """Batch norm apart, which takes its statistics from the parts: a net without it."""
    rng = torch.Generator().manual_seed(0)
    data = Tensors(torch.randn(50, 3, generator=rng), torch.randint(4, (50,), generator=rng))

    def linear():
        return Task(torch.nn.Linear(3, 4), data, data)

    whole = record(linear, batch=50)
    for parts in (3, 50, 99):
        cut = record(linear, batch=50, accumulate=parts)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole["gradients"], cut["gradients"], strict=True))
        assert cut["row"]["steps"] == 1
        assert cut["row"]["train_loss"] == pytest.approx(whole["row"]["train_loss"])


@pytest.mark.parametrize("given", [{"precision": "bf16"}, {"precision": "fp16"}, {"channels_last": True}])
def test_every_precision_and_layout_learns(given, digits, tmp_path):
    rows = train(Settings.of("digits", epochs=6, batch=32, lr=0.3, **given), tmp_path, factory=digits).rows()
    assert rows[-1]["test_error"] < 25
    assert rows[-1]["grad_norm"] > 0


def test_precision_and_layout_reach_the_net(digits):
    seen = []

    def look(module, inputs, output):
        seen.append((output.dtype, inputs[0].is_contiguous(memory_format=torch.channels_last)))

    for given in ({"precision": "bf16"}, {"channels_last": True}):
        run = learner(digits, **given)
        run.model[3].register_forward_hook(look)
        run.epoch(0)
        assert run.model[3].weight.dtype == torch.float32
    assert seen[0] == (torch.bfloat16, False)
    assert seen[-1] == (torch.float32, True)


@pytest.mark.parametrize(
    ("given", "off"), [({"channels_last": True}, 1e-5), ({"precision": "bf16", "channels_last": True}, 0.2)], ids=str
)
def test_precision_and_layout_leave_loss_and_gradient_of_a_step_what_they_are_but_for_rounding(given, off, record):
    """Of ResNet-8. In bf16 each product is off by 2^-9, and what is near 0 may fall on the other side of a ReLU."""
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=draws)
    images = Images(pixels, torch.arange(64) % 10)
    bytes_ = torch.full((3, 1, 1), 128.0)
    factory = image_task(Dataset("noise", 10, images, images, bytes_, bytes_ / 2), "resnet8", augment=False)
    plain, other = record(factory, batch=64), record(factory, batch=64, **given)
    a, b = (torch.cat([g.flatten() for g in log["gradients"]]) for log in (other, plain))
    print(given, float((a - b).norm() / b.norm()), other["row"]["train_loss"] / plain["row"]["train_loss"] - 1)
    assert 0 < (a - b).norm() < off * b.norm()
    assert other["row"]["train_loss"] == pytest.approx(plain["row"]["train_loss"], rel=off / 20)


def test_the_precision_is_in_the_record(digits, tmp_path):
    run = train(Settings.of("digits", epochs=1, precision="bf16", channels_last=True), tmp_path, factory=digits)
    config = json.loads((run.path / "config.json").read_text())
    assert (config["precision"], config["channels_last"]) == ("bf16", True)


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H100")
    machine.default_device.cache_clear()
    yield
    machine.default_device.cache_clear()


def test_a_gpu_is_used_where_there_is_one_and_that_is_said_once(gpu, caplog):
    assert [Settings.of("digits").device for _ in range(2)] == ["cuda", "cuda"]
    said = "Using cuda (NVIDIA H100), because no device was given; the device cpu uses the CPU."
    assert [record.getMessage() for record in caplog.records] == [said]
    assert Settings.of("digits", device="cpu").device == "cpu"
    assert Settings.of("digits", device=None).device == "cuda"


def test_a_device_that_is_named_is_used_in_silence(gpu, caplog, tmp_path):
    assert main(["train", "--epochs", "1", "--limit", "100", "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert Run(tmp_path).config()["device"] == "cpu"
    assert caplog.records == []


def test_without_a_gpu_it_is_the_cpu():
    assert Settings.of("digits").device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_runs_on_ray_that_ask_for_no_gpu_get_none(gpu, tmp_path):
    class OnRay:
        """Does nothing."""

        gpus = 0.0

        def __call__(self, jobs, tick):
            assert {job.settings.device for job in jobs} == {"cpu"}
            return []

    assert compare(tmp_path, optimizers=["sgd"], seeds=1, execute=OnRay()) == []


def test_clipping_takes_as_many_operators_for_any_number_of_tensors():
    """And its norm is the one in the row."""

    def operators(layers, **given):
        data = Tensors(torch.randn(8, 3), torch.arange(8) % 3)
        run = learner(
            lambda: Task(torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(layers))), data, data), **given
        )
        run.epoch(0)
        for p in run.model.parameters():
            p.grad = torch.ones_like(p)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            norm = run._clipped()
        assert norm.item() == pytest.approx((12 * layers) ** 0.5)
        gradients = torch.cat([p.grad.flatten() for p in run.model.parameters()])
        if given:
            assert gradients.norm().item() == pytest.approx(0.5, rel=1e-5)
        return sum(event.count for event in profile.key_averages() if event.key == "aten::_foreach_norm")

    for given in ({}, {"clip_norm": 0.5}):
        assert operators(2, **given) == operators(20, **given) == 1


def test_deterministic_is_for_the_run_alone(digits, tmp_path):
    seen = []
    train(
        Settings.of("digits", epochs=1, deterministic=True),
        tmp_path,
        factory=digits,
        progress=lambda rows: seen.append(torch.are_deterministic_algorithms_enabled()),
    )
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_evaluation_leaves_batch_norm_alone(digits):
    run = learner(digits)
    run.epoch(0)
    before = run.model[1].running_mean.clone()
    run._evaluate()
    assert torch.equal(run.model[1].running_mean, before)
    assert learning.EVALUATION_BATCH > len(run.test) > 100


@pytest.mark.slow
def test_a_subset_of_real_cifar_10_is_learnt(tmp_path):
    folder = os.environ.get("ADAI_DATA_DIR")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("ADAI_DATA_DIR, a folder with cifar10, is not set")
    settings = Settings.of("cifar10", model="smallnet", lr=0.03, batch=32, limit=1000, epochs=3, warmup_steps=10)
    run = train(settings, tmp_path / "run", data_dir=Path(folder))
    rows = run.rows()
    assert (rows[0]["steps"], settings.augment) == (32, True)
    assert [row["lr"] for row in rows] == pytest.approx([0.03, 0.03, 0.003])
    assert rows[-1]["test_error"] < 78  # of guessing's 90
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_no_network_and_no_data_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("ADAI_DATA_DIR", raising=False)
    monkeypatch.setenv("ADAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--dataset", "cifar10", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "point --data-dir or ADAI_DATA_DIR at a folder that holds it" in error
    assert error.count("\n") == 1


def test_a_run_in_another_folder_is_a_run_of_its_own(tmp_path, digits):
    settings = Settings.of("digits", epochs=1)
    for name in "ab":
        train(settings, tmp_path / name, factory=digits)
    assert untimed(Run(tmp_path / "a")) == untimed(Run(tmp_path / "b"))
    assert SmallNet()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


class Writer:
    """Stands for TensorBoard's."""

    def __init__(self, folder, purge_step):
        self.scalars = []
        Writer.made.append((folder, purge_step, self.scalars))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))


def test_tensorboard_gets_each_epoch_once(tmp_path, monkeypatch):
    Writer.made = []
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    out = tmp_path / "run"
    assert main(["train", "--epochs", "2", "--limit", "100", "--tensorboard", "--out", str(out)]) == 0
    written = [scalar for _, _, scalars in Writer.made for scalar in scalars]
    assert {folder for folder, _, _ in Writer.made} == {str(out / "tensorboard")}
    rows = Run(out).rows()
    assert [(v, step) for name, v, step in written if name == "test_error"] == [
        (r["test_error"], r["epoch"]) for r in rows
    ]
    assert len(written) == sum(value is not None for row in rows for value in row.values()) - 2


def test_tensorboard_that_is_not_installed_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["train", "--tensorboard", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "adai train: --tensorboard needs the package tensorboard; pip install tensorboard\n"
    )


def test_compiling_is_for_the_sizes_that_are_seen(tmp_path, monkeypatch):
    """A short last batch has another size, which would make torch compile for any size."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda model, **options: asked.append(options) or model)
    train(Settings.of("digits", epochs=1, limit=100, compile=True), tmp_path / "run")
    assert asked == [{"dynamic": False}]
