"""The queue of runs: the same numbers wherever they are carried out, and nothing lost when a process or a node dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from adai.cli import main
from adai.errors import UserError
from adai.lab.queue.compare import compare
from adai.lab.queue.executors import Processes
from adai.lab.results.folders import RunFolder
from tests.untimed import alike

pytestmark = pytest.mark.slow

# A task of three examples, and a file in the working folder that says how often it still has to fail.
TASK = """
    import os, signal
    from pathlib import Path
    import torch
    from torch.utils.data import TensorDataset
    from adai.lab.tasks.task import Task

    def task():
        with open("processes.txt", "a") as processes:
            print(os.getpid(), file=processes)
        left = Path("failures.txt")
        if left.exists() and int(left.read_text()) > 0:
            left.write_text(str(int(left.read_text()) - 1))
            {failure}
        data = TensorDataset(torch.eye(3), torch.arange(3))
        return Task(torch.nn.Linear(3, 3), data, data)
"""
WAYS = {"die": "os.kill(os.getpid(), signal.SIGKILL)", "raise": "raise OverflowError('too\\nmuch')"}


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """Makes a task that fails so often, in that way; returns its name."""

    def make(way, times):
        name = f"failing_{way}_{times}_{tmp_path.name}".replace("[", "_").replace("]", "_").replace("-", "_")
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(TASK).format(failure=WAYS[way]))
        (tmp_path / "failures.txt").write_text(str(times))
        return f"{name}:task"

    monkeypatch.chdir(tmp_path)
    return make


def test_processes_give_the_numbers_of_this_process(tmp_path):
    here, beside = RunFolder(tmp_path / "here"), RunFolder(tmp_path / "beside")
    options = {"optimizers": ["adai", "sgd"], "seeds": 1, "epochs": 2}
    threads = torch.get_num_threads()
    assert compare(here, **options) == []
    seen = []

    def watch(jobs):
        seen.append([len(job.run.rows()) for job in jobs])

    assert compare(beside, **options, execute=Processes(2, threads), watch=watch) == []
    assert seen[0] == [0, 0]
    assert seen[-1] == [2, 2]
    assert alike(here, beside, ["adai", "sgd"], 1)


def test_a_run_whose_process_raises_is_tried_once_more(failing, tmp_path):
    folder = RunFolder(tmp_path / "runs")
    task = failing("raise", 1)
    assert compare(folder, task=task, optimizers=["sgd"], seeds=1, epochs=2, execute=Processes(1)) == []
    assert folder.run("sgd", 0).status != "unfinished"


def test_a_run_that_dies_twice_is_reported_and_the_others_finish(failing, tmp_path):
    folder = RunFolder(tmp_path / "runs")
    options = {"task": failing("die", 2), "optimizers": ["adai", "sgd"], "seeds": 1, "epochs": 2}
    (failure,) = compare(folder, **options, execute=Processes(1))
    assert str(failure) == "Adai, seed 0 failed 2 times: the process was killed by SIGKILL"
    assert folder.run("adai", 0).status == "unfinished"
    assert folder.run("sgd", 0).status != "unfinished"
    # The cause is gone: the same call finishes it.
    assert compare(folder, **options) == []
    assert folder.run("adai", 0).status != "unfinished"


@pytest.mark.parametrize("way", ["raise", "die"])
def test_a_process_takes_the_next_run_and_is_replaced_when_one_fails(way, failing, tmp_path):
    def processes(times):
        folder, task = RunFolder(tmp_path / f"runs{times}"), failing(way, times)
        (tmp_path / "processes.txt").unlink(missing_ok=True)
        assert compare(folder, task=task, optimizers=["adai", "sgd"], seeds=1, epochs=1, execute=Processes(1)) == []
        return [int(line) for line in (tmp_path / "processes.txt").read_text().split()]

    first, second = processes(0)
    assert first == second != os.getpid()
    failed, first, second = processes(1)
    assert first == second != failed
    assert multiprocessing.active_children() == []


def test_failures_in_this_process_too(failing, tmp_path):
    folder = RunFolder(tmp_path / "runs")
    (failure,) = compare(folder, task=failing("raise", 2), optimizers=["adai", "sgd"], seeds=1, epochs=2)
    assert "OverflowError: too much (see " in failure.reason
    assert "OverflowError" in (folder.run("adai", 0).path / "error.txt").read_text()
    assert folder.run("sgd", 0).status != "unfinished"
    with pytest.raises(UserError, match="failing"):  # what is wrong for all is said at once
        compare(RunFolder(tmp_path / "other"), task="failing_in_name:task", optimizers=["adai"], seeds=1, epochs=1)


def test_a_failure_is_printed_and_the_status_is_1(failing, tmp_path, capsys):
    command = ["compare", "--task", failing("raise", 2), "--optimizers", "adai,sgd", "--seeds", "1", "--epochs", "1"]
    assert main([*command, "--out", str(tmp_path / "runs")]) == 1
    out = capsys.readouterr().out
    assert "Adai, seed 0 failed 2 times: OverflowError: too much" in out
    assert "SGD momentum" in out
    assert main([*command, "--out", str(tmp_path / "runs")]) == 0


def test_runs_end_with_the_command_that_started_them(tmp_path):
    """A killed command must not leave runs behind that write to the same folders as those of the next one."""
    script = f"""
        from pathlib import Path
        from adai.lab.queue.compare import compare
        from adai.lab.queue.executors import Processes
        from adai.lab.results.folders import RunFolder
        if __name__ == "__main__":
            folder = RunFolder(Path({str(tmp_path)!r}))
            compare(folder, optimizers=["sgd"], seeds=1, epochs=100_000, execute=Processes(1))
    """
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(script))
    command = subprocess.Popen([sys.executable, file])
    run = RunFolder(tmp_path).run("sgd", 0)
    until = time.monotonic() + 60
    while not run.rows():
        assert time.monotonic() < until
        time.sleep(0.1)
    command.send_signal(signal.SIGKILL)
    command.wait()
    time.sleep(1)
    rows = len(run.rows())
    time.sleep(1)
    assert len(run.rows()) == rows


def test_several_models_are_comparisons_of_their_own(tmp_path):
    folder = RunFolder(tmp_path)
    compare(folder, models=["smallnet", "fc3"], optimizers=["sgd"], seeds=1, epochs=1)
    for model in ("smallnet", "fc3"):
        part = RunFolder(tmp_path / model)
        assert part.config()["model"] == model
        assert part.run("sgd", 0).status != "unfinished"
    assert not (tmp_path / "config.json").exists()


READ = """
    import os
    import torch
    from torch import nn
    from torch.utils.data import Dataset
    from adai.lab.tasks.task import Task

    class Data(Dataset):
        def __init__(self, bad):
            self.bad = bad
        def __len__(self):
            return 32
        def __getitem__(self, index):
            with open("readers.txt", "a") as readers:
                print(os.getpid(), file=readers)
            if self.bad and index == 20:
                {failure}
            return torch.ones(4), index % 2

    def good(): return Task(nn.Linear(4, 2), Data(False), Data(False))
    def bad(): return Task(nn.Linear(4, 2), Data(True), Data(False))
