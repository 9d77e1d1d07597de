"""`adai suite`: several tasks at tiny size end to end, its numbers, and what it says."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from adai.cli import main
from adai.errors import UserError
from adai.lab.results.suite import beside, keep, read_suite
from adai.lab.settings import Settings
from adai.lab.tasks.suite import GPU, LAPTOP, SuiteTask, chosen
from adai.lab.tasks.tables import read_table
from adai.lab.training.train import train
from adai.report import suite as report


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a small text and a small table under the names of the suite's."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "shakespeare").mkdir()
    (folder / "shakespeare/input.txt").write_text("to be, or not to be: that is the question. " * 60)
    (folder / "housing").mkdir()
    random = np.random.default_rng(0)
    rows = [f"{x:.3f},{'ab'[n % 2]},{3 * x + n % 2:.3f}" for n, x in enumerate(random.normal(size=200))]
    (folder / "housing/housing.csv").write_text("\n".join(["x,kind,median_house_value", *rows]) + "\n")
    return folder


def run(data, out, *options):
    return main(["suite", "--data-dir", str(data), "--out", str(out), "--epochs", "2", "--seeds", "3", *options])


TASKS = ("--tasks", "digits", "shakespeare", "housing", "--limit", "100")


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("suite")
    rates = ("--lr", "adai=0.1", "sgd=0.01")
    assert run(data, out, *TASKS, "--optimizers", "adai", "sgd", *rates, "--tune", "1") == 0
    return out


@pytest.mark.slow
def test_every_task_has_its_comparison_and_the_suite_its_page(done):
    suite = read_suite(done)
    assert list(suite.comparisons) == ["digits", "shakespeare", "housing"]
    for comparison in suite.comparisons.values():
        assert [len(entrant.runs) for entrant in comparison.entrants] == [3, 3]
    page = (done / report.PAGE).read_text(encoding="utf-8")
    for text in ("Performance profiles", "Mean ranks", "Steps to target", "bits a character", "RMSE", "figure-trials-"):
        assert text in page
    lines = (done / "suite.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 2
    names = {file.name for file in (done / "figures").glob("*.png")}
    assert names >= {"profile-final.png", "profile-steps.png", "trials-digits.png", "trials-housing.png"}


@pytest.mark.slow
def test_what_is_there_is_not_done_again(done, data, capsys):
    before = {file: file.stat().st_mtime_ns for file in done.glob("*/*/seed*/metrics.jsonl")}
    assert len(before) == 18
    rates = ("--lr", "adai=0.1", "sgd=0.01")
    assert run(data, done, *TASKS, "--optimizers", "adai", "sgd", *rates, "--tune", "1") == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert "Adai is shown to be better" in re.sub(r"\s+", " ", capsys.readouterr().out)


@pytest.mark.slow
def test_tuning_looks_at_the_validation_part_alone(done):
    trial = json.loads((done / "housing/tuning/adai/trial0/config.json").read_text())
    assert trial["validation"] == 0.1
    kept = json.loads((done / "housing/tuning/tuning.json").read_text())["trials"]["adai"][0]["value"]
    rows = (done / "housing/tuning/adai/trial0/metrics.jsonl").read_text().splitlines()
    assert kept == json.loads(rows[-1])["test_metric"]
    final = [json.loads((done / f"housing/adai/seed{s}/metrics.jsonl").read_text().splitlines()[-1]) for s in range(3)]
    assert kept not in [row["test_metric"] for row in final]


@pytest.mark.slow
def test_another_suite_stands_beside_without_its_times(done, data, tmp_path):
    assert run(data, tmp_path, *TASKS, "--optimizers", "adamw", "--tune", "1", "--against", str(done)) == 0
    both = beside(read_suite(tmp_path), read_suite(done))
    assert list(both.optimizers) == ["adamw", "adai", "sgd"]
    theirs = next(e for e in both.comparisons["digits"].entrants if e.name == "sgd")
    ours = next(e for e in both.comparisons["digits"].entrants if e.name == "adamw")
    assert np.isnan(theirs.runs[0].column("seconds")).all()
    assert np.isfinite(ours.runs[0].column("seconds")).all()
    assert np.isfinite(theirs.runs[0].column("steps")).all()
    assert "SGD momentum" in (tmp_path / report.PAGE).read_text(encoding="utf-8")
    other = tmp_path / "other"
    assert run(data, other, "--tasks", "housing", "--optimizers", "adamw") == 0  # without tuning
    with pytest.raises(UserError, match="run both with the same"):
        beside(read_suite(other), read_suite(done))


def folder_of(path, values, epochs=3, steps=10, task="t"):
    """A suite with a task made by hand: by optimizer and seed the test errors of the epochs."""
    path.mkdir(exist_ok=True)
    keep(path, {task: SuiteTask("digits", "by hand", {}, 5.0)})
    (path / task).mkdir()
    config = {"task": "digits", "epochs": epochs, "seeds": 2, "optimizers": {name: {} for name in values}}
    (path / task / "config.json").write_text(json.dumps(config))
    for name, seeds in values.items():
        for seed, errors in enumerate(seeds):
            run = path / task / name / f"seed{seed}"
            run.mkdir(parents=True)
            rows = [
                {"train_loss": None if error is None else 0.1, "test_error": error, "steps": steps, "seconds": 2.0}
                for error in errors
            ]
            (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_suite(path)


def test_steps_to_target_count_to_the_end_of_the_epoch_and_censor(tmp_path):
    suite = folder_of(
        tmp_path,
        {
            "adai": [[9.0, 5.0, 4.0], [6.0, 6.0, 5.0]],
            "sgd": [[9.0, 8.0, 7.0], [5.0, None]],
            "adam": [[4.0, 9.0, 9.0]] * 2,
        },
    )
    entrants = {e.name: e for e in suite.comparisons["t"].entrants}
    assert suite.steps()["t"] == {"adai": {0: 20, 1: 30}, "sgd": {0: math.inf, 1: 10}, "adam": {0: 10, 1: 10}}
    assert suite.to_target("t", entrants["adai"]) == (2, 2, 25, 5)
    assert suite.to_target("t", entrants["sgd"]) == (1, 2, math.inf, math.inf)
    assert suite.final()["t"] == {"adai": {0: 4, 1: 5}, "sgd": {0: 7, 1: math.inf}, "adam": {0: 9, 1: 9}}
    assert report.write(suite).exists()


def test_bad_input_gets_one_line(tmp_path, capsys):
    assert main(["suite", "--tasks", "chess", "--out", str(tmp_path)]) == 2
    assert main(["suite", "--draw-only", "--out", str(tmp_path / "none")]) == 2
    assert main(["suite", "--tasks", "digits", "--optimizers", "nix", "--out", str(tmp_path / "a")]) == 2
    assert main(["suite", "--tasks", "digits", "--optimizers", "adai", "adai", "--out", str(tmp_path / "a")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "unknown task 'chess'; choose from digits, mnist" in lines[0]
    assert "holds no suite" in lines[1]
    assert "nix" in lines[2]
    assert "two optimizers have the label 'adai'" in lines[3]


def test_a_file_that_is_missing_shows_before_the_first_run_of_all(tmp_path, capsys):
    options = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--epochs", "1", "--seeds", "1"]
    assert main(["suite", "--tasks", "digits", "housing", "--optimizers", "sgd", *options]) == 2
    assert "housing/housing.csv" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_refused_optimizer_leaves_no_folder(tmp_path):
    options = ["--out", str(tmp_path / "new" / "out"), "--epochs", "1", "--seeds", "1"]
    assert main(["suite", "--tasks", "digits", "--optimizers", "no.module:thing", *options]) == 2
    assert not (tmp_path / "new").exists()


def test_images_that_are_missing_show_before_the_first_run_of_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ADAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--epochs", "1", "--seeds", "1"]
    (tmp_path / "mnist").mkdir()
    assert main(["suite", "--tasks", "digits", "mnist", "--optimizers", "sgd", *options]) == 2
    assert "mnist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def unequal(tmp_path):
    """A suite of two tasks: Adai and SGD have run the first, SGD alone has run the second."""
    errors = [[9.0, 5.0, 4.0], [6.0, 6.0, 5.0]]
    folder_of(tmp_path, {"adai": errors, "sgd": errors})
    return folder_of(tmp_path, {"sgd": errors}, task="u")


def test_an_optimizer_that_has_not_run_a_task_does_not_count_as_one_that_failed_on_it(unequal):
    assert list(unequal.complete) == list(unequal.final()) == list(unequal.steps()) == ["t"]
    page = report.write(unequal).read_text(encoding="utf-8")
    assert "Mean rank over 1 task," in page
    assert "Without u, which not all optimizers have run." in page


def test_the_reference_is_the_same_on_all_tasks(unequal, tmp_path):
    assert {summary.reference for summary in unequal.summaries().values()} == {"sgd"}
    with pytest.raises(UserError, match="'adai' does not take part in all tasks; choose from sgd"):
        unequal.summaries("adai")
    suite = folder_of(tmp_path / "apart", {"adai": [[5.0] * 3] * 2})
    suite = folder_of(tmp_path / "apart", {"sgd": [[5.0] * 3] * 2}, task="u")
    assert not suite.complete
    assert report.verdicts(suite, suite.summaries())[0].startswith("t: ")
    page = report.write(suite).read_text(encoding="utf-8")
    assert "Difference to the reference of each task" in page
    assert "Mean ranks" not in page


def test_comparisons_that_cannot_be_judged_are_counted(tmp_path):
    suite = folder_of(
        tmp_path, {"adai": [[5.0] * 3] * 3, "sgd": [[x] * 3 for x in (6.0, 6.1, 6.2)], "adam": [[None]] * 3}
    )
    assert report.verdicts(suite, suite.summaries())[0] == (
        "Adai is shown to be better than a rival in 1 of 2 comparisons, and worse in 0. In 0 no difference is shown; "
        "1 cannot be judged, for too few runs finished."
    )


def test_scales_have_the_same_tasks():
    assert list(LAPTOP) == list(GPU) == list(chosen(None, "gpu"))
    assert chosen(["housing"])["housing"].target == 55_000
    with pytest.raises(UserError, match="unknown `scale` 'moon'"):
        chosen(None, "moon")


needs_data = pytest.mark.skipif(
    "ADAI_DATA_DIR" not in os.environ, reason="reads real data; set ADAI_DATA_DIR to a folder that holds them"
)


@pytest.mark.slow
@needs_data
def test_the_tasks_of_images_run(tmp_path):
    options = ["--limit", "64", "--epochs", "1", "--seeds", "1", "--optimizers", "adamw", "--out", str(tmp_path)]
    assert main(["suite", "--tasks", "mnist", "cifar10", "cifar100", *options]) == 0
    suite = read_suite(tmp_path)
    assert list(suite.comparisons) == ["mnist", "cifar10", "cifar100"]
    assert all(e.runs[0].rows for c in suite.comparisons.values() for e in c.entrants)


@pytest.mark.slow
@needs_data
def test_the_mlp_beats_linear_regression_on_houses(tmp_path):
    table = read_table(Path(os.environ["ADAI_DATA_DIR"]) / "housing/housing.csv", "median_house_value")
    linear = LinearRegression().fit(table.train.features, table.train.targets)
    wrong = linear.predict(table.test.features) - table.test.targets.numpy()
    rmse = table.scale * float(np.sqrt(np.mean(wrong**2)))
    settings = Settings.of("housing", optimizer="adamw", lr=3e-3, weight_decay=0.01, epochs=10)
    last = train(settings, tmp_path / "run").rows()[-1]
    assert last["test_metric"] < 0.9 * rmse
