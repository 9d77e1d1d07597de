"""Parameters on disk: runs, checkpoints, comparisons; flatness of a comparison, kept and resumed."""

import csv
import json
import shutil
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import Dataset, TensorDataset

from adai.cli import main
from adai.errors import UserError
from adai.lab.measure import subject
from adai.lab.measure.curvature import kept
from adai.lab.measure.stored import finished_runs, is_comparison, settings_of, subject_at
from adai.lab.measure.subject import by_name, by_settings, by_task
from adai.lab.queue.compare import compare
from adai.lab.queue.executors import Processes, in_process
from adai.lab.results.folders import RunFolder
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.tasks.task import Task
from adai.lab.training import checkpoints
from adai.lab.training.train import train
from tests.folders import measurement, write_kept

pytestmark = pytest.mark.slow

HERE = "tests.test_stored"


def points():
    """40 points in 8 clusters, in a net with batch norm; so many classes that even a few steps beat chance."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 8
    x = torch.randn(40, 4, generator=generator) + 3 * torch.randn(8, 4, generator=generator)[y]
    data = TensorDataset(x, y)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 8))
    return Task(net, data, data)


class Line(Dataset):
    """y = 2x, an example at a time."""

    def __len__(self):
        return 30

    def __getitem__(self, i):
        return torch.tensor([i / 10]), torch.tensor([i / 5])


def line():
    return Task(nn.Linear(1, 1), Line(), Line(), mse_loss)


class Noisy(Dataset):
    """The data are drawn with numpy's global generator, and augmented with it at each access."""

    def __init__(self):
        self.x = np.random.standard_normal((40, 4)).astype(np.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i] + np.random.standard_normal(4).astype(np.float32), int(self.x[i, 0] > 0)


def noisy():
    net = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.ReLU(), nn.Linear(6, 2))
    return Task(net, Noisy(), Noisy())


def never():
    raise AssertionError("the run says what its parameters belong to")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("stored") / "points"
    compare(
        RunFolder(path), task=f"{HERE}:points", optimizers=["sgd", "adam"], seeds=2, epochs=3, batch=20, warmup_steps=0,
        checkpoint_every=0,
    )  # fmt: skip
    return path


@pytest.fixture
def comparison(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "points"))


@pytest.fixture(scope="module")
def once_measured(made, tmp_path_factory):
    path = Path(shutil.copytree(made, tmp_path_factory.mktemp("measured") / "points"))
    assert flatness(path)[0] == 0
    return path


@pytest.fixture
def measured(once_measured, tmp_path):
    return Path(shutil.copytree(once_measured, tmp_path / "measured"))


def by_hand(state):
    """The mean loss over all points at these parameters."""
    task = points()
    task.model.load_state_dict(state["model"])
    x, y = task.train.tensors
    with torch.no_grad():
        return task.loss(task.model.eval()(x), y).item()


# --- where parameters are ---------------------------------------------------------------------------------------------


def test_a_run_is_its_last_checkpoint_with_its_own_net_data_and_loss(comparison):
    run = comparison / "sgd" / "seed1"
    last = checkpoints.read(run / "checkpoint-000003.pt")
    assert subject_at(run, never).objective().loss() == pytest.approx(by_hand(last), rel=1e-5)
    before = checkpoints.read(run / "checkpoint-000002.pt")
    found = subject_at(run / "checkpoint-000002.pt", never).objective().loss()
    assert found == pytest.approx(by_hand(before), rel=1e-5)
    assert abs(found - by_hand(last)) > 1e-4


def test_a_damaged_checkpoint_is_passed_over_and_named(comparison, caplog):
    run = comparison / "sgd" / "seed1"
    file = run / "checkpoint-000003.pt"
    file.write_bytes(file.read_bytes()[:-100])
    before = checkpoints.read(run / "checkpoint-000002.pt")
    assert subject_at(run, never).objective().loss() == pytest.approx(by_hand(before), rel=1e-5)
    assert "checkpoint-000003.pt is damaged" in caplog.text


