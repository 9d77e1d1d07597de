"""The JSON files of gpu_hour.py as Markdown tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders import BASELINE


def tables(folder: Path) -> str:
    """What the files of a folder hold, part by part."""
    lines: list[str] = []
    for file in sorted(folder.glob("[A-D].json")):
        report = json.loads(file.read_text())
        about = (
            report.get("gpu", "no GPU"),
            f"torch {report['torch']}",
            f"Triton {report['triton']}",
            f"Python {report['python']}",
        )
        lines += [f"## Part {report['part']}", "", ", ".join(about), ""]
        for name, item in report["items"].items():
            if item["status"] != "done":
                lines += [f"- {name}: {item['status']}", ""]
            else:
                lines += [f"### {name}", "", *_item(name, item["result"]), ""]
    return "\n".join(lines)


def _item(name: str, result: Any) -> Iterator[str]:
    if name.startswith("steps_of"):
        yield from _steps(result)
    elif name == "steps_back_to_back":
        cells = {
            n: {k: (v["ms"], v["ms"] / of[BASELINE]["ms"], v["gb_per_s"]) for k, v in of.items()}
            for n, of in result.items()
        }
        yield from _side_by_side(cells)
    elif isinstance(result, Mapping):
        yield from _table(["", "value"], [[key, _short(value)] for key, value in result.items()])
    elif isinstance(result, list):
        yield from _table(
            ["optimizer", "epochs", "status", "test error"],
            [[r["optimizer"], r["epochs"], r["status"], _short(r["rows"][-1]["test_error"])] for r in result],
        )
    else:
        yield _short(result)


def _steps(result: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    yield from _side_by_side(
        {n: {row["name"]: (row["ms"], row["ratio"], row["gb_per_s"]) for row in rows} for n, rows in result.items()}
    )


def _side_by_side(result: Mapping[str, Mapping[str, tuple[float, float, float | None]]]) -> Iterator[str]:
    """Milliseconds, the ratio to the baseline and GB/s of each contender, three columns for each set of tensors."""
    names = list(dict.fromkeys(name for of in result.values() for name in of))
    heads = [head for n in result for head in (f"{n}: ms", f"× {BASELINE}", "GB/s")]
    rows = [[name, *(_short(cell) for of in result.values() for cell in of.get(name, ("",) * 3))] for name in names]
    yield from _table(["", *heads], rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
