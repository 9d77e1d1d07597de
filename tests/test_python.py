"""Comparisons from Python: a folder like the command's, tables, figures, and one error for what cannot be run."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.data import TensorDataset

import adai.lab
from adai import Adai
from adai.cli import main
from adai.commands.flags import in_flags
from adai.errors import UserError
from adai.lab import Recipe, Task, compare, load
from adai.lab.queue.compare import compare as queue_compare
from adai.lab.results.folders import RunFolder
from adai.lab.results.run import read_json
from tests import snippets
from tests.untimed import alike

HERE = "tests.test_python"
ROOT = Path(__file__).parents[1]


class Signs(torch.optim.Optimizer):
    """An optimizer of the reader's own."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p -= group["lr"] * p.grad.sign()


class NoRate(Signs):
    """Has no default for the learning rate."""

    def __init__(self, params, lr):
        super().__init__(params, lr)


def points():
    """40 points in 3 classes, and 20 to test, which can be told apart."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = nn.functional.one_hot(y, 4).float() + 0.1 * torch.randn(60, 4, generator=generator)
    return Task(nn.Linear(4, 3), TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:]))


OPTIONS = {"seeds": 3, "epochs": 4, "batch": 10, "warmup_steps": 0, "progress": False}
COMMAND = ["--seeds", "3", "--epochs", "4", "--batch", "10", "--warmup-steps", "0"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    optimizers = {"Adai": Adai, "mine": Signs, "two": lambda model: torch.optim.SGD(model.parameters(), lr=1.0)}
    folder = tmp_path_factory.mktemp("python") / "runs"
    return compare(points, optimizers=optimizers, folder=folder, options={"mine": {"lr": 0.1}}, **OPTIONS)


def test_what_comes_back(result, tmp_path):
    assert repr(result).startswith("<Comparison of Adai, mine, two on tests.test_python:points, in ")
    first, title, heading, *rows = str(result).splitlines()
    assert first == repr(result)
    assert title == "test error in percent, mean ± standard deviation over seeds"
    assert heading.split("  ")[0] == "optimizer"
    assert heading.endswith("difference to Adai")
    assert sorted(row.split()[0] for row in rows) == ["Adai", "mine", "two"]
    assert max(map(len, rows)) < 80
    assert result.failures == []
    assert result.verdict() == load(result.path).verdict()
    assert "Adai" in result.verdict()
    assert result.verdict("mine") != result.verdict()
    frame = result.to_frame()
    assert len(frame) == 3 * 3 * 4
    assert frame.groupby("optimizer")["seed"].nunique().to_dict() == {"Adai": 3, "mine": 3, "two": 3}
    last = frame[(frame.optimizer == "mine") & (frame.epoch == 4)]["test_error"]
    summary = result.summary()
    assert summary.loc["mine", "last"] == pytest.approx(last.mean())
    assert summary.loc["mine", "finished"] == 3
    assert summary.loc[["mine", "two"], "difference"].notna().all()
    config = RunFolder(result.path).config()
    assert config["optimizers"]["mine"]["lr"] == 0.1


def test_figures_and_the_table_of_a_notebook(result):
    figure = result.figure("test_error")
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.axes[0].get_ylabel() == "test error (%)"
    assert result.figure("lr").axes[0].get_ylabel() == "lr"
    assert isinstance(result.figure("scatter"), Figure)
    with pytest.raises(UserError, match="no figure 'sharpness'; choose from test, loss, scatter, .* grad_norm"):
        result.figure("sharpness")
    html = result._repr_html_()
    assert "<th>mine</th>" in html
    assert result.verdict().split(" (")[0] in html


@pytest.mark.slow
def test_the_report_opens(result, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    page = result.report()
    assert page == result.path / "report.html"
    assert opened == [page.resolve().as_uri()]
    result.report(show=False)
    assert len(opened) == 1


def test_the_same_call_does_nothing_again_and_more_seeds_are_added(result, monkeypatch):
    optimizers = {"Adai": Adai, "mine": Signs}
    before = {file: file.stat().st_mtime_ns for file in result.path.glob("*/seed*/metrics.jsonl")}
    more = compare(points, optimizers=optimizers, folder=result.path, options={"mine": {"lr": 0.1}}, **OPTIONS)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert [entrant.name for entrant in more.entrants] == ["Adai", "mine", "two"]
    with pytest.raises(UserError, match="holds a comparison with other settings .* give another `folder`"):
        compare(points, optimizers=optimizers, folder=result.path, **{**OPTIONS, "epochs": 5})


@pytest.mark.slow
def test_a_folder_of_python_and_one_of_the_command_are_the_same(tmp_path, capsys):
    here, there = tmp_path / "python", tmp_path / "command"
    settings = {**OPTIONS, "seeds": 1}
    compare(points, optimizers={"adai": "adai", "mine": Signs}, folder=here, measures=["flatness"], every=2, **settings)
    command = ["compare", "--task", f"{HERE}:points", "--optimizers", "adai", f"mine={HERE}:Signs", *COMMAND]
    command += ["--flatness", "2"]
    assert main([*command, "--seeds", "1", "--out", str(there)]) == 0
    a, b = RunFolder(here), RunFolder(there)
    different = {key for key in a.config() if a.config()[key] != b.config().get(key)}
    assert different <= {"command"}
    assert alike(a, b, ["adai", "mine"], 1)
    # The command goes on with what Python has begun, and Python with what the command has begun.
    before = (here / "mine" / "seed0" / "metrics.jsonl").read_bytes()
    assert main([*command, "--seeds", "2", "--out", str(here)]) == 0
    assert (here / "mine" / "seed0" / "metrics.jsonl").read_bytes() == before
    assert a.finished("mine", 1)
    more = compare(points, optimizers={"adai": "adai", "mine": Signs}, folder=there, measures=["flatness"], every=2,
                   **{**settings, "seeds": 2})  # fmt: skip
    assert alike(a, b, ["adai", "mine"], 2)
    assert len(more.to_frame("flatness")) == 2 * 2 * 2
    capsys.readouterr()
    assert main(["report", str(here)]) == 0
    assert "mine" in capsys.readouterr().out


def test_other_processes_need_what_they_can_import(tmp_path):
    def inner():
        return points()

    for jobs in ({"jobs": 2}, {"executor": "ray"}):
        if "executor" in jobs:
            pytest.importorskip("ray")
        with pytest.raises(UserError, match=r"cannot import the task .*inner and the optimizer mine; define") as error:
            compare(inner, optimizers={"mine": lambda model: Signs(model.parameters())}, folder=tmp_path, **jobs)
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_can_be_imported_runs_in_several_processes(tmp_path):
    options = {**OPTIONS, "seeds": 2}
    one = compare(points, optimizers={"mine": Signs}, folder=tmp_path / "one", **options)
    two = compare(points, optimizers={"mine": Signs}, folder=tmp_path / "two", jobs=2, **options)
    assert two.to_frame()["test_loss"].tolist() == pytest.approx(one.to_frame()["test_loss"].tolist())


def test_a_local_function_and_a_lambda_run_and_are_measured_here(tmp_path):
    def inner():
        return points()

    found = compare(
        inner,
        optimizers=[Recipe("mine", lambda model: Signs(model.parameters(), lr=0.1))],
        folder=tmp_path / "runs",
        measures=["flatness"],
        **{**OPTIONS, "seeds": 1},
    )
    assert found.summary().loc["mine", "finished"] == 1
    assert len(found.to_frame("flatness")) == 1


def test_a_run_that_fails_is_in_failures(tmp_path, caplog):
    class Late(Signs):
        def step(self, closure=None):
            if torch.initial_seed() % 2 == 1 and (tmp_path / "bad").exists():
                raise OverflowError("too much")
            super().step()

    (tmp_path / "bad").touch()
    found = compare(points, optimizers={"late": Late}, folder=tmp_path / "runs", **{**OPTIONS, "seeds": 2})
    assert [failure.job.settings.seed for failure in found.failures] == [1]
    assert "late, seed 1 failed 2 times: " in caplog.text
    assert "OverflowError: too much" in caplog.text
    assert "failed 2 times" in found._repr_html_()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizers": "adai"}, r"`optimizers` is 'adai'; give a list, such as \['adai'\]"),
        ({"executor": "slurm"}, "unknown `executor` 'slurm'; choose from local, ray"),
        ({"gpus": 1}, "`gpus` is for `executor` ray; add that, or leave `gpus` out"),
        ({"measures": ["flat"]}, "unknown measure 'flat'; choose from flatness, stability"),
        ({"options": {"nobody": {"lr": 1.0}}}, "no optimizer has the label 'nobody'"),
        ({"tune": 1, "lr_grid": [0.1]}, "`tune` and `lr_grid` both choose learning rates"),
        ({"task": 3}, "the task is a int; give a function that returns a Task, or a name"),
        ({"model": "fc3"}, "brings its own model; leave `model` out"),
        (
            {"tune": 1, "ranges": {"sgd": {"momentum": 0.9}}},
            r"range of sgd.momentum is 0.9; give two numbers, \(low",
        ),
        ({"tune": 1, "ranges": {"sgd": {"momentum": ("a", "b")}}}, r"is \('a', 'b'\); give two numbers, \(low, high\)"),
        ({"tune": 1, "ranges": {"sgd": {"momentum": (0.9, 0.5)}}}, "sgd.momentum is 0.9 to 0.5; the second number has"),
        ({"optimizers": [f"{HERE}:NoRate"]}, "NoRate has no default for lr; give NoRate.lr a value in `options`"),
        ({"seed": 3}, "'seed' is a setting of a single run; in a comparison use seeds="),
        ({"epoch": 1}, r"unknown setting 'epoch'; did you mean epochs\?"),
        ({"measure": ["flatness"]}, r"unknown setting 'measure'; did you mean measures\?"),
        ({"optimizers": ["adia"]}, "unknown optimizer 'adia'; did you mean .*adai"),
        ({"optimizers": ["Adam"]}, r"unknown optimizer 'Adam'; did you mean adam\?"),
        ({"optimizers": ["mine.py:Signs"]}, r"name the module, not its file; did you mean mine:Signs\?"),
    ],
)
def test_bad_input_names_arguments(given, message, tmp_path):
    with pytest.raises(UserError, match=message):
        compare(**{"task": points, "optimizers": ["sgd"], "folder": tmp_path / "runs", **OPTIONS, **given})
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("package", "given", "message"),
    [
        ("optuna", {"tune": 1}, "`tune` needs the package optuna; pip install 'adai[tune]'"),
        ("ray", {"executor": "ray"}, "`executor` ray needs the package ray; pip install 'adai[ray]'"),
    ],
)
def test_a_package_that_is_not_installed_is_named(package, given, message, tmp_path, monkeypatch, capsys):
    for name in ("adai.lab.queue.tuning", "adai.lab.queue.on_ray"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as error:
        compare(points, optimizers=["sgd"], folder=tmp_path / "runs", **OPTIONS, **given)
    assert str(error.value) == message
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    assert main(["compare", "--task", f"{HERE}:points", "--out", str(tmp_path / "runs"), *flags]) == 2
    assert capsys.readouterr().err == f"adai compare: {in_flags(message)}\n"
    assert not (tmp_path / "runs").exists()


def test_a_range_may_be_a_pair_of_numbers(tmp_path):
    ranges = {"sgd": {"momentum": (0.5, 0.99), "lr": (0.01, 1.0, True)}}
    found = compare(points, optimizers=["sgd"], folder=tmp_path, tune=1, ranges=ranges, **{**OPTIONS, "seeds": 1})
    tuned = read_json(tmp_path / "tuning" / "tuning.json")
    assert tuned["ranges"]["sgd"] == {"lr": [0.01, 1.0], "weight_decay": [pytest.approx(5e-4 / 30), 0.015],
                                      "momentum": [0.5, 0.99]}  # fmt: skip
    assert found.summary().loc["sgd", "finished"] == 1


def test_a_folder_with_other_settings_is_refused_before_the_trials(tmp_path):
    one = {**OPTIONS, "seeds": 1, "epochs": 1}
    compare(points, optimizers=["sgd"], folder=tmp_path, **one)
    with pytest.raises(UserError, match=r"other settings \(trials is 0 there, 1 here\); give another `folder`"):
        compare(points, optimizers=["sgd"], folder=tmp_path, tune=1, **one)
    assert not (tmp_path / "tuning").exists()


def test_the_command_says_it_in_flags(tmp_path, capsys):
    assert main(["compare", "--tune", "1", "--lr-grid", "0.1", "--out", str(tmp_path)]) == 2
    assert "--tune and --lr-grid both choose learning rates" in capsys.readouterr().err
    assert in_flags("give another `folder`, or `data_dir`; `weight` is theirs") == (
        "give another folder with --out, or --data-dir; `weight` is theirs"
    )


def test_importing_the_lab_is_cheap():
    code = "import sys, adai.lab; assert not {'torch', 'numpy', 'pandas', 'matplotlib', 'rich'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
    assert {name for name in adai.lab.__all__ if getattr(adai.lab, name) is None} == set()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        adai.lab.nothing  # noqa: B018
    assert queue_compare is not compare


# --- the example of the README ----------------------------------------------------------------------------------------


EXAMPLE = snippets.block_with(ROOT / "README.md", "adai.lab import")


def test_the_example_is_short_and_has_an_optimizer_of_the_readers_own():
    assert len(EXAMPLE.strip().splitlines()) <= 15
    classes = [node for node in ast.parse(EXAMPLE).body if isinstance(node, ast.ClassDef)]
    assert len(classes) == 1


@pytest.mark.slow
def test_a_notebook_shows_progress_table_and_figure(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [EXAMPLE, "result", 'result.figure("test_error")', "result.summary()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BROWSER": "true"}
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3")
    client.create_kernel_manager()
    with client.setup_kernel(cwd=str(tmp_path), env=environment):
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
    run, table, figure, frame = (cell.outputs for cell in notebook.cells)
    shown = [output.data["text/html"] for output in run if output.output_type == "display_data"]
    assert any("epochs" in html for html in shown)
    (table,) = table
    assert "<table>" in table.data["text/html"]
    assert "seeds" in table.data["text/html"]
    (figure,) = figure
    assert "image/png" in figure.data
    assert "text/html" in frame[0].data