def test_a_checkpoint_away_from_its_run_needs_the_net_to_be_named(comparison, tmp_path):
    alone = Path(shutil.copy(comparison / "adam" / "seed0" / "checkpoint-000003.pt", tmp_path / "alone.pt"))
    named = by_settings(Settings.of(f"{HERE}:points"))
    found = subject_at(alone, lambda: named).objective().loss()
    assert found == pytest.approx(by_hand(checkpoints.read(alone)), rel=1e-5)


def test_a_state_dict_of_an_old_torch_is_read_too(tmp_path):
    net = points().model
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    found = subject_at(tmp_path / "old.pt", lambda: by_settings(Settings.of(f"{HERE}:points"))).model
    torch.testing.assert_close(found.state_dict(), net.state_dict())


def test_finished_runs_are_those_that_reached_the_end_in_the_order_asked_for(comparison):
    assert is_comparison(comparison)
    assert not is_comparison(comparison / "sgd" / "seed0")
    rows = comparison / "sgd" / "seed1" / "metrics.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:2]))
    found = [str(run.relative_to(comparison)) for run in finished_runs(comparison)]
    assert found == ["sgd/seed0", "adam/seed0", "adam/seed1"]
    shutil.rmtree(comparison / "sgd")
    shutil.rmtree(comparison / "adam")
    with pytest.raises(UserError, match="has no finished run"):
        finished_runs(comparison)


def test_a_named_data_set_comes_without_augmentation(tmp_path):
    settings = Settings.of("digits", epochs=1, limit=100, augment=True, warmup_steps=0)
    train(settings, tmp_path / "run")
    assert settings_of(tmp_path / "run") == settings
    one, other = (subject_at(tmp_path / "run", never).objective().loss() for _ in range(2))
    assert one == other
    assert len(subject_at(tmp_path / "run", never).data) == 100


def test_data_read_by_workers_give_the_same_samples_as_data_in_memory():
    streamed = by_settings(Settings.of(f"{HERE}:line", workers=0))
    inputs, targets, _ = streamed._drawn(7, seed=3)
    torch.testing.assert_close(targets, 2 * inputs)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))[:7]
    torch.testing.assert_close(inputs[:, 0], order / 10)
    whole = streamed._drawn(None, seed=3)[0]
    torch.testing.assert_close(whole[:, 0], torch.arange(30) / 10)
    in_memory = by_name("digits", "smallnet")
    assert torch.equal(in_memory._drawn(None, 0)[0], in_memory.data.inputs)


def test_a_task_that_draws_random_numbers_depends_on_the_seed_and_leaves_the_generators_alone():
    settings = Settings.of(f"{HERE}:noisy", seed=5)
    np.random.seed(1)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    for made in (by_settings(settings), by_task(f"{HERE}:noisy", seed=5)):
        x = made.data.data.x
        torch.manual_seed(5)
        assert torch.equal(noisy().model[0].weight, made.model[0].weight)
        np.testing.assert_array_equal(x, np.random.RandomState(5).standard_normal((40, 4)).astype(np.float32))
        np.random.seed(1)
        torch.manual_seed(1)
        one, other = (by_settings(settings)._drawn(7, seed=3)[0] for _ in range(2))
        assert torch.equal(one, other)
        np.testing.assert_array_equal(before[0], np.random.get_state()[1])
        assert torch.equal(before[1], torch.get_rng_state())


# --- flatness of a comparison -----------------------------------------------------------------------------------------


def flatness(comparison, *options):
    status = main(["curvature", str(comparison), "--top", "2", *options])
    file = comparison / "flatness.csv"
    if not file.exists():
        return status, None
    with file.open() as rows:
        return status, {row["optimizer"]: row for row in csv.DictReader(rows)}


def measuring(monkeypatch, error=None, numbers=()):
    """Make the measurements with these numbers, counted from 1, fail; returns the list of all that started."""
    real, begun = kept.measure_flatness, []

    def measure(*arguments):
        assert not torch.are_deterministic_algorithms_enabled()  # that was asked for training
        begun.append(arguments)
        if len(begun) in numbers:
            raise error
        return real(*arguments)

    monkeypatch.setattr(kept, "measure_flatness", measure)
    return begun


