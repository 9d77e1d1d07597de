"""Your own model and data: the documented example as it stands, data of other kinds, what goes wrong."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import Dataset

from adai.cli import main
from adai.lab.run import Run
from adai.lab.settings import Settings
from adai.lab.task import Task
from adai.lab.train import train
from tests.untimed import untimed

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parent.parent / "docs" / "train.md"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_documented_example_runs_as_it_stands(here, capsys):
    section = DOCS.read_text().partition("## Your own model and data")[2]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (commands,) = re.findall(r"```\n(adai .*?)```", section, re.DOTALL)
    assert len(code.splitlines()) < 25
    (here / "moons.py").write_text(code)
    for command in commands.splitlines():
        assert main(command.split()[1:]) == 0
    assert "Adai" in capsys.readouterr().out
    run = Run(here / "runs" / "moons-factory-adai-seed0")
    assert run.status == "finished"
    assert run.rows()[-1]["test_error"] < 15
    assert run.config()["model"] is None


def test_the_documented_call_from_python_runs(here):
    (code,) = re.findall(r"```python\n(from pathlib.*?)```", DOCS.read_text(), re.DOTALL)
    exec(code, {})
    assert Run(here / "runs" / "first").status == "finished"


class Line(Dataset):
    """Noisy points of a line, the noise drawn when they are read."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        x = torch.tensor([index / 40])
        return x, 2 * x + 0.01 * torch.randn(1)


def line():
    return Task(nn.Linear(1, 1), Line(), Line(), mse_loss)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_regression_read_by_workers_has_no_errors_and_goes_on_bit_for_bit(workers, tmp_path):
    settings = Settings.of("x:line", optimizer="sgd", epochs=4, batch=8, workers=workers, warmup_steps=2)
    run = train(settings, tmp_path / "a", factory=line)
    rows = run.rows()
    assert rows[-1]["test_loss"] < 0.2 < rows[0]["train_loss"]
    assert rows[0]["train_error"] is rows[0]["test_error"] is rows[0]["test_error_top5"] is None
    assert all(math.isfinite(row["train_loss"]) for row in rows)

    class Stop(BaseException):
        pass

    def stop(rows):
        if len(rows) == 2:
            raise Stop

    with pytest.raises(Stop):
        train(settings, tmp_path / "b", factory=line, progress=stop)
    torch.randn(3)
    assert untimed(train(settings, tmp_path / "b", factory=line)) == untimed(run)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:factory", "cannot import the task 'nowhere:factory': No module named 'nowhere'"),
        ("empty:factory", "the task 'empty:factory': empty has no function 'factory'; give package.module:factory"),
        ("empty:", "the task 'empty:': empty has no function ''; give package.module:factory"),
        ("builtins:dict", "the task 'builtins:dict' returns dict; it has to return adai.lab.task.Task"),
        ("empty", "the task 'empty' names no function; give package.module:factory"),
    ],
)
def test_a_task_that_is_not_there_is_said_in_one_line(name, message, here, capsys):
    (here / "empty.py").write_text("")
    assert main(["train", "--task", name, "--out", str(here / "run")]) == 2
    assert capsys.readouterr().err == f"adai train: {message}\n"


@pytest.mark.parametrize("named", [["--model", "resnet18"], ["--dataset", "digits"]])
def test_a_task_beside_a_named_model_or_data_set_is_refused(named, capsys):
    assert main(["train", "--task", "x:y", *named]) == 2
    assert capsys.readouterr().err == f"adai train: --task brings its own data and net; leave out {named[0]}\n"
