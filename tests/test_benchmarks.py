"""Benchmarks that need no GPU and no idle machine to be tested: they run, at tiny sizes, and write what they say."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_host_time_measures_every_mode(tmp_path):
    written = tmp_path / "results" / "host_time.json"
    command = [sys.executable, BENCHMARKS / "host_time.py", "--tensors", "3", "5", "--turns", "1", "--steps", "4"]
    done = subprocess.run([*command, "--json", written], check=True, capture_output=True, text=True)
    rows = json.loads(written.read_text())["rows"]
    assert len(rows) == 8
    assert all(row["after_us"] > 0 and row["mode"] in done.stdout for row in rows)


def test_every_part_of_the_gpu_hour_runs_dry(tmp_path):
    """On a CPU no item fails, and those that are skipped say why."""
    command = [sys.executable, BENCHMARKS / "gpu_hour.py", "--dry", "--out", tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for part, least in (("A", 10), ("B", 6), ("C", 7), ("D", 1)):
        items = json.loads((tmp_path / f"{part}.json").read_text())["items"]
        assert sum(item["status"] == "done" for item in items.values()) >= least
        assert all("GPU" in i["why"] or "CPU" in i["why"] for i in items.values() if i["status"] == "skipped")
    shown = subprocess.run([*command, "--show"], check=True, capture_output=True, text=True).stdout
    assert "## Part D" in shown
    assert "| Adai fused, settled | " in shown


def test_the_gpu_hour_runs_the_items_that_are_asked_for(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu_hour.py", "A", "--dry", "--out", tmp_path, "--items"]
    subprocess.run([*command, "nan_spreads"], check=True, capture_output=True)
    assert list(json.loads((tmp_path / "A.json").read_text())["items"]) == ["nan_spreads"]
    refused = subprocess.run([*command, "nans"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "there is no item nans" in refused.stderr


def test_the_gpu_hour_keeps_how_many_tests_passed(tmp_path):
    command = [sys.executable, BENCHMARKS / "gpu_hour.py", "A", "--dry", "--out", tmp_path, "--items", "tests"]
    subprocess.run(command, check=True, capture_output=True)
    (item,) = json.loads((tmp_path / "A.json").read_text())["items"].values()
    assert re.search(r"\d+ (passed|skipped).* in ", item["result"])


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return pytest.importorskip("gpu.items")


def test_an_item_that_fails_is_written_down_and_the_next_is_run(gpu, tmp_path):
    def fails(scale):
        scale.keep({"so far": 1})
        raise ValueError("no good")

    def works(scale):
        return json.loads((tmp_path / "A.json").read_text())["items"]["fails"]["status"]

    def late(scale):
        raise AssertionError

    file = tmp_path / "A.json"
    gpu.run([fails, works], gpu.Scale("cpu", dry=True), file, {"part": "A"})
    items = json.loads(file.read_text())["items"]
    assert "no good" in items["fails"]["why"]
    assert items["fails"]["result"] == {"so far": 1}
    assert items["works"]["result"] == "failed", "the file was written before the next item"
    gpu.run([late], gpu.Scale("cpu", dry=True, seconds=-1), file, {"part": "A"})
    assert json.loads(file.read_text())["items"]["late"]["status"] == "skipped"


def test_images_are_carried_in_parts(gpu, tmp_path, monkeypatch):
    lab = importlib.import_module("gpu.lab")
    monkeypatch.setattr(lab, "PART_BYTES", 1000)
    data = lab.made_up("cpu", 5)
    torch.save({"train": tuple(data.train), "test": tuple(data.test), "classes": 10}, tmp_path / "whole.pt")
    assert len(lab.split(tmp_path / "whole.pt", tmp_path / "parts")) > 10
    joined = lab.images(gpu.Scale("cpu", dry=False, data=tmp_path / "parts"))
    assert torch.equal(joined.train.pixels, data.train.pixels)
    assert torch.equal(joined.test.labels, data.test.labels)
    with pytest.raises(gpu.Skipped, match="docs/gpu.md"):
        lab.images(gpu.Scale("cpu", dry=False, data=tmp_path))
