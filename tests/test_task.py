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


BAD = """
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset
from adai.lab.task import Task

def of(*tensors, net=None, **given):
    data = TensorDataset(*tensors)
    return Task(net or nn.Linear(4, 3), data, data, **given)

x, y = torch.randn(40, 4), torch.randint(3, (40,))
class Endless(IterableDataset):
    def __iter__(self):
        yield x[0], y[0]

def raises(): raise KeyError("no\\nsuch key")
def endless(): return Task(nn.Linear(4, 3), Endless(), Endless())
def three(): return of(x, y, y)
def empty(): return of(x[:0], y[:0])
def unlike(): return of(x, y, net=nn.Linear(5, 3))
def beyond(): return of(x, y + 3)
def not_reduced(): return of(x, y, loss=nn.CrossEntropyLoss(reduction="none"))
def fixed(): return of(x, y, net=nn.Identity())
"""


@pytest.mark.parametrize(
    "name", ["raises", "endless", "three", "empty", "unlike", "beyond", "not_reduced", "fixed", "missing_argument"]
)
def test_a_task_that_cannot_be_trained_is_one_line_and_its_traceback_a_file(name, here, capsys):
    (here / "bad.py").write_text(BAD + "\ndef missing_argument(size): pass\n")
    assert main(["train", "--task", f"bad:{name}", "--epochs", "1", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"adai train: the task bad:{name} failed: ")
    assert error.endswith("(see run/error.txt)\n")
    assert error.count("\n") == 1
    assert "Traceback" in (here / "run" / "error.txt").read_text()


def test_what_a_task_of_your_own_would_not_obey_is_refused(capsys):
    for option in (["--limit", "10"], ["--augment"]):
        assert main(["train", "--task", "x:y", *option]) == 2
        message = f"the task x:y brings its own data; leave {option[0]} out"
        assert capsys.readouterr().err == f"adai train: {message}\n"


@pytest.mark.parametrize("named", [["--model", "resnet18"], ["--dataset", "digits"]])
def test_a_task_beside_a_named_model_or_data_set_is_refused(named, capsys):
    assert main(["train", "--task", "x:y", *named]) == 2
    assert capsys.readouterr().err == f"adai train: --task brings its own data and net; leave out {named[0]}\n"