def test_the_table_is_the_mean_over_what_the_runs_keep(measured, capsys):
    comparison = measured
    status, table = flatness(comparison)
    assert status == 0
    assert list(table) == ["sgd", "adam"]
    for name, row in table.items():
        each = [one for seed in (0, 1) for one in kept.Flatness().kept_in(comparison / name / f"seed{seed}")]
        for key in ("loss", "largest", "trace", "sam", "filter_worst"):
            values = [one.numbers[key] for one in each]
            assert float(row[f"{key}_mean"]) == pytest.approx(mean(values), rel=1e-9)
            assert float(row[f"{key}_sd"]) == pytest.approx(stdev(values), rel=1e-9)
        assert row["seeds"] == "2"
        assert row["batch_norm"] == each[0].about["batch_norm"] == "running statistics"
    run = comparison / "adam" / "seed1"
    H = subject_at(run, never).objective().hessian()
    (only,) = kept.Flatness().kept_in(run)
    assert only.epoch == 3
    assert only.numbers["largest"] == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=2e-3)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Batch norm: running statistics; 40 training samples" in printed
    text = (comparison / "flatness.md").read_text()
    assert "| SGD momentum | 2 | " in text
    assert "Batch norm: running statistics" in text


def test_what_a_run_keeps_is_not_computed_again_unless_something_else_is_asked(measured, monkeypatch):
    comparison = measured
    asked = measuring(monkeypatch)
    before = (comparison / "flatness.csv").read_bytes()
    _, table = flatness(comparison)
    assert (comparison / "flatness.csv").read_bytes() == before
    assert asked == []
    _, other = flatness(comparison, "--batch-norm", "batch", "--batch", "20")
    assert len(asked) == 4
    assert other["sgd"]["batch_norm"] == "statistics of each minibatch of 20"
    assert other["sgd"]["largest_mean"] != table["sgd"]["largest_mean"]
    # Old measurements stay, and are shown on request.
    assert flatness(comparison)[1] == table
    assert flatness(comparison, "--batch-norm", "batch", "--batch", "20")[1] == other
    assert len(asked) == 4
    (comparison / "adam" / "seed0" / "curvature.json").write_text("{")
    flatness(comparison, "--batch-norm", "batch", "--batch", "20")
    assert len(asked) == 5


def test_entries_of_another_version_stay_in_the_file(measured):
    file = measured / "adam" / "seed0" / "curvature.json"
    (entry,) = json.loads(file.read_text())["measured"]
    newer = {**entry, "settings": {**entry["settings"], "epsilon": 1}}
    file.write_text(json.dumps({"measured": [newer, "what is this", entry]}))
    # A setting that is not known here tells it from those measured without; it is read all the same.
    assert [one.settings for one in kept.Flatness().kept_in(file.parent)] == [newer["settings"], entry["settings"]]
    assert flatness(measured, "--batch-norm", "batch", "--batch", "20")[0] == 0
    written = json.loads(file.read_text())["measured"]
    assert written[:3] == [newer, "what is this", entry]
    assert len(written) == 4


def test_a_run_that_cannot_be_measured_is_named_and_the_others_go_on(comparison, capsys):
    """Its last checkpoint is damaged, and the one before it belongs to another epoch."""
    file = comparison / "sgd" / "seed1" / "checkpoint-000003.pt"
    file.write_bytes(file.read_bytes()[:-100])
    status, table = flatness(comparison)
    assert status == 1
    assert (table["sgd"]["seeds"], table["adam"]["seeds"]) == ("1", "2")
    out = " ".join(capsys.readouterr().out.split())
    assert "sgd seed1: " in out
    assert "has no undamaged checkpoint of epoch 3, its last" in out
    assert "1 finished run is not in it" in out
    assert not (comparison / "sgd" / "seed1" / "curvature.json").exists()


def test_a_net_that_is_fitted_is_measured_in_float64(comparison, monkeypatch):
    run = comparison / "adam" / "seed0"
    monkeypatch.setattr(subject, "FITTED", 0.1)
    kept.Flatness().keep(run)
    monkeypatch.setattr(subject, "FITTED", 100.0)
    kept.Flatness(kept.QUICK._replace(samples=20)).keep(run)
    assert [one.about["dtype"] for one in kept.Flatness().kept_in(run)] == ["float32", "float64"]


