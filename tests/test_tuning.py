"""Tuning: as many trials for each, on training examples alone, and the same again after an interruption."""

import json

import pytest
import torch
from torch.utils.data import TensorDataset

from adai.lab.queue.compare import compare
from adai.lab.queue.executors import in_process
from adai.lab.queue.tuning import SEED, VALIDATION, Tuning
from adai.lab.results.folders import RunFolder
from adai.lab.settings import Settings
from adai.lab.tasks.sources import Tensors, held_out
from adai.lab.tasks.task import Task
from adai.lab.training import learner

OPTIONS = {"optimizers": ["adai", "sgd"], "seeds": 1, "epochs": 1, "limit": 200}


def test_every_optimizer_has_as_many_trials_and_the_best_is_trained_afresh(tmp_path):
    folder = RunFolder(tmp_path)
    compare(folder, **OPTIONS, tune=3)
    tried = json.loads((tmp_path / "tuning" / "tuning.json").read_text())["trials"]
    assert {name: len(trials) for name, trials in tried.items()} == {"adai": 3, "sgd": 3}
    assert tried["sgd"][0]["lr"] == pytest.approx(0.1)  # the recipe's own values come first
    for name, trials in tried.items():
        best = min(trials, key=lambda trial: (trial["value"], trial["loss"]))
        options = folder.run(name, 0).config()["options"]
        assert {key: options[key] for key in ("lr", "weight_decay")} == {
            key: best[key] for key in ("lr", "weight_decay")
        }
        trial = json.loads((tmp_path / "tuning" / name / "trial0" / "config.json").read_text())
        assert (trial["seed"], trial["validation"]) == (SEED, VALIDATION)
        assert folder.run(name, 0).config()["validation"] == 0
    assert folder.config()["trials"] == 3


def tuned(tmp_path, status, trials=8, **values):
    """The learning rates that are tried for SGD, whose rate is 0.1, and the options that are chosen.

    Args:
        tmp_path: the folder.
        status: a function of the learning rate, the status of such a trial.
        trials: how many.
        values: the error and the loss of each trial.
    """

    def execute(jobs, tick):
        for job in jobs:
            job.run.open(job.settings.as_dict(), {})
            of = status(job.settings.options["lr"])
            row = {"test_metric": None, "train_loss": 0.1, "test_error": 5.0, "test_loss": 1.0, **values}
            row |= {"train_loss": None} if of == "diverged" else {}
            (job.folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return []

    base = Settings.of("digits", optimizer="sgd", epochs=1)
    chosen = Tuning(trials)(tmp_path, {"sgd": base}, execute, lambda jobs: None, data_dir=None)
    tried = json.loads((tmp_path / "tuning.json").read_text())["trials"]["sgd"]
    return [trial["lr"] for trial in tried], chosen["sgd"]


def test_the_first_trials_are_far_apart(tmp_path):
    rates, _ = tuned(tmp_path, lambda lr: "finished")
    assert rates[:7] == pytest.approx([0.1, 0.1 / 3, 0.3, 0.01, 1.0, 0.1 / 30, 3.0])
    assert len(rates) == 8
    assert 0.1 / 30 <= rates[7] <= 3


def test_rates_above_one_that_diverged_are_left_out(tmp_path):
    rates, chosen = tuned(tmp_path, lambda lr: "diverged" if lr > 0.02 else "finished", trials=4)
    assert rates == pytest.approx([0.1, 0.1 / 3, 0.01, 0.1 / 30])
    assert chosen["lr"] in rates[2:]


def test_if_all_trials_diverge_the_user_is_told(tmp_path, caplog):
    rates, chosen = tuned(tmp_path, lambda lr: "diverged", trials=2)
    assert chosen["lr"] == rates[0] == pytest.approx(0.1)
    assert "all 2 trials of SGD momentum failed" in caplog.text


def test_an_interrupted_search_ends_the_same(tmp_path):
    straight, broken = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    compare(straight, **OPTIONS, tune=3)
    done = []

    def interrupted(jobs, tick):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(jobs)
        return in_process(jobs, tick)

    with pytest.raises(KeyboardInterrupt):
        compare(broken, **OPTIONS, tune=3, execute=interrupted)
    started = []
    compare(broken, **OPTIONS, tune=3, execute=lambda jobs, tick: started.extend(jobs) or in_process(jobs, tick))
    assert len(started) == 2 + 2  # the last round of trials, and the runs
    assert broken.config()["optimizers"] == straight.config()["optimizers"]


def test_what_is_not_decayed_stays_so(tmp_path):
    compare(RunFolder(tmp_path), **OPTIONS, overrides={"sgd": {"weight_decay": 0.0}}, tune=2)
    assert RunFolder(tmp_path).config()["optimizers"]["sgd"]["weight_decay"] == 0


def test_held_out_examples_are_not_trained_on_and_not_augmented():
    inputs = torch.arange(20.0).reshape(20, 1, 1, 1).expand(20, 1, 4, 4).contiguous()
    source = Tensors(inputs, torch.arange(20), augment=True)
    train, validation = held_out(source, 0.25)
    assert (len(train), len(validation)) == (15, 5)
    draws = torch.Generator().manual_seed(0)
    ((_, trained),) = train.batches([torch.arange(15)], draws)
    ((shown, held),) = validation.batches([torch.arange(5)], draws)
    assert sorted(torch.cat([trained, held]).tolist()) == list(range(20))
    assert torch.equal(shown, inputs[held])
    again = held_out(source, 0.25)[1]
    assert torch.equal(again.numbers, validation.numbers)


def test_a_validation_run_does_not_see_the_test_examples():
    data = TensorDataset(torch.eye(3), torch.arange(3))
    unusable = TensorDataset(torch.full((3, 3), torch.nan), torch.arange(3))
    run = learner.Learner(
        Settings(task="a:b", model=None, validation=0.4, options={"lr": 0.1}, batch=2),
        lambda: Task(torch.nn.Linear(3, 3), data, unusable),
        torch.device("cpu"),
        learner.Ranks(),
    )
    assert run.epoch(0)["test_loss"] is not None
    assert (len(run.train), len(run.test)) == (2, 1)
