"""`adai stability`, and `adai compare --stability`: files, figure, resuming, one-line errors."""

import csv
import json

import pytest
import torch
from matplotlib.markers import CARETDOWN
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from adai import Adai
from adai.cli import main
from adai.lab import stability
from adai.lab.measure.stability import kept
from adai.lab.results.comparison import read
from adai.lab.results.measured import Measured
from adai.lab.results.run import Run
from adai.lab.results.stability import courses, sentence
from adai.lab.tasks.task import Task
from adai.lab.training import checkpoints
from adai.report import stability as report
from tests.folders import comparison as folder
from tests.untimed import untimed

pytestmark = pytest.mark.slow

HERE = "tests.test_edge_commands"


def points():
    """40 points in 3 classes, and 20 to test."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.randint(3, (60,), generator=generator)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    return Task(model, TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:]))


COMPARE = ["compare", "--task", f"{HERE}:points", "--seeds", "1", "--epochs", "5", "--batch", "20", "--deterministic"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A comparison of Adai, Adam and Yogi, measured after every second epoch. For Yogi no limit is known."""
    path = tmp_path_factory.mktemp("compare") / "runs"
    assert main([*COMPARE, "--optimizers", "adai,adam,yogi", "--stability", "2", "--out", str(path)]) == 0
    return path


def epochs(path, name="adai"):
    return [one.epoch for one in kept.Stability().kept_in(path / name / "seed0")]


def rows(file):
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_margins_along_training_are_kept_written_and_drawn(comparison):
    assert [epochs(comparison, name) for name in ("adai", "adam", "yogi")] == [[2, 4, 5], [2, 4, 5], []]
    table = rows(comparison / "stability-epochs.csv")
    assert [(row["optimizer"], row["epoch"]) for row in table] == [(o, e) for o in ("adai", "adam") for e in "245"]
    assert {row["batch_norm"] for row in table} == {"statistics of each minibatch of 20"}
    page = (comparison / "report.html").read_text()
    assert 'id="figure-stability"' in page
    assert "Stability margin after the epochs that were measured, 1 being the edge: Adai up to" in page
    assert (comparison / "figures" / "stability.png").read_bytes().startswith(b"\x89PNG")


def test_the_margin_kept_is_that_of_the_checkpoint(comparison):
    state = checkpoints.read(comparison / "adai" / "seed0" / "checkpoint-000004.pt")
    task = points()
    task.model.load_state_dict(state["model"])
    optimizer = Adai(task.model.parameters())
    optimizer.load_state_dict(state["optimizer"])
    found = stability(optimizer, task.model, cross_entropy, task.train.tensors, batch_norm="running")
    measure = kept.Stability(kept.StabilitySettings(batch_norm="running"))
    at = measure.at(comparison / "adai" / "seed0" / "checkpoint-000004.pt")
    assert at.epoch == 4
    assert at.numbers["margin"] == pytest.approx(found.margin, rel=2e-3)
    assert at.numbers["lr"] == optimizer.param_groups[0]["lr"]


def numbers(margin):
    return {"loss": 0.1, "lr": 1.0, "margin": margin, "largest_lr": 1 / margin}


def test_runs_that_blew_up_are_drawn_and_counted_too(tmp_path):
    """Two seeds of Adai: one finishes, the other diverges beyond the edge. Other settings are left out."""
    path = folder(tmp_path / "runs", {"adai": [3.0, float("nan")], "sgd": [3.0, 3.0]})
    settings, about = kept.Stability().settings, {"batch_norm": "running statistics", "samples": 500}
    for seed, margins in enumerate(([0.5, 1e-6], [3.0])):
        course = [Measured(epoch, settings, about, numbers(margin)) for epoch, margin in enumerate(margins, start=1)]
        course += [course[0]._replace(settings={**settings, "samples": 7}, numbers=numbers(9.0))]
        file = path / "adai" / f"seed{seed}" / "stability.json"
        file.write_text(json.dumps({"measured": [*(one.as_dict() for one in course), {"damaged": 1}]}))
    comparison = read(path)
    found = courses(comparison)
    assert sentence(comparison, found) == (
        "Stability margin after the epochs that were measured, 1 being the edge: "
        "Adai up to 3.00 (1 of 2 runs above 1). Batch norm: running statistics; 500 training samples."
    )
    ax = report.picture(comparison, found).figure.axes[0]
    assert ax.get_yscale() == "log"
    assert [line.get_ydata() for line in ax.lines if line.get_linestyle() == ":" and len(line.get_xdata()) == 2][
        -1
    ] == [1, 1]
    assert ax.get_ylim()[0] == report.LEAST
    assert below_the_axis(ax) == [[2]]  # 1e-6
    assert sorted(max(line.get_ydata()) for line in ax.lines if line.get_marker() == "o") == [0.5, 3.0]


def below_the_axis(ax):
    """The epochs of the arrowheads at the bottom, by line."""
    lines = [line for line in ax.lines if line.get_marker() == CARETDOWN]
    assert all(set(line.get_ydata()) == {ax.get_ylim()[0]} for line in lines)
    assert not any(line.get_clip_on() for line in lines)
    return [list(line.get_xdata()) for line in lines]