def test_an_interruption_keeps_the_finished_runs_and_writes_no_half_table(comparison, monkeypatch, capsys):
    begun = measuring(monkeypatch, KeyboardInterrupt(), [3])
    assert flatness(comparison) == (130, None)
    assert "goes on from there" in capsys.readouterr().err
    assert len(list(comparison.glob("*/*/curvature.json"))) == 2
    assert not list(comparison.rglob(".*"))
    assert flatness(comparison)[0] == 0
    assert len(begun) == 5


@pytest.mark.parametrize("execute", [in_process, Processes(2)])
def test_a_comparison_measures_its_own_runs(execute, tmp_path):
    options = {"task": f"{HERE}:points", "optimizers": ["sgd", "adam"], "epochs": 1, "execute": execute}
    folder, quick = RunFolder(tmp_path / "runs"), kept.Flatness()
    assert compare(folder, **options, seeds=1) == []
    assert quick.like(folder.path, along=False) is quick
    other = kept.Flatness(kept.QUICK._replace(samples=30))
    assert compare(folder, **options, seeds=1, measures=[other]) == []
    # A seed more, and the runs that are there say how it is measured.
    assert compare(folder, **options, seeds=2, measures=["flatness"]) == []
    runs = finished_runs(folder.path)
    assert len(runs) == 4
    assert [[(one.epoch, one.settings) for one in kept.Flatness().kept_in(run)] for run in runs] == [
        [(1, other.settings)]
    ] * 4
    H = subject_at(runs[0], never).objective(samples=30).hessian()
    largest = kept.Flatness().kept_in(runs[0])[0].numbers["largest"]
    assert largest == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=2e-3)


def test_the_settings_of_most_runs_are_those_of_the_next(tmp_path):
    few, many = measurement(1, 1.0, samples=500), measurement(1, 1.0)
    measured = [[many], [few], [few]]

    def like():
        for seed, of_run in enumerate(measured):
            folder = tmp_path / "sgd" / f"seed{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            write_kept(folder, of_run)
        return kept.Flatness().like(tmp_path, along=False).settings

    assert like() == few.settings
    measured = [[few, many]] * 3  # a tie: the settings requested last win
    assert like() == many.settings
    measured = [[few, few._replace(epoch=2), few._replace(epoch=3)], [many], [many]]  # runs count, not measurements
    assert like() == many.settings


def test_seeds_that_are_added_are_measured_along_training_as_the_others_were(tmp_path):
    few, many = measurement(1, 1.0, samples=500), measurement(3, 1.0)
    for seed in (0, 1):
        folder = tmp_path / "sgd" / f"seed{seed}"
        folder.mkdir(parents=True)
        write_kept(folder, [few, few._replace(epoch=3), many] if seed == 0 else [few._replace(epoch=3), many])
    assert (
        kept.Flatness().like(tmp_path, along=False).settings == many.settings
    )  # as many of both: what was asked for last
    assert kept.Flatness().like(tmp_path, along=True).settings == few.settings
    quick = kept.Flatness()
    assert quick.like(tmp_path / "none", along=True) is quick


# --- along training ---------------------------------------------------------------------------------------------------


TWO = ["compare", "--task", f"{HERE}:points", "--optimizers", "sgd,adam", "--seeds", "1", "--epochs", "5"]


def epochs_measured(path):
    return [one.epoch for one in kept.Flatness().kept_in(path / "sgd" / "seed0")]


@pytest.mark.parametrize("task", ["points", "noisy"])
def test_flatness_along_training_leaves_the_training_as_it_is(task, tmp_path):
    path, plain = tmp_path / "along", tmp_path / "plain"
    command = [*TWO, "--task", f"{HERE}:{task}"]
    assert main([*command, "--flatness", "2", "--out", str(path)]) == 0
    assert main([*command, "--deterministic", "--out", str(plain)]) == 0
    assert epochs_measured(path) == [2, 4, 5]
    timeless = [
        [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in Run(run).rows()]
        for run in (path / "sgd" / "seed0", plain / "sgd" / "seed0")
    ]
    assert timeless[0] == timeless[1]


