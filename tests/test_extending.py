"""docs/extending.md: each example runs as it stands, and does what it says."""

import re
import sys
from pathlib import Path

import pytest

from adai.lab.models import MODELS

TEXT = (Path(__file__).parents[1] / "docs/extending.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (.*?)\n.*?```python\n(.*?)```", TEXT, re.M | re.S))


def test_there_is_an_example_of_each():
    assert list(EXAMPLES) == ["An optimizer", "A task", "A model", "A measure", "An engine"]


@pytest.mark.slow
@pytest.mark.parametrize("what", EXAMPLES)
def test_it_runs(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = dict(MODELS)
    names = {"__name__": "example"}
    monkeypatch.setitem(sys.modules, "example", type(sys)("example"))
    try:
        exec(compile(EXAMPLES[what], what, "exec"), names)
    finally:
        MODELS.clear()
        MODELS.update(before)
    out = capsys.readouterr().out
    if what == "An engine":
        assert out == "10\n"
    else:
        result = names["result"]
        assert [len(entrant.runs) for entrant in result.entrants] == [3, 3]
        assert list(tmp_path.glob("runs/*/*/seed2/metrics.jsonl"))
    if what == "A measure":
        assert len(result.to_frame("weight-norm")) == 2 * 3 * 2
    if what == "A task":
        assert result.metric["name"] == "RMSE"
