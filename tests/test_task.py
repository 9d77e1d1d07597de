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
from adai.errors import UserError
from adai.lab.queue.compare import compare
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.tasks.task import Task
from adai.lab.training.train import train
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
    (commands,) = re.findall(r"```sh\n(adai .*?)```", section, re.DOTALL)
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
    run = Run(here / "runs" / "first")
    assert run.status == "finished"
    assert run.rows()[-1]["test_error"] < 15


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
        ("builtins:dict", "the task 'builtins:dict' returns dict; it has to return adai.lab.tasks.task.Task"),
        ("empty", "the task 'empty' names no function; give package.module:factory"),
    ],
)
def test_a_task_that_is_not_there_is_said_in_one_line(name, message, here, capsys):
    (here / "empty.py").write_text("")
    assert main(["train", "--task", name, "--out", str(here / "run")]) == 2
    assert capsys.readouterr().err == f"adai train: {message}\n"


BAD = """
import copy, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from adai.lab.tasks.task import Task

def of(*tensors, net=None, **given):
    data = TensorDataset(*tensors)
    return Task(net or nn.Linear(4, 3), data, data, **given)

x, y = torch.randn(40, 4), torch.randint(3, (40,))
outside = nn.Linear(4, 3)
class Endless(IterableDataset):
    def __iter__(self):
        yield x[0], y[0]
class Each(Dataset):
    def __init__(self, give):
        self.give = give
    def __len__(self):
        return 40
    def __getitem__(self, index):
        return self.give(index)
def giving(give): return Task(nn.Linear(4, 3), Each(give), Each(give))
class Alone(nn.Sequential):
    def forward(self, x):
        if len(x) == 1 and self.training:
            raise ValueError("one is not enough")
        return super().forward(x)

def raises(): raise KeyError("no\\nsuch key")
def leaves(): sys.exit("no licence")
def missing_argument(size): pass
def unlike(): return of(x, y, net=nn.Linear(5, 3))
def broken(): return giving(lambda i: 1 / (i - 30))

def endless(): return Task(nn.Linear(4, 3), Endless(), Endless())
def loader():
    data = DataLoader(TensorDataset(x, y))
    return Task(nn.Linear(4, 3), data, data)
def three(): return of(x, y, y)
def empty(): return of(x[:0], y[:0])
def pair(): return Task(nn.Linear(4, 3), (x, y), (x, y))
def dicts(): return giving(lambda i: {"image": x[i], "label": y[i]})
def triples(): return giving(lambda i: (x[i], y[i], i))
def words(): return giving(lambda i: ("word", y[i]))
def beyond(): return of(x, y + 3)
def negative(): return of(x, y.masked_fill(y == 0, -1))
def not_reduced(): return of(x, y, loss=lambda o, t: nn.functional.cross_entropy(o, t, reduction="none"))
def fixed(): return of(x, y, net=nn.Identity())
def shared(): return of(x, y, net=outside)
def wrapped(): return of(x, y, net=nn.Sequential(nn.ReLU(), outside))
def copied(): return of(x, y, net=copy.deepcopy(outside))
def alone(): return of(x[:33], y[:33], net=Alone(nn.Linear(4, 3)))
"""


@pytest.mark.parametrize("name", ["raises", "leaves", "unlike", "missing_argument", "broken"])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_task_whose_code_raises_is_one_line_and_its_traceback_a_file(name, workers, here, capsys):
    (here / "bad.py").write_text(BAD)
    assert main(["train", "--task", f"bad:{name}", "--epochs", "1", "--out", "run", "--workers", workers]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"adai train: the task bad:{name} failed: ")
    assert error.endswith("(see run/error.txt)\n")
    assert error.count("\n") == 1
    assert "Traceback" in (here / "run" / "error.txt").read_text()


