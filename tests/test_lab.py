"""The comparison: fair starts, a folder that can be trusted, numbers that are what they say."""

import json
import re
from types import SimpleNamespace

import pytest
import torch

from adai.cli import main
from adai.errors import UserError
from adai.files import write_whole
from adai.lab.models import SmallNet
from adai.lab.queue.compare import compare
from adai.lab.queue.jobs import Job
from adai.lab.queue.standings import Board
from adai.lab.results.folders import RunFolder
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from tests.untimed import untimed


def test_small_net():
    assert sum(p.numel() for p in SmallNet().parameters()) == 9978
    assert SmallNet(3, 32, 5)(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def done(jobs):
    """Epochs of all runs together."""
    return sum(len(job.run.rows()) for job in jobs)


def test_a_comparison_writes_everything_and_is_not_done_twice(tmp_path):
    folder = RunFolder(tmp_path / "runs")
    seen = []

    def do(**options):
        seen.clear()
        compare(folder, seeds=2, epochs=2, **options, watch=lambda jobs: seen.append(done(jobs)))

    do(optimizers=["adai", "sgd"])
    assert list(dict.fromkeys(seen)) == list(range(9))
    kept = (folder.run("adai", 1).path / "metrics.jsonl").read_bytes()
    do(optimizers=["sgd", "adai"])
    assert seen == [8]
    assert (folder.run("adai", 1).path / "metrics.jsonl").read_bytes() == kept

    config = json.loads((folder.path / "config.json").read_text())
    assert config["optimizers"]["sgd"] == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    assert config["torch"] == torch.__version__
    assert not list(folder.path.glob(".*"))


def test_an_interrupted_comparison_goes_on_to_the_same_end(tmp_path):
    straight, broken, seen = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b"), []
    compare(straight, optimizers=["adai", "sgd"], seeds=1, epochs=2)

    def interrupt(jobs):
        if done(jobs) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(broken, optimizers=["adai", "sgd"], seeds=1, epochs=2, watch=interrupt)
    assert broken.finished("adai", 0)
    assert not broken.finished("sgd", 0)
    assert len(broken.metrics("sgd", 0)) == 1
    compare(broken, optimizers=["adai", "sgd"], seeds=1, epochs=2, watch=lambda jobs: seen.append(done(jobs)))
    assert list(dict.fromkeys(seen)) == [3, 4]  # the run that was interrupted goes on at its second epoch
    for name in ("adai", "sgd"):
        assert untimed(straight.run(name, 0)) == untimed(broken.run(name, 0))


def test_optimizers_and_seeds_are_added_and_other_settings_refused(tmp_path):
    folder = RunFolder(tmp_path)
    compare(folder, optimizers=["sgd"], seeds=1, epochs=1)
    compare(folder, optimizers=["adam"], seeds=2, epochs=1)
    assert [folder.finished(name, 1) for name in ("adam", "sgd")] == [True, False]
    assert sorted(folder.config()["optimizers"]) == ["adam", "sgd"]
    with pytest.raises(
        UserError, match=r"holds a comparison with other settings \(epochs is . there, . here\); give another `folder`"
    ):
        compare(folder, optimizers=["sgd"], seeds=1, epochs=2)


def test_other_rates_and_settings_reach_the_runs_they_are_for(tmp_path, capsys):
    options = ["--optimizers", "adai", "adam", "--seeds", "1", "--epochs", "1", "--limit", "100", "--batch", "50"]
    options += ["--out", str(tmp_path)]
    assert main(["compare", *options, "--lr", "adam=3e-4", "--weight-decay", "adam=0", "adai=1e-3"]) == 0
    folder = RunFolder(tmp_path)
    assert folder.run("adam", 0).config()["options"] == {"lr": 3e-4, "weight_decay": 0.0}
    assert folder.run("adai", 0).config()["options"] == {"lr": 1.0, "weight_decay": 1e-3, "min_inertia": 0.9}
    assert folder.metrics("adam", 0)[0]["steps"] == 2
    assert folder.config()["batch"] == 50
    for wrong in ("sgd=1", "adam", "adam=x", "adam=-1", "adam=inf", "adam=0"):
        capsys.readouterr()
        assert main(["compare", *options, "--lr", wrong]) == 2
        expected = "give one of the optimizers that run (adai, adam) and a number above 0, such as adai=3e-4"
        assert capsys.readouterr().err == f"adai compare: --lr {wrong}: {expected}\n"


def test_a_folder_of_a_single_run_and_no_optimizer_at_all_are_refused(tmp_path, capsys):
    assert main(["train", "--limit", "100", "--epochs", "1", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    for arguments, message in (
        (["--epochs", "1", "--out", str(tmp_path)], "holds something other than a comparison; give another folder"),
        (["--optimizers", ""], "--optimizers names none; give at least one, such as adai"),
    ):
        assert main(["compare", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_log_file_has_a_line_for_every_epoch_or_run(tmp_path, capsys):
    few = ["--limit", "100", "--epochs", "2"]
    assert main(["train", *few, "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for epoch, line in enumerate(lines[:2], 1):
        assert re.fullmatch(rf"{epoch} of 2 epochs, train loss [\d.]+, test error [\d.]+ %, [\d.]+ s", line)
    folder = tmp_path / "runs"
    assert main(["compare", *few, "--optimizers", "sgd,adam", "--seeds", "1", "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    for line in ("0 of 2 runs, 0 of 4 epochs", "1 of 2 runs, 2 of 4 epochs", "2 of 2 runs, 4 of 4 epochs"):
        assert line in out.splitlines()


def test_the_bar_moves_within_an_epoch(tmp_path):
    """A run says how many steps it has done in its folder, wherever it is carried out; that file goes at its end."""
    told = []

    def watch(jobs):
        told.extend(job.share_of_steps for job in jobs)

    settings = Settings.of("digits", optimizer="sgd", epochs=3, limit=400)
    job = Job("SGD", settings, tmp_path)
    clock = iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adai.lab.queue.jobs.time", SimpleNamespace(monotonic=lambda: next(clock)))
        job.do(tick=lambda: watch([job]))
    assert len(told) == 1 + 3 * 7  # 400 examples in batches of 64
    assert told == sorted(told)
    assert (told[0], told[7], told[-1]) == (0, pytest.approx(1 / 3), 1)
    assert not (tmp_path / "steps.txt").exists()
    assert job.share_of_steps == 0
    (tmp_path / "steps.txt").write_text("10 21")
    Run(tmp_path).write_rows(Run(tmp_path).rows()[:1])
    assert Board().progress(job) == pytest.approx(3 * 10 / 21)
    (tmp_path / "steps.txt").write_text("0 21")
    assert Board().progress(job) == 1  # an epoch is an epoch


def test_a_run_that_diverges_is_named_and_the_others_go_on(tmp_path, capsys):
    options = ["--optimizers", "sgd", "adam", "--seeds", "1", "--epochs", "3", "--limit", "100", "--batch", "20"]
    assert main(["compare", *options, "--warmup-steps", "0", "--lr", "sgd=1e30", "--out", str(tmp_path)]) == 0
    assert "diverged" in capsys.readouterr().out
    folder = RunFolder(tmp_path)
    assert folder.run("sgd", 0).status == "diverged"
    assert len(folder.metrics("sgd", 0)) == 1
    assert folder.finished("adam", 0)


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
