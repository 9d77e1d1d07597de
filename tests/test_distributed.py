"""Two processes under torchrun write the metrics that one process writes, and go on where they were interrupted."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adai.errors import UserError
from adai.lab.host.ranks import Ranks
from adai.lab.queue.compare import compare
from adai.lab.results.folders import RunFolder
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.training.train import train
from tests.points import task
from tests.untimed import untimed

pytestmark = pytest.mark.slow

# Batches of 9 are shared as 5 and 4, each in two parts; the last has 4.
OPTIONS = ["--task", "tests.points:task", "--epochs", "3", "--batch", "9", "--lr", "0.5", "--accumulate", "2"]
OPTIONS += ["--checkpoint-every", "0"]
SETTINGS = Settings.of("tests.points:task", epochs=3, batch=9, lr=0.5, accumulate=2)


def torchrun(out):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "adai"]
    root = Path(__file__).parent.parent
    return subprocess.run(
        [*command, "train", *OPTIONS, "--out", str(out)], capture_output=True, text=True, check=False, cwd=root
    )


def test_two_processes_write_what_one_does_and_go_on_where_they_were_interrupted(tmp_path):
    result = torchrun(tmp_path)
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stdout.splitlines() if line.startswith("3 epochs, test error")]
    assert len(said) == 1  # the first process speaks
    run = Run(tmp_path)
    rows = untimed(run)
    alone = untimed(train(SETTINGS, tmp_path / "alone", factory=task))
    for two, one in zip(rows, alone, strict=True):
        assert {k: v for k, v in two.items() if v is not None} == pytest.approx(
            {k: v for k, v in one.items() if v is not None}, rel=1e-5
        )
    assert run.config()["processes"] == 2

    (tmp_path / "checkpoint-000003.pt").unlink()
    run.write_rows(run.rows()[:2])
    result = torchrun(tmp_path)
    assert result.returncode == 0, result.stderr
    assert untimed(run) == rows
    assert len(list(tmp_path.glob("checkpoint-*.pt"))) == 2


def test_shares_are_all_of_a_batch_and_each_example_once():
    where = torch.arange(10)
    for world in (1, 2, 3):
        shares = [Ranks(rank, world).share(where) for rank in range(world)]
        assert torch.equal(torch.cat(shares), where)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_comparison_under_torchrun_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="a comparison does not run under torchrun; run adai train"):
        compare(RunFolder(tmp_path))