@pytest.mark.parametrize(
    ("margins", "below"),
    [([0.5, 0.02], []), ([0.5, 0.0], [[2]]), ([2e-4, 0.0, 5e-3], [[1, 2]]), ([0.5, float("nan")], []), ([0.0], [[1]])],
)
def test_every_margin_is_on_the_axis_or_marked_at_its_edge(margins, below, tmp_path):
    path = folder(tmp_path / "runs", {"adai": [3.0], "sgd": [3.0]})
    about = {"batch_norm": "running statistics", "samples": 500}
    kept_as = {"measured": [
        Measured(epoch, kept.Stability().settings, about, {"margin": margin, "lr": 1.0}).as_dict()
        for epoch, margin in enumerate(margins, start=1)
    ]}  # fmt: skip
    (path / "adai" / "seed0" / "stability.json").write_text(json.dumps(kept_as))
    comparison = read(path)
    picture = report.picture(comparison, courses(comparison))
    ax = picture.figure.axes[0]
    assert below_the_axis(ax) == below
    assert ("arrowhead" in picture.description) == bool(below)
    low, high = ax.get_ylim()
    assert all(low <= margin <= high for margin in margins if margin >= report.LEAST)


def test_training_is_the_same_to_the_bit(comparison, tmp_path):
    assert main([*COMPARE, "--optimizers", "adai", "--out", str(tmp_path)]) == 0
    plain, measured = (Run(path / "adai" / "seed0") for path in (tmp_path, comparison))
    assert untimed(plain) == untimed(measured)
    a, b = (checkpoints.load(run.path)["model"] for run in (plain, measured))
    assert all(torch.equal(a[key], b[key]) for key in a)


def failing(monkeypatch, error, calls):
    """Make the measurements with these indices fail."""
    measure, done = kept.measure, []

    def sometimes(*args, **options):
        done.append(0)
        if len(done) in calls:
            raise error
        return measure(*args, **options)

    monkeypatch.setattr(kept, "measure", sometimes)


def test_the_same_command_resumes_after_an_interruption(tmp_path, monkeypatch):
    failing(monkeypatch, KeyboardInterrupt(), [2])
    command = [*COMPARE, "--optimizers", "adai", "--stability", "2", "--out", str(tmp_path)]
    assert main(command) == 130
    assert epochs(tmp_path) == [2]
    assert main(command) == 0
    assert epochs(tmp_path) == [2, 4, 5]
    before = (tmp_path / "adai" / "seed0" / "stability.json").read_bytes()
    assert main(command) == 0
    assert (tmp_path / "adai" / "seed0" / "stability.json").read_bytes() == before


def test_training_continues_if_a_measurement_fails(tmp_path, monkeypatch, caplog):
    failing(monkeypatch, OverflowError("too much"), [1])
    assert main([*COMPARE, "--optimizers", "adai", "--stability", "2", "--out", str(tmp_path)]) == 0
    assert epochs(tmp_path) == [4, 5]
    assert "Adai, seed 0: no stability margin after epoch 2: OverflowError: too much" in caplog.text


def test_a_comparison_that_has_finished_is_measured_after_its_last_epoch(tmp_path, caplog):
    command = [*COMPARE, "--optimizers", "adai,yogi", "--out", str(tmp_path)]
    assert main(command) == 0
    assert not (tmp_path / "stability-epochs.csv").exists()
    assert 'id="stability-margin"' not in (tmp_path / "report.html").read_text()
    assert main([*command, "--stability"]) == 0
    assert epochs(tmp_path) == [5]
    assert "no stability limit is known for Yogi; there is one for SGD," in caplog.text


def test_stability_prints_a_table_and_writes_it(comparison, tmp_path, capsys):
    run = comparison / "adai" / "seed0"
    out = tmp_path / "out"
    arguments = [str(run), str(run / "checkpoint-000004.pt"), "--batch-norm", "running", "--out", str(out)]
    assert main(["stability", *arguments]) == 0
    printed = capsys.readouterr().out
    for text in ("largest stable lr", "seed0", "checkpoint-000004", "Batch norm: running statistics; 40 samples."):
        assert text in printed
    table = rows(out / "stability.csv")
    assert [row["epoch"] for row in table] == ["5", "4"]
    margin, lr, largest = (float(table[1][key]) for key in ("margin", "lr", "largest_lr"))
    assert largest == pytest.approx(lr / margin)
    assert json.loads((out / "stability.json").read_text())["settings"]["batch_norm"] == "running"


def test_every_run_of_a_comparison_is_measured_and_failures_are_named(comparison, tmp_path, capsys):
    assert main(["stability", str(comparison), "--out", str(tmp_path)]) == 1
    assert [row["run"] for row in rows(tmp_path / "stability.csv")] == ["adai/seed0", "adam/seed0"]
    assert "yogi/seed0: no stability limit is known for Yogi" in capsys.readouterr().out


def test_bad_input_is_answered_in_one_line(comparison, tmp_path, capsys):
    torch.save(points().model.state_dict(), tmp_path / "net.pt")
    (tmp_path / "empty").mkdir()
    for path, what in (
        (tmp_path / "net.pt", "net.pt has no optimizer state; give the folder of a run"),
        (tmp_path / "empty", "is neither a run nor a comparison"),
        (tmp_path / "none", "none"),
        (comparison / "yogi" / "seed0", "no stability limit is known for Yogi"),
    ):
        assert main(["stability", str(path), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert what in error
        assert error.count("\n") == 1
    assert main([*COMPARE, "--optimizers", "yogi", "--stability", "2", "--out", str(tmp_path / "yogi")]) == 2
    error = capsys.readouterr().err
    assert "no stability limit is known for Yogi" in error
    assert error.count("\n") == 1


def test_an_interruption_leaves_what_was_finished(comparison, tmp_path, monkeypatch, capsys):
    failing(monkeypatch, KeyboardInterrupt(), [2])
    assert main(["stability", str(comparison), "--out", str(tmp_path)]) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert [row["run"] for row in rows(tmp_path / "stability.csv")] == ["adai/seed0"]
