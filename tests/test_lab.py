"""The comparison: fair starts, a folder that can be trusted, numbers that are what they say."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel

from adai.cli import main
from adai.errors import UserError
from adai.files import write_whole
from adai.lab.compare import compare
from adai.lab.models import SmallNet
from adai.lab.runs import RunFolder
from adai.lab.stats import paired_difference, spread
from adai.report.curves import draw_curves
from adai.report.summary import Row, rows, verdict, write_csv
from tests.untimed import untimed


def test_small_net():
    assert sum(p.numel() for p in SmallNet().parameters()) == 9978
    assert SmallNet(3, 32, 5)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_a_comparison_writes_everything_and_is_not_done_twice(tmp_path):
    folder = RunFolder(tmp_path / "runs")
    seen = []

    def do(**options):
        seen.clear()
        compare(folder, seeds=2, epochs=2, **options, progress=lambda label, epochs: seen.append((label, epochs)))

    do(optimizers=["adai", "sgd"])
    assert len([s for s in seen if s[1] == 1]) == 8
    kept = (folder.run("adai", 1).path / "metrics.jsonl").read_bytes()
    do(optimizers=["sgd", "adai"])
    assert [s[1] for s in seen] == [2] * 4
    assert (folder.run("adai", 1).path / "metrics.jsonl").read_bytes() == kept

    config = json.loads((folder.path / "config.json").read_text())
    assert config["optimizers"]["sgd"] == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    assert config["torch"] == torch.__version__
    table = rows(folder)
    assert {row.optimizer for row in table} == {"adai", "sgd"}
    write_csv(folder.path / "summary.csv", table)
    with (folder.path / "summary.csv").open() as file:
        lines = list(csv.DictReader(file))
    for row, line in zip(table, lines, strict=True):
        errors = [folder.metrics(row.optimizer, seed)[-1]["test_error"] for seed in range(2)]
        assert float(line["last_error_mean"]) == pytest.approx(np.mean(errors))
        assert float(line["last_error_sd"]) == pytest.approx(np.std(errors, ddof=1))
    draw_curves(folder, folder.path / "curves.png")
    assert (folder.path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not list(folder.path.glob(".*"))


def test_an_interrupted_comparison_goes_on_to_the_same_end(tmp_path):
    straight, broken, seen = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b"), []
    compare(straight, optimizers=["adai", "sgd"], seeds=1, epochs=2)

    def interrupt(label, epochs):
        if label.startswith("SGD") and epochs == 1:  # the first is done
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(broken, optimizers=["adai", "sgd"], seeds=1, epochs=2, progress=interrupt)
    assert [row.optimizer for row in rows(broken)] == ["adai"]
    assert len(broken.metrics("sgd", 0)) == 1
    compare(broken, optimizers=["adai", "sgd"], seeds=1, epochs=2, progress=lambda label, epochs: seen.append(epochs))
    assert seen == [2, 1, 1]  # the run that was interrupted goes on at its second epoch
    for name in ("adai", "sgd"):
        assert untimed(straight.run(name, 0)) == untimed(broken.run(name, 0))


def test_optimizers_and_seeds_are_added_and_other_settings_refused(tmp_path):
    folder = RunFolder(tmp_path)
    compare(folder, optimizers=["sgd"], seeds=1, epochs=1)
    compare(folder, optimizers=["adam"], seeds=2, epochs=1)
    assert [len(row.last_errors) for row in sorted(rows(folder))] == [2, 1]
    assert sorted(folder.config()["optimizers"]) == ["adam", "sgd"]
    with pytest.raises(UserError, match="holds a comparison with another epochs; give another folder with --out"):
        compare(folder, optimizers=["sgd"], seeds=1, epochs=2)


def test_other_rates_and_settings_reach_the_runs_they_are_for(tmp_path, capsys):
    options = ["--optimizers", "adai", "adam", "--seeds", "1", "--epochs", "1", "--limit", "100", "--batch", "50"]
    options += ["--out", str(tmp_path)]
    assert main(["compare", *options, "--lr", "adam=3e-4", "--weight-decay", "adam=0", "adai=1e-3"]) == 0
    folder = RunFolder(tmp_path)
    assert folder.run("adam", 0).config()["options"] == {"lr": 3e-4, "weight_decay": 0.0}
    assert folder.run("adai", 0).config()["options"] == {"lr": 1.0, "weight_decay": 1e-3}
    assert folder.metrics("adam", 0)[0]["steps"] == 2
    assert folder.config()["batch"] == 50
    for wrong in ("sgd=1", "adam", "adam=x", "adam=-1", "adam=inf"):
        capsys.readouterr()
        assert main(["compare", *options, "--lr", wrong]) == 2
        expected = f"adai compare: --lr {wrong}: give an optimizer that runs and a number, such as adam=3e-4\n"
        assert capsys.readouterr().err == expected


def test_a_run_that_diverges_is_named_and_the_others_go_on(tmp_path, capsys):
    options = ["--optimizers", "sgd", "adam", "--seeds", "1", "--epochs", "3", "--limit", "100", "--batch", "20"]
    assert main(["compare", *options, "--warmup-steps", "0", "--lr", "sgd=1e30", "--out", str(tmp_path)]) == 0
    assert "Diverged, and not in the table: sgd, seed 0" in capsys.readouterr().out
    folder = RunFolder(tmp_path)
    assert folder.run("sgd", 0).status == "diverged"
    assert len(folder.metrics("sgd", 0)) == 1
    assert [row.optimizer for row in rows(folder)] == ["adam"]


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


def test_paired_difference_is_students():
    a, b = [3.1, 2.9, 3.6, 3.3], [2.8, 2.9, 3.0, 3.1]
    expected = ttest_rel(a, b).confidence_interval(0.95)
    got = paired_difference(a, b)
    assert got.mean == pytest.approx(np.mean(np.subtract(a, b)))
    assert (got.low, got.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    with pytest.raises(ValueError, match="at least 2 pairs, but got 1"):
        paired_difference([1.0], [2.0])
    assert math.isnan(spread([1.0]).sd)


def test_verdict_says_what_the_seeds_can_tell():
    def row(label, errors):
        return Row(label, label, errors, errors, [0.1] * len(errors), 1.0)

    assert "a clear lead" in verdict([row("A", [1.0, 1.1, 1.2]), row("B", [2.0, 2.1, 2.3])])
    assert "too close to call" in verdict([row("A", [1.0, 2.1, 1.2]), row("B", [2.0, 1.1, 2.3])])
    assert "no verdict below 3 seeds" in verdict([row("A", [1.0, 1.1]), row("B", [2.0, 2.1])])
    assert "nothing to compare" in verdict([row("A", [1.0])])