def test_what_was_interrupted_while_it_was_measured_is_measured_when_training_goes_on(tmp_path, monkeypatch):
    measuring(monkeypatch, KeyboardInterrupt(), [2])
    command = [*TWO, "--deterministic", "--flatness", "2", "--out", str(tmp_path)]
    assert main(command) == 130
    assert epochs_measured(tmp_path) == [2]
    assert main(command) == 0
    assert epochs_measured(tmp_path) == [2, 4, 5]
    run = tmp_path / "sgd" / "seed0"
    fourth = kept.Flatness().kept_in(run)[1].numbers["loss"]
    assert fourth == pytest.approx(by_hand(checkpoints.read(run / "checkpoint-000004.pt")))
    assert (tmp_path / "flatness-epochs.csv").read_text().count("\n") == 1 + 2 * 3
    assert "At equal loss" in (tmp_path / "report.html").read_text()


def test_training_goes_on_where_it_cannot_be_measured_on_the_way(tmp_path, monkeypatch, caplog):
    measuring(monkeypatch, OverflowError("too much"), [1])
    assert main([*TWO, "--deterministic", "--flatness", "2", "--out", str(tmp_path)]) == 0
    assert epochs_measured(tmp_path) == [4, 5]
    assert "SGD momentum, seed 0: no flatness after epoch 2: OverflowError: too much" in caplog.text


@pytest.mark.parametrize("error", [OverflowError("too much"), UserError("too much")])
def test_a_run_whose_flatness_fails_is_named_and_the_others_go_on(error, tmp_path, monkeypatch, capsys):
    measuring(monkeypatch, error, [1, 2])
    command = ["compare", "--task", f"{HERE}:points", "--optimizers", "sgd,adam", "--seeds", "1", "--epochs", "1"]
    command += ["--flatness", "--out", str(tmp_path / "runs")]
    assert main(command) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "SGD momentum, seed 0 failed 2 times: " in out
    assert "too much" in out
    assert "Flatness: 1 finished run is not in it." in out
    assert main(command) == 0
    assert "not in it" not in capsys.readouterr().out
    assert (tmp_path / "runs" / "flatness.csv").read_text().count("\n") == 3


def test_runs_checkpoints_and_comparisons_are_named_side_by_side(comparison, tmp_path, monkeypatch):
    out = tmp_path / "out"
    runs = [str(comparison / "sgd" / "seed0"), str(comparison / "sgd" / "seed0" / "checkpoint-000002.pt")]
    assert main(["curvature", *runs, "--top", "2", "--out", str(out)]) == 0
    with (out / "curvature.csv").open() as rows:
        assert [row["parameters"] for row in csv.DictReader(rows)] == ["seed0", "checkpoint-000002"]
    monkeypatch.setattr("adai.report.noise.write_figures", lambda *_, **__: None)
    few = ["--B", "8", "--minibatches", "60", "--parameters", "5"]
    assert main(["noise", str(comparison), *few, "--out", str(out)]) == 0
    with (out / "noise.csv").open() as rows:
        names = [row["parameters"] for row in csv.DictReader(rows)]
    assert names == ["sgd/seed0", "sgd/seed1", "adam/seed0", "adam/seed1"]


def test_the_table_of_a_comparison_has_its_place(comparison, tmp_path, capsys):
    assert main(["curvature", str(comparison), "--out", str(tmp_path / "elsewhere")]) == 2
    assert "the table of a comparison goes into its own folder; leave --out out" in capsys.readouterr().err


def test_a_run_that_diverged_is_refused_in_one_line(tmp_path, capsys):
    train(Settings.of("digits", optimizer="sgd", lr=1e30, epochs=2, limit=100, warmup_steps=0), tmp_path)
    assert main(["curvature", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "diverged before its first checkpoint, so there is nothing to measure" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["curvature", "noise"])
def test_other_folders_are_refused_in_one_line(command, comparison, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    bare = comparison / "sgd" / "seed0"
    for file in bare.glob("*.pt"):
        file.unlink()
    for path, what in (
        (tmp_path / "empty", "is neither a run nor a comparison"),
        (bare, "has no undamaged checkpoint"),
    ):
        assert main([command, str(path), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert what in error
        assert error.count("\n") == 1