"""


def reading(tmp_path, monkeypatch, name, failure="raise ValueError('no label')"):
    """The name of a module whose tasks are read by processes, and how to learn which they were."""
    module = f"read_{name}_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(textwrap.dedent(READ).format(failure=failure))
    monkeypatch.chdir(tmp_path)
    return module, lambda: {int(line) for line in (tmp_path / "readers.txt").read_text().split()}


def left_of(processes):
    """Those that are still there, shortly after."""
    left = list(processes)
    for _ in range(50):
        left = [pid for pid in left if os.path.exists(f"/proc/{pid}")]
        if not left:
            break
        time.sleep(0.1)
    return left


def test_readers_stay_for_a_run_and_go_with_it(tmp_path, monkeypatch):
    module, readers = reading(tmp_path, monkeypatch, "stays")
    options = {"task": f"{module}:good", "optimizers": ["sgd"], "seeds": 1, "epochs": 4, "batch": 8, "workers": 2}
    assert compare(RunFolder(tmp_path / "runs"), **options, execute=Processes(2)) == []
    assert len(readers()) == 3  # two for training, one for the one batch of the test, whatever the number of epochs
    assert os.getpid() not in readers()
    assert left_of(readers()) == []


@pytest.mark.parametrize(
    ("where", "failure"),
    [
        ("here", "raise ValueError('no label')"),
        ("here", "os._exit(3)"),
        ("beside", "raise ValueError('no label')"),
        ("beside", "os._exit(3)"),
        ("beside", "os.kill(os.getppid(), 9)"),
    ],
)
def test_of_a_run_that_fails_no_reader_is_left(where, failure, tmp_path, monkeypatch):
    module, readers = reading(tmp_path, monkeypatch, "fails", failure)
    options = {"task": f"{module}:bad", "optimizers": ["sgd"], "seeds": 1, "epochs": 1, "batch": 8, "workers": 2}
    given = {"execute": Processes(1)} if where == "beside" else {}
    assert len(compare(RunFolder(tmp_path / "runs"), **options, **given)) == 1
    assert readers()
    assert left_of(readers()) == []
    assert multiprocessing.active_children() == []


def test_an_interrupted_comparison_leaves_none(tmp_path, monkeypatch):
    module, readers = reading(tmp_path, monkeypatch, "slow", "import time; time.sleep(100)")
    options = {"task": f"{module}:bad", "optimizers": ["sgd"], "seeds": 1, "epochs": 1, "batch": 8, "workers": 2}

    class Interrupted(BaseException):
        pass

    def watch(jobs):
        if (tmp_path / "readers.txt").exists():
            raise Interrupted

    with pytest.raises(Interrupted):
        compare(RunFolder(tmp_path / "runs"), **options, execute=Processes(1), watch=watch)
    assert readers()
    assert left_of(readers()) == []
