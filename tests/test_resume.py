"""A run that is interrupted anywhere goes on to the same end; what is damaged or cannot be written is said."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from adai.cli import main
from adai.errors import UserError
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.tasks.data import load
from adai.lab.tasks.task import image_task
from adai.lab.training import checkpoints
from adai.lab.training.train import train
from tests.untimed import untimed

pytestmark = pytest.mark.slow

EPOCHS = 3


SELDOM = 1000  # seconds between checkpoints, of runs that take less


class Killed(BaseException):
    """An interruption, as Ctrl-C is one."""


@pytest.fixture(scope="module")
def factory():
    """Digits with crops and a dropout: everything that draws random numbers."""
    make = image_task(load("digits", device=torch.device("cpu"), limit=150), "smallnet", augment=True)

    def task():
        made = make()
        return made._replace(model=torch.nn.Sequential(made.model, torch.nn.Dropout(0.1)))

    return task


@pytest.fixture(scope="module")
def straight(factory, tmp_path_factory):
    """A maker of what a run gives when nothing happens to it."""
    done = {}

    def run(name="adai"):
        if name not in done:
            done[name] = train(settings(name), tmp_path_factory.mktemp(name), factory=factory)
        return done[name]

    return run


def settings(name="adai", **given):
    return Settings.of("digits", optimizer=name, epochs=EPOCHS, augment=True, warmup_steps=2, **given)


def stop_after(epochs):
    def progress(rows):
        if len(rows) == epochs:
            raise Killed

    return progress


@pytest.mark.parametrize("name", RECIPES)
def test_every_optimizer_goes_on_bit_for_bit(name, factory, straight, tmp_path):
    with pytest.raises(Killed):
        train(settings(name), tmp_path, factory=factory, progress=stop_after(1))
    torch.rand(3)  # another process starts elsewhere
    run = train(settings(name), tmp_path, factory=factory)
    assert untimed(run) == untimed(straight(name))
    a, b = (checkpoints.load(r.path)["model"] for r in (run, straight(name)))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(("every", "written"), [(0, [1, 2, 3]), (SELDOM, [3])])
def test_checkpoints_are_written_by_time_and_at_the_end(every, written, factory, straight, tmp_path, monkeypatch):
    epochs = []
    save = checkpoints.save
    monkeypatch.setattr(checkpoints, "save", lambda *given: epochs.append(given[1]) or save(*given))
    run = train(settings(), tmp_path, factory=factory, checkpoint_every=every)
    assert epochs == written
    assert untimed(run) == untimed(straight())


def test_a_checkpoint_is_due_when_the_last_one_is_old_enough(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    kept = checkpoints.ByTime(tmp_path, 60)
    for epoch, now in enumerate((30, 59, 61, 100, 120, 121, 300), start=1):  # noqa: B007
        kept.take(epoch, {"epoch": epoch})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint-000006.pt", "checkpoint-000007.pt"]
    now = 301
    kept.take(8, {"epoch": 8})
    assert checkpoints.load(tmp_path) == {"epoch": 7}
    kept.write_held()
    assert checkpoints.load(tmp_path) == {"epoch": 8}


def test_what_is_held_does_not_change_with_the_run(tmp_path):
    weight = torch.ones(3)
    kept = checkpoints.ByTime(tmp_path, SELDOM)
    kept.take(1, {"model": {"weight": weight}, "optimizer": [{"m": (weight, 0.5)}]})
    weight.zero_()
    kept.write_held()
    (held,) = checkpoints.load(tmp_path)["model"].values()
    assert held.tolist() == [1, 1, 1]
    assert checkpoints.load(tmp_path)["optimizer"][0]["m"][0].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("every", "first"), [(0, 2), (SELDOM, 0)])
def test_what_kill_9_leaves_goes_on_and_no_row_stands_twice(every, first, factory, straight, tmp_path):
    """What is on disk at a moment is what kill -9 leaves."""

    def progress(rows):
        if len(rows) == 2:
            shutil.copytree(tmp_path / "run", tmp_path / "left")

    train(settings(), tmp_path / "run", factory=factory, checkpoint_every=every, progress=progress)
    left = Run(tmp_path / "left")
    assert [row["epoch"] for row in left.rows()] == [1, 2]
    seen = []
    run = train(settings(), left.path, factory=factory, progress=lambda rows: seen.append(len(rows)))
    assert seen == list(range(first, EPOCHS + 1))
    assert untimed(run) == untimed(straight())


def test_rows_after_the_checkpoint_are_trained_again(factory, straight, tmp_path):
    def progress(rows):
        if len(rows) == 2:
            shutil.copytree(tmp_path / "run", tmp_path / "left")

    given = {"checkpoint_every": SELDOM, "needed": lambda epoch: epoch == 1, "progress": progress}
    train(settings(), tmp_path / "run", factory=factory, **given)
    left = Run(tmp_path / "left")
    assert (len(left.rows()), checkpoints.load(left.path)["rows"]) == (2, left.rows()[:1])
    seen = []
    run = train(settings(), left.path, factory=factory, progress=lambda rows: seen.append(untimed(left)))
    assert seen == [untimed(straight())[:epochs] for epochs in (1, 2, 3)]
    assert untimed(run) == untimed(straight())


@pytest.mark.parametrize(
    ("error", "said"),
    [(KeyboardInterrupt, KeyboardInterrupt), (Killed, Killed), (SystemExit, UserError), (ValueError, UserError)],
)
def test_whatever_ends_a_run_in_order_costs_no_epoch(error, said, factory, straight, tmp_path):
    def stepped(more, total):
        nonlocal steps
        steps += more
        if steps == total - 1:  # in the middle of the last epoch
            raise error

    steps = 0
    with pytest.raises(said):
        train(settings(), tmp_path, factory=factory, checkpoint_every=SELDOM, stepped=stepped)
    assert [file.name for file in tmp_path.glob("checkpoint-*.pt")] == ["checkpoint-000002.pt"]
    seen = []
    run = train(settings(), tmp_path, factory=factory, progress=lambda rows: seen.append(len(rows)))
    assert seen == [2, 3]
    assert untimed(run) == untimed(straight())


def test_a_run_that_diverges_leaves_the_state_before(factory, tmp_path):
    after = []

    def loss(outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets) / (len(after) < 3)

    def task():
        return factory()._replace(loss=loss)

    run = train(settings(), tmp_path, factory=task, checkpoint_every=SELDOM, progress=after.append)
    assert run.status == "diverged"
    assert checkpoints.load(tmp_path)["rows"] == run.rows()[:-1] == after[2]


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "--epochs", "1", "--limit", "60", "--optimizers", "sgd", "--seeds", "1"],
        ["suite", "--tasks", "digits", "--epochs", "1", "--limit", "60", "--optimizers", "sgd", "--seeds", "1"],
        ["paper", "table1", "--scale", "quick", "--only", "resnet18", "--optimizers", "sgd", "--seeds", "1"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_trains_takes_it(command, tmp_path, monkeypatch):
    taken = []

    def carry_out(console, comparisons, execute):
        taken.extend(comparison.keywords["checkpoint_every"] for comparison in comparisons)
        return 130

    for module in ("compare", "suite", "paper"):
        monkeypatch.setattr(f"adai.commands.{module}.carry_out", carry_out)
    monkeypatch.setattr("adai.commands.paper.check", lambda *_: None)  # the images are not needed here
    main([*command, "--checkpoint-every", "7", "--out", str(tmp_path)])
    assert taken == [7]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_the_command_keeps_every_finished_epoch_when_it_is_asked_to_end(name, tmp_path):
    options = ["train", "--epochs", "400", "--limit", "100", "--checkpoint-every", str(SELDOM), "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "adai", *options], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(Run(tmp_path).rows()) < 2 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(getattr(signal, name))
    said = process.communicate()[1]
    assert process.returncode == 130
    assert said == "Interrupted. Finished epochs are kept; the same command goes on from there.\n"
    assert checkpoints.load(tmp_path)["rows"] == Run(tmp_path).rows() != []


def test_fp16_goes_on_with_the_scale_it_had(factory, tmp_path):
    fp16 = settings("sgd", precision="fp16")
    whole = train(fp16, tmp_path / "a", factory=factory)
    with pytest.raises(Killed):
        train(fp16, tmp_path / "b", factory=factory, progress=stop_after(2))
    assert untimed(train(fp16, tmp_path / "b", factory=factory)) == untimed(whole)


@pytest.mark.parametrize("every", [0, SELDOM])
def test_a_crash_before_or_after_any_change_on_disk_does_no_harm(every, factory, straight, tmp_path, monkeypatch):
    """Every rename and every removal is a moment between two states; each in turn is the last thing that happens."""
    real = {"replace": os.replace, "unlink": os.unlink}
    left, counted = 0, 0

    def dying(name, after):
        def change(*args, **options):
            nonlocal counted
            counted += 1
            if counted > left or (counted == left and not after):
                raise Killed
            real[name](*args, **options)
            if counted == left:
                raise Killed

        return change

    moments = 0
    for after in (False, True):
        left = 0
        while True:
            left, counted = left + 1, 0
            folder = tmp_path / f"{after}-{left}"
            with monkeypatch.context() as patch:
                for name in real:
                    patch.setattr(os, name, dying(name, after))
                try:
                    train(settings(), folder, factory=factory, checkpoint_every=every)
                except Killed:
                    moments += 1
                else:
                    break
            run = train(settings(), folder, factory=factory, checkpoint_every=every)
            assert untimed(run) == untimed(straight()), (after, left)
            assert 1 <= len(list(folder.glob("checkpoint-*.pt"))) <= (1 if every else 2)
            assert not list(folder.glob(".*"))
    assert moments >= 2 * (1 + 1 + EPOCHS + (1 if every else EPOCHS))


def test_kill_9_and_the_same_command_goes_on_to_the_same_metrics(tmp_path):
    options = ["train", "--epochs", "6", "--batch", "16", "--augment", "--out"]
    moments = {1: 0.1, 3: 0.0}  # after that epoch: in the middle of the next, and at once
    often = {1: "0", 3: str(SELDOM)}
    commands = {
        epoch: [sys.executable, "-m", "adai", *options, str(tmp_path / f"{epoch}"), "--checkpoint-every", often[epoch]]
        for epoch in moments
    }
    processes = {epoch: subprocess.Popen(command, stdout=subprocess.DEVNULL) for epoch, command in commands.items()}
    for epoch, process in processes.items():
        deadline = time.monotonic() + 60
        while len(Run(tmp_path / f"{epoch}").rows()) < epoch and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(moments[epoch])
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert main([*options, str(tmp_path / "straight")]) == 0
    for epoch in moments:
        run = Run(tmp_path / f"{epoch}")
        assert run.status == "unfinished"
        assert main([*options, str(run.path)]) == 0
        assert untimed(run) == untimed(Run(tmp_path / "straight"))


def test_a_finished_run_says_so_and_does_nothing(tmp_path, capsys):
    command = ["train", "--epochs", "4", "--limit", "300", "--optimizer", "adam", "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "finished already" not in capsys.readouterr().out
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()}
    assert main(command) == 0
    assert "4 epochs, test error" in (out := capsys.readouterr().out)
    assert "it was finished already, nothing was done" in out
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").iterdir()} == before


def test_other_settings_are_refused_in_one_line(tmp_path, capsys, factory):
    train(settings(), tmp_path, factory=factory, progress=lambda rows: None)
    assert main(["train", "--epochs", "4", "--augment", "--lr", "0.5", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "holds a run with another options, epochs, warmup_steps" in error
    assert error.count("\n") == 1
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is not JSON"):
        train(settings(), tmp_path, factory=factory)


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_run_that_never_had_an_epoch_is_none_and_blocks_nothing(tmp_path, capsys, factory):
    out = ["--epochs", "1", "--limit", "100", "--out", str(tmp_path / "run")]
    assert main(["train", "--dataset", str(tmp_path / "no-such-data"), *out]) == 2
    assert main(["train", "--lr", "0.5", *out]) == 0
    assert Run(tmp_path / "run").config()["options"]["lr"] == 0.5
    assert main(["train", *out]) == 2
    assert "holds a run with another options" in capsys.readouterr().err
    # Killed between a checkpoint and its row: there is something to lose.
    (tmp_path / "run" / "metrics.jsonl").unlink()
    assert main(["train", *out]) == 2


def cut_off(data):
    return data[: len(data) // 2]


def one_bit_flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def emptied(data):
    return b""


@pytest.mark.parametrize("damage", [cut_off, one_bit_flipped, emptied])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(damage, factory, straight, tmp_path, caplog):
    with pytest.raises(Killed):
        train(settings(), tmp_path, factory=factory, checkpoint_every=0, progress=stop_after(2))
    last = tmp_path / "checkpoint-000002.pt"
    last.write_bytes(damage(last.read_bytes()))
    seen = []
    run = train(settings(), tmp_path, factory=factory, progress=lambda rows: seen.append(len(rows)))
    assert seen == [1, 2, 3]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{last} is damaged (")
    assert "\n" not in record.getMessage()
    assert untimed(run) == untimed(straight())


def test_with_both_checkpoints_damaged_the_run_starts_anew(factory, straight, tmp_path, caplog):
    with pytest.raises(Killed):
        train(settings(), tmp_path, factory=factory, checkpoint_every=0, progress=stop_after(2))
    for file in tmp_path.glob("checkpoint-*.pt"):
        file.write_bytes(b"no")
    assert untimed(train(settings(), tmp_path, factory=factory)) == untimed(straight())
    ends = [record.message.partition("; ")[2] for record in caplog.records]
    assert ends == ["going back to the one before", "none is left"]


def test_metrics_are_made_from_the_checkpoint_whatever_the_file_holds(factory, straight, tmp_path):
    with pytest.raises(Killed):
        train(settings(), tmp_path, factory=factory, progress=stop_after(2))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tr')
    assert len(Run(tmp_path).rows()) == 2  # a line that was cut off is none
    (tmp_path / "metrics.jsonl").unlink()
    assert untimed(train(settings(), tmp_path, factory=factory)) == untimed(straight())


def test_damaged_metrics_are_said_and_made_anew_from_the_checkpoint(factory, straight, tmp_path):
    train(settings(), tmp_path, factory=factory)
    (tmp_path / "metrics.jsonl").write_text("{no\n")
    with pytest.raises(UserError, match="metrics.jsonl is damaged .*; delete it, and run the command that trained"):
        train(settings(), tmp_path, factory=factory)
    (tmp_path / "metrics.jsonl").unlink()
    assert untimed(train(settings(), tmp_path, factory=factory)) == untimed(straight())


def test_a_task_that_has_changed_since_is_said_in_one_line(factory, tmp_path):
    with pytest.raises(Killed):
        train(settings(), tmp_path, factory=factory, progress=stop_after(1))

    def other():
        made = factory()
        return made._replace(model=torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)))

    with pytest.raises(UserError, match="is of another model .*; give another `folder`") as e:
        train(settings(), tmp_path, factory=other)
    assert "\n" not in str(e.value)


# --- a disk that does not take it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [0, SELDOM])
def test_a_full_disk_is_one_line_and_leaves_the_last_good_state(every, factory, straight, tmp_path, monkeypatch):
    full = False

    def progress(rows):
        nonlocal full
        full = len(rows) == 2

    real = os.replace

    def replace(part, path):
        if full:
            raise OSError(28, "No space left on device")
        real(part, path)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(UserError, match="No space left on device; make room, and run the same command") as e:
        train(settings(), tmp_path, factory=factory, checkpoint_every=every, progress=progress)
    assert "\n" not in str(e.value)
    assert len(Run(tmp_path).rows()) == 2
    assert not list(tmp_path.glob(".*"))  # no half file takes room
    full = False
    assert untimed(train(settings(), tmp_path, factory=factory)) == untimed(straight())


def test_the_command_meets_a_limit_of_the_system_with_one_line_and_status_2(tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the settings fit, a checkpoint does not
    try:
        status = main(["train", "--epochs", "1", "--limit", "100", "--out", str(tmp_path)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"adai train: cannot write to {tmp_path}: File too large; make room, and run the same command "
    )
    assert error.count("\n") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "metrics.jsonl", "start.json"]


def test_an_unwritable_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", "--out", str(tmp_path / "file" / "run")]) == 2
    error = capsys.readouterr().err
    assert "Not a directory; give another folder with --out" in error
    assert error.count("\n") == 1


def test_a_run_that_was_copied_goes_on(factory, straight, tmp_path):
    with pytest.raises(Killed):
        train(settings(), tmp_path / "a", factory=factory, progress=stop_after(1))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert untimed(train(settings(), tmp_path / "b", factory=factory)) == untimed(straight())
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["optimizer"] == "adai"
    assert config["torch"] == torch.__version__
