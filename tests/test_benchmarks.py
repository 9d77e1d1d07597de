"""Benchmarks that need no GPU and no idle machine to be tested: they run, at tiny sizes, and write what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_host_time_measures_every_mode(tmp_path):
    written = tmp_path / "results" / "host_time.json"
    command = [sys.executable, BENCHMARKS / "host_time.py", "--tensors", "3", "5", "--turns", "1", "--steps", "4"]
    done = subprocess.run([*command, "--json", written], check=True, capture_output=True, text=True)
    rows = json.loads(written.read_text())["rows"]
    assert len(rows) == 8
    assert all(row["after_us"] > 0 and row["mode"] in done.stdout for row in rows)
