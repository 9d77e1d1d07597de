"""Text from outside, escaped for every format and shown on every terminal."""

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from adai.lab.host.progress import progress_bar
from adai.lab.host.terminal import terminal
from adai.lab.measure.stored import finished_runs
from adai.lab.results.comparison import read
from adai.lab.results.summary import summarise
from adai.report import text
from adai.report.fitting import Fitting
from adai.report.page import write
from adai.report.rows import write_csv
from adai.report.saddle import Row
from adai.report.tables import Cells, as_markdown, as_table, for_terminal, latex, side_by_side
from tests.folders import comparison

NASTY = r"a[/b] [lr] :cat: $x_1$ 5% & #1 {y}~z^2 \n <b> | `c` *d*"


def test_latex_escapes_every_special_character():
    assert text.latex(r"50% a_b & #1 $x$ {y} ~ ^ \ < > |") == (
        r"50\% a\_b \& \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} \textless{} "
        r"\textgreater{} \textbar{}"
    )
    assert text.latex("3.1 ± 0.1\n−2 – Adai’s") == r"3.1 $\pm$ 0.1 $-$2 -- Adai's"
    assert text.latex("[x]") == "{[}x{]}"  # after a line's end, LaTeX takes [x] for a length


def test_markdown_shows_a_cell_as_it_is():
    line = as_markdown(["a"], [["x|y_z*\n<b> [l](u) `c`"]]).splitlines()[2]
    assert line == r"| x\|y\_z\* \<b> \[l\](u) \`c\` |"


@pytest.mark.parametrize("label", ["$x$", "cost $5 or $6", "a_b", "_hidden", "50 %", r"\alpha", "\udcff"])
def test_matplotlib_draws_text_and_no_mathematics(label):
    figure = Figure()
    axes = figure.subplots()
    axes.set_title(text.drawn(label))
    drawn = axes.plot([0, 1], label=text.legend(label))
    figure.canvas.draw()
    shown = figure.legend(handles=drawn)
    assert shown.get_texts()[0].get_text().replace(r"\$", "$").strip() == text.encodable(label)
    _, mathematics = axes.title._preprocess_math(axes.title.get_text())
    assert not mathematics


def test_a_console_shows_brackets_and_colons(capsys):
    console = terminal()
    table = Table(title=NASTY)
    table.add_column(NASTY, no_wrap=True)
    table.add_row(NASTY)
    console.print(table, width=200)
    console.print(NASTY, soft_wrap=True)
    with progress_bar(console) as bars:
        bars.update(bars.add_task("[/x] [lr]", total=1), completed=1)
    out = capsys.readouterr().out
    assert out.count(NASTY) == 4
    assert "[/x] [lr]" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_of_any_encoding_gets_the_nearest_characters(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=text.ENCODING_ERRORS)
    stream.write("3 ± 1 − μ é 漢 \udcff …")
    stream.seek(0)
    written = stream.buffer.getvalue().decode(encoding)
    assert "\\udcff" in written
    if encoding == "ascii":
        assert written == "3 +- 1 - mu e \\u6f22 \\udcff ..."


@pytest.fixture
def folder(tmp_path):
    """A comparison with special characters in the names of an optimizer, the folder and the settings."""
    name = "_l[io]n $5$ 50% a_b"
    path = comparison(tmp_path / "r[/x] $1$ \udcff", {"adai": [3.0, 3.1, 3.2], name: [3.5, 3.4, 3.9]}, task="$t$ & <i>")
    return path, name


@pytest.mark.slow
def test_a_report_of_nasty_names(folder, capsys):
    path, name = folder
    summary = summarise(read(path))
    page = write(read(path), summary).read_text()
    assert "<i>" not in page
    assert "$t$ &amp; &lt;i&gt;" in page
    assert r"50\% a\_b" in latex(summary)
    assert r"\$5\$" in latex(summary)
    with (path / "summary.csv").open() as file:
        assert name in {line["optimizer"] for line in csv.DictReader(file)}
    plain = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [sys.executable, "-m", "adai", "report", path]
    done = subprocess.run(command, capture_output=True, check=False, env=plain)
    assert done.returncode == 0, done.stderr
    assert "_l[io]n $5$ 50% a_b" in done.stdout.decode("ascii")
    assert "+-" in done.stdout.decode("ascii")


def test_the_runs_of_a_name_with_brackets_are_found(folder):
    path, name = folder
    for file in path.glob("*/seed*/metrics.jsonl"):
        (file.parent / "config.json").write_text(json.dumps({"epochs": 4}))
    found = [run.parent.name for run in finished_runs(path)]
    assert found == ["adai"] * 3 + [name] * 3


def test_a_csv_accepts_names_that_are_not_valid_text(tmp_path):
    write_csv(tmp_path / "t.csv", [Row("μ\udcff", *[1.0] * 11)])
    assert "μ\\udcff" in (tmp_path / "t.csv").read_text(encoding="utf-8")


# --- narrow terminals -------------------------------------------------------------------------------------------------


def shown(view, width):
    console = Console(markup=False, emoji=False, width=width, file=io.StringIO())
    console.print(view)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_no_cell_is_cut_off_at_any_width(width, tmp_path):
    path = comparison(tmp_path / "r", {"adai": [3.0, 3.1, 90.0], "sgd": [3.5, 3.4, 3.9]})
    numbers = [[f"a-rather-long-name{n}", "12,345,678 (11,111,111 to 13,131,313)", "3.00 ± 0.10"] for n in range(2)]
    names = ["runs/one", "runs/another"]
    views = (
        as_table(summarise(read(path))),
        for_terminal(Cells("a title", ["name", "mean", "other"], numbers)),
        side_by_side("a title", names, [("largest eigenvalue", ["1.234 ± 0.1", "5.678 ± 0.2"])], each=2),
    )
    expected = (["0.26", "0.5000"], ["13,131,313)", "0.10"], ["5.678", "0.2"])
    for view, cells in zip(views, expected, strict=True):
        out = shown(view, width)
        assert "…" not in out
        assert max(map(len, out.splitlines())) <= width
        words = " ".join(out.replace("│", " ").split())
        for cell in cells:
            assert cell in words


def test_a_table_that_fits_is_a_table():
    table = Table("name", "number")
    table.add_row("one", "1")
    assert shown(Fitting(table), 80) == shown(table, 80)
    assert shown(Fitting(table), 14).split() == ["name", "one", "number:", "1"]