NOT_PAIRS = "it has to give pairs (input, target)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("endless", ": train is a Endless without a length; give a map-style data set"),
        ("loader", ": train is a DataLoader; give its data set (loader.dataset)"),
        ("three", ": train has 3 tensors; it needs two, inputs and targets"),
        ("empty", ": train is empty; it needs at least one example"),
        ("pair", ": train is a tuple; give a data set of (input, target) pairs"),
        ("dicts", f"the data set gives dicts with 'image', 'label'; {NOT_PAIRS}"),
        ("triples", f"the data set gives 3 values for an example; {NOT_PAIRS}"),
        ("words", "the data set gives inputs that become a tuple; they have to be tensors, arrays or numbers"),
        ("beyond", "40 of 40 targets are not classes, such as "),
        ("negative", "targets are not classes, such as -1: the model scores the 3 classes 0 to 2"),
        ("not_reduced", ": the loss is of shape (32,); it has to be a single number, the mean over the batch"),
        ("fixed", ": the model has no parameter that requires a gradient"),
        ("shared", ": the model, or its part Linear, was made before the factory was called"),
        ("wrapped", ": the model, or its part Linear, was made before the factory was called"),
        ("alone", "32 examples at once go through the model, but the last 1 do not (ValueError: one is not enough)"),
    ],
)
def test_common_mistakes_are_reported_before_training(name, message, here, capsys):
    (here / "bad.py").write_text(BAD)
    assert main(["train", "--task", f"bad:{name}", "--epochs", "1", "--batch", "32", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Run(here / "run").rows()


def test_a_copy_of_a_model_made_outside_is_trained(here):
    (here / "bad.py").write_text(BAD)
    assert main(["train", "--task", "bad:copied", "--epochs", "1", "--out", "run"]) == 0


@pytest.mark.parametrize("code", ["def factory(:", "1 / 0", "import sys; sys.exit(3)", "raise ImportError('half')"])
def test_a_task_that_fails_to_import_is_one_line(code, here, capsys, request):
    module = f"broken{abs(hash(code))}"
    (here / f"{module}.py").write_text(code)
    for command in ("train", "compare"):
        assert main([command, "--task", f"{module}:factory", "--epochs", "1", "--out", command]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"adai {command}: importing the task {module}:factory failed: ")
        assert error.endswith(f"(see {command}/error.txt)\n")
        assert "Traceback" in (here / command / "error.txt").read_text()


def test_one_bad_run_does_not_end_the_others(here, capsys):
    """A net of which one seed does not train."""
    code = (
        BAD
        + """
class Fails(nn.Linear):
    def forward(self, x):
        if self.fails:
            raise ArithmeticError("unlucky")
        return super().forward(x)
def unlucky():
    net = Fails(4, 3)
    net.fails = torch.initial_seed() == 0
    return of(x, y, net=net)
"""
    )
    (here / "unlucky.py").write_text(code)
    assert (
        main(
            [
                "compare",
                "--task",
                "unlucky:unlucky",
                "--seeds",
                "2",
                "--epochs",
                "1",
                "--optimizers",
                "sgd",
                "--out",
                "runs",
            ]
        )
        == 1
    )
    assert "SGD momentum, seed 0 failed 2 times: ArithmeticError: unlucky (see" in capsys.readouterr().out
    assert Run(here / "runs/sgd/seed1").status != "unfinished"


def test_options_and_paths_as_people_write_them(here):
    settings = Settings.of("x:line", optimizer="sgd", options={"momentum": 0.5}, lr=0.01, epochs=1)
    assert settings.options == {"lr": 0.01, "momentum": 0.5, "weight_decay": 5e-4}
    with pytest.raises(UserError, match=r"lr is 0.01 and, in options, 0.5; give it once"):
        Settings.of("x:line", options={"lr": 0.5}, lr=0.01)
    assert train(settings, "run", factory=line).status == "finished"
    assert compare("runs", optimizers=["sgd"], seeds=1, epochs=1, limit=20, data_dir=str(here)) == []


def test_options_that_a_custom_task_would_ignore_are_refused(capsys):
    for option in (["--limit", "10"], ["--augment"]):
        assert main(["train", "--task", "x:y", *option]) == 2
        message = f"the task x:y brings its own data; leave {option[0]} out"
        assert capsys.readouterr().err == f"adai train: {message}\n"


@pytest.mark.parametrize("named", [["--model", "resnet18"], ["--dataset", "digits"]])
def test_a_task_beside_a_named_model_or_data_set_is_refused(named, capsys):
    assert main(["train", "--task", "x:y", *named]) == 2
    assert capsys.readouterr().err == f"adai train: --task brings its own data and net; leave out {named[0]}\n"


BAGS = (
    BAD
    + """
def bags():
    words = torch.randint(0, 10, (40, 4))
    return of(words, y, net=nn.Sequential(nn.EmbeddingBag(10, 4), nn.Linear(4, 3)))
"""
)


def test_a_net_without_second_derivatives_is_refused_before_training_where_they_are_wanted(here, capsys):
    (here / "bags.py").write_text(BAGS)
    command = [
        "compare",
        "--task",
        "bags:bags",
        "--epochs",
        "60",
        "--lr",
        "sgd=1",
        "--seeds",
        "1",
        "--optimizers",
        "sgd",
        "--out",
        "runs",
    ]
    assert main([*command, "--flatness"]) == 2
    error = capsys.readouterr().err
    assert "flatness cannot be measured (NotImplementedError: " in error
    assert error.endswith("leave --flatness out\n")
    assert not Run(here / "runs/sgd/seed0").rows()
    assert main(command) == 0
    for states, traceback in (["runs"], "runs/sgd/seed0"), (["runs/sgd/seed0", "--out", "c"], "c"):
        capsys.readouterr()
        assert main(["curvature", *states, "--samples", "20"]) == 2
        error = capsys.readouterr().err
        assert "NotImplementedError" in error
        assert error.count("\n") == 1
        assert "Traceback" in (here / traceback / "error.txt").read_text()
