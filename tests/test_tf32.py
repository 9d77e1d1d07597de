"""TF32 is used only when it is asked for, and torch's flags are as they were afterwards."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import backends, nn
from torch.utils.data import TensorDataset

from adai.cli import main
from adai.lab import compare
from adai.lab.host.precision import float32_products
from adai.lab.measure.base import Measure
from adai.lab.measure.objective import Objective
from adai.lab.measure.range_test.of_run import find_lr_of_run
from adai.lab.settings import Settings
from adai.lab.tasks.task import Task
from adai.lab.training.train import train

SETTINGS = Settings.of("tests.test_tf32:watched", batch=8, epochs=2, optimizer="sgd", warmup_steps=0)
EXACT, ROUNDED = ("highest", False), ("high", True)
seen = []


def flags():
    """Of matrix products and of convolutions; torch's defaults are "highest" and True."""
    return torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32


class Watched(nn.Linear):
    """Notes the flags when it is used."""

    def forward(self, x):
        seen.append(flags())
        return super().forward(x)


def watched():
    rng = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(16, 3, generator=rng), torch.arange(16) % 2)
    return Task(Watched(3, 2), data, data)


@pytest.fixture(autouse=True)
def nothing_seen():
    """The flags are torch's defaults before and after each test."""
    seen.clear()
    assert flags() == ("highest", True)
    yield
    torch.set_float32_matmul_precision("highest")
    backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp32", EXACT), ("tf32", ROUNDED), ("bf16", EXACT), ("fp16", EXACT)]
)
def test_a_run_uses_tf32_only_for_that_precision(precision, expected, tmp_path):
    torch.set_float32_matmul_precision("medium")  # whatever the user has
    run = train(replace(SETTINGS, precision=precision), tmp_path)
    assert set(seen) == {expected}
    assert flags() == ("medium", True)
    assert json.loads((run.path / "config.json").read_text())["precision"] == precision


def test_tf32_is_float32_without_autocast(tmp_path):
    """On a CPU, which has no TF32, the numbers are those of float32."""
    rows = [train(replace(SETTINGS, precision=p), tmp_path / p).rows()[-1]["train_loss"] for p in ("fp32", "tf32")]
    assert rows[0] == rows[1]


def test_the_command_takes_it(tmp_path):
    options = ["--task", "tests.test_tf32:watched", "--epochs", "1", "--batch", "8", "--out", str(tmp_path)]
    assert main(["train", "--precision", "tf32", *options]) == 0
    assert set(seen) == {ROUNDED}
    assert flags() == ("highest", True)


class Noted(Measure):
    """Notes the flags when it measures."""

    name = "noted"
    columns: ClassVar = {"x": "x"}

    def try_out(self, subject):
        seen.append(flags())

    def of(self, subject, optimizer):
        seen.append(flags())
        return {"x": 0.0}


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_measures_never_use_it(precision, tmp_path, monkeypatch):
    monkeypatch.setattr(Watched, "forward", nn.Linear.forward)
    torch.set_float32_matmul_precision("high")
    compare(
        watched, optimizers=["sgd"], seeds=1, epochs=2, batch=8, precision=precision, folder=tmp_path,
        measures=[Noted()], every=1, progress=False,
    )  # fmt: skip
    assert seen == [EXACT] * 3  # tried out, after the first epoch, after the last
    assert flags() == ("high", True)


def test_an_objective_never_uses_it():
    torch.set_float32_matmul_precision("high")
    task = watched()
    objective = Objective(task.model, *task.train.tensors)
    objective.loss(), objective.gradient(), objective.hvp(objective.theta), objective.hessian()
    list(objective.sample_gradients())
    assert set(seen) == {EXACT}
    assert flags() == ("high", True)


def test_the_backward_pass_of_an_objective_never_uses_it():
    class Product(torch.autograd.Function):
        """The identity, whose derivative notes the flags."""

        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            seen.append(flags())
            return gradient

    class Net(nn.Linear):
        def forward(self, x):
            return Product.apply(super().forward(x))

    task = watched()
    objective = Objective(Net(3, 2), *task.train.tensors)
    objective.gradient(), objective.hvp(objective.theta), objective.hessian()
    list(objective.sample_gradients())
    assert set(seen) == {EXACT}


def test_the_range_test_has_the_precision_of_its_run():
    for precision, expected in (("fp32", {EXACT}), ("tf32", {EXACT, ROUNDED})):  # the limit is a curvature
        seen.clear()
        find_lr_of_run(replace(SETTINGS, precision=precision), steps=20, seeds=1)
        assert set(seen) == expected
    assert flags() == ("highest", True)


def test_flags_come_back_after_an_error():
    with pytest.raises(ZeroDivisionError), float32_products(tf32=True):
        1 / 0  # noqa: B018
    assert flags() == ("highest", True)


# What users may have set. Torch has two generations of flags, and refuses to read one if the other was set.
CHANGES = (
    "pass",
    "torch.set_float32_matmul_precision('medium')",
    "b.cuda.matmul.allow_tf32 = True",
    "b.cudnn.allow_tf32 = False",
    "b.fp32_precision = 'tf32'",
    "b.fp32_precision = 'ieee'",
    "b.cudnn.fp32_precision = 'ieee'",
    "b.cudnn.conv.fp32_precision = 'ieee'",
    "b.cuda.matmul.fp32_precision = 'tf32'",
    "b.mkldnn.matmul.fp32_precision = 'bf16'",
)

CODE = """
import os, sys
import torch
from torch import backends as b
from adai.lab.host.precision import float32_products

def read(flag):
    try:
        return flag()
    except RuntimeError:
        return "not readable"

def state():
    parts = [b, b.cudnn, b.cudnn.conv, b.cudnn.rnn, b.cuda.matmul, b.mkldnn, b.mkldnn.matmul, b.mkldnn.conv]
    parts = [part.fp32_precision for part in parts] if hasattr(b, "fp32_precision") else []
    old = (torch.get_float32_matmul_precision, lambda: b.cuda.matmul.allow_tf32, lambda: b.cudnn.allow_tf32)
    return parts + [read(flag) for flag in old]

for change in sys.argv[1:]:
    if os.fork():  # nothing undoes a change for certain, so each has a process of its own
        assert os.wait()[1] == 0, change
        continue
    exec(change)
    before = state()
    for tf32 in (True, False):
        with float32_products(tf32=tf32):
            assert state()[-3:] == [("high" if tf32 else "highest"), tf32, tf32], state()
            with b.cudnn.flags(enabled=False), float32_products():
                assert state()[-3:] == ["highest", False, False], state()
        assert state() == before, (before, state())
    os._exit(0)
"""


def test_whatever_flags_the_user_has_set_are_found_again():
    known = [change for change in CHANGES if "fp32_precision" not in change or hasattr(backends, "fp32_precision")]
    done = subprocess.run([sys.executable, "-c", CODE, *known], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
