"""The report of a comparison: what it says, its files, and its page in a browser."""

import csv
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from adai.cli import main
from adai.errors import UserError
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.comparison import Record, ms_per_step, read
from adai.lab.results.flatness import after_last
from adai.lab.results.summary import ERROR, summarise, verdict
from adai.report.figures import pictures
from adai.report.page import write
from adai.report.style import style, variables
from adai.report.tables import cells, latex, markdown
from tests.browser import CHROMIUM, measure
from tests.folders import OLD, comparison, flatness

pytestmark = pytest.mark.slow

NAN, INTERRUPTED = math.nan, math.inf
ERRORS = {
    "adai": [3.0, 3.1, 3.2],
    "sgd": [3.5, 3.4, 3.9],
    "adam": [5.0, 5.2, 5.3],
    "adamw": [4.0, NAN, INTERRUPTED],
    "yogi": [None, None, None],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A comparison in which all that can happen to a run has happened, with its report."""
    path = comparison(tmp_path_factory.mktemp("report") / "runs", ERRORS)
    flatness(path, {"adai": [2.0, 3.0], "sgd": [1.0, 1.5, -0.5], "adam": [200.0, 210.0, 220.0]})
    assert main(["report", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


def test_every_run_is_accounted_for(folder):
    found = {e.name: [run.status for run in e.runs] for e in read(folder).entrants}
    assert found["adai"] == ["finished"] * 3
    assert found["adamw"] == ["finished", "diverged", "unfinished"]
    assert found["yogi"] == ["not started"] * 3
    table = {line[0]: line for line in cells(summarise(read(folder))).rows}
    assert table["AdamW"][1] == "1 of 3, 1 diverged, 1 unfinished"
    assert table["Yogi"][1:] == ["0 of 3, 3 not started", *["–"] * (len(table["Yogi"]) - 2)]
    text = verdict(summarise(read(folder)))
    assert "no verdict on AdamW and Yogi, below 3 shared seeds" in text
    assert "AdamW (1 of 3, 1 diverged, 1 unfinished)" in text


def test_the_table_by_hand(folder):
    summary = summarise(read(folder))
    table = cells(summary)
    lines = {line[0]: dict(zip(table.headings, line, strict=True)) for line in table.rows}
    assert [line[0] for line in table.rows] == ["Adai", "SGD momentum", "AdamW", "Adam", "Yogi"]
    adai, sgd = lines["Adai"], lines["SGD momentum"]
    assert adai["last epoch"] == "3.10 ± 0.10"
    assert adai["best epoch"] == "2.60 ± 0.10"  # each best epoch is the last but one, half a point below
    assert adai["difference to Adai"] == "reference"
    # Differences 0.5, 0.3, 0.7: mean 0.5, sd 0.2; t(2) at 1 - 0.05/2/2 is 6.2053; half 0.7165.
    assert sgd["difference to Adai"] == "+0.50 (−0.22 to +1.22)"
    assert sgd["train loss"] == "0.5000"  # (number + 1) / epochs = 2 / 4
    assert (adai["ms / step"], sgd["ms / step"]) == ("10.00", "5.00")  # 64 images at 6,400 and 12,800 a second
    assert (adai["state MB"], sgd["state MB"]) == ("1.00", "2.00")
    assert "peak MB" not in table.headings
    assert lines["AdamW"]["last epoch"] == "4.00"  # one seed has no deviation


def test_the_reference_can_be_chosen(folder):
    text = verdict(summarise(read(folder), "adam"))
    assert "What follows is of the other runs." in text
    assert "At untuned CIFAR settings, Adam has a higher test error than Adai (by 2.07 points" in text
    with pytest.raises(UserError, match="unknown reference 'lion'; choose from adai, sgd"):
        summarise(read(folder), "lion")


def test_csv_holds_the_numbers_in_full(folder):
    with (folder / "summary.csv").open() as file:
        lines = {line["optimizer"]: line for line in csv.DictReader(file)}
    assert float(lines["adai"]["last_error_mean"]) == pytest.approx(3.1)
    assert float(lines["adai"]["last_error_sd"]) == pytest.approx(0.1)
    assert float(lines["sgd"]["difference_low"]) == pytest.approx(0.5 - 6.2053 * 0.2 / math.sqrt(3), abs=1e-4)
    assert (lines["adamw"]["seeds"], lines["adamw"]["planned"], lines["adamw"]["last_error_sd"]) == ("1", "3", "")
    assert lines["yogi"]["last_error_mean"] == lines["yogi"]["peak_bytes"] == ""


def test_markdown_and_latex(folder):
    summary = summarise(read(folder))
    text = markdown(summary)
    assert (folder / "summary.md").read_text() == text
    assert len({line.count("|") for line in text.splitlines()[:7]}) == 1
    text = latex(summary)
    assert (folder / "summary.tex").read_text() == text
    columns = len(cells(summary).headings)
    assert rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 6
    assert {line.count(" & ") for line in body} == {columns - 1}
    assert r"3.10 $\pm$ 0.10" in text
    assert text.isascii()


def test_files(folder):
    flat = [f"flatness-{name}" for name in ("largest", "trace", "sam", "filter-worst")]
    names = [*flat, "drift-adai", "inertia-adai", "loss", "memory", "scatter", "test", "time"]
    written = {file.name for file in (folder / "figures").iterdir()}
    assert written == {f"{name}.{kind}" for name in names for kind in ("png", "pdf")}
    for name in names:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(folder.rglob(".*"))


def test_figures_show_means_bands_and_every_point(folder):
    """Test errors are last + epochs - epoch, and half a point below last in the last epoch but one."""
    shown = {picture.key: picture for picture in pictures(read(folder), ERROR)}
    ax = shown["test"].figure.axes[0]
    lines = {line.get_color(): line for line in ax.lines if line.get_linestyle() != ":" and len(line.get_xdata()) == 4}
    assert lines[style("adai").light].get_ydata() == pytest.approx([6.1, 5.1, 2.6, 3.1])
    assert len(ax.collections) == 4  # a band each, but for Yogi, which has not begun
    band = ax.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(2.5), pytest.approx(6.2))
    assert [line.get_linestyle() for line in ax.lines].count(":") == 2  # one diverged, one was interrupted
    points = [len(c.get_offsets()) for c in shown["scatter"].figure.axes[0].collections]
    assert points[:3] == [12, 12, 12]
    assert shown["memory"].figure.axes[0].texts[1].get_text() == "2.00"
    assert "Adai from 6.10 to 3.10 %" in shown["test"].description
    assert "AdamW seed 1 diverged after 2 epochs; AdamW seed 2 unfinished after 1 epoch" in shown["test"].description


def test_a_failure_leaves_the_old_page(folder, page, monkeypatch):
    def fail(*_):
        raise RuntimeError

    monkeypatch.setattr("adai.report.page._render", fail)
    monkeypatch.setattr("adai.report.page.pictures", lambda *_: [])
    with pytest.raises(RuntimeError):
        write(read(folder), summarise(read(folder)))
    assert (folder / "report.html").read_text() == page
    assert not list(folder.rglob(".*"))


class Outline(HTMLParser):
    """Tags in order, ids, and what points where."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.targets, self.addresses = [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        for name in ("aria-labelledby", "aria-describedby"):
            self.targets |= set(attributes.get(name, "").split())
        for name in ("href", "xlink:href", "src"):
            if name in attributes:
                self.addresses.append(attributes[name])


def test_the_page_needs_nothing_but_itself(page):
    outline = Outline(page)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert outline.addresses
    assert all(address.startswith(("#", "data:")) for address in outline.addresses)
    assert not re.search(r"url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_the_page_is_made_for_screen_readers(page):
    outline = Outline(page)
    tags = [tag for tag, _ in outline.tags]
    assert {"header", "nav", "main", "footer"} <= set(tags)
    assert dict(outline.tags)["html"]["lang"] == "en"
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert len(outline.ids) == len(set(outline.ids))
    inside = {address[1:] for address in outline.addresses if address.startswith("#")}
    assert outline.targets | inside <= set(outline.ids)
    assert tags.count("table") == tags.count("caption") == 3
    assert all("scope" in attributes for tag, attributes in outline.tags if tag == "th")
    figures = [attributes for tag, attributes in outline.tags if tag == "svg"]
    assert len(figures) == 11
    assert all(a["role"] == "img" and a["aria-labelledby"] and a["aria-describedby"] for a in figures)
    scrolled = [attributes for _, attributes in outline.tags if attributes.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["role"] == "region" for a in scrolled)


def test_the_page_says_what_was_run_and_how(page):
    for text in ("adai compare --seeds 3", "2.13.0", "a CPU", "lr = 1.0, weight_decay = 0.0005", "optimistic"):
        assert text in page
    assert re.search(r"AdamW</th>\s*<td>1</td>\s*<td>diverged</td>", page)
    assert "15 runs, 5 of them not finished" in page
    assert "Bonferroni" in page


def test_the_page_has_the_flatness_that_was_measured(folder, page):
    section = re.search(r'<section aria-labelledby="flatness">.*?</section>', page, re.S)[0]
    assert re.search(r"SGD momentum</th>\s*<td[^>]*>3</td>", section)
    assert "0.667 ± 1" in section  # 1, 1.5 and -0.5
    assert "Batch norm: running statistics; 1000 training samples" in section
    assert "2 finished runs are not in it." in section  # of Adai's and AdamW's
    assert "flatness.csv" in section
    assert "Not measured" not in page


def test_a_page_without_flatness_says_how_to_measure_it(tmp_path, capsys):
    path = comparison(tmp_path / "r", {"sgd": [3.0]})
    _, page = report(path, capsys)
    assert f"Not measured: <code>adai curvature {path}</code>" in page
    for damaged in (b'{"runs": 1}', b'{"settings": {}, "about": {}, "numbers": {}}', b"\xff\xfe"):
        (path / "sgd" / "seed0" / "curvature.json").write_bytes(damaged)
        assert "Not measured: " in report(path, capsys)[1]


def test_flatness_has_a_table_of_all_measures_and_no_verdict_at_unequal_losses(tmp_path, capsys):
    path = comparison(tmp_path / "r", {"adai": [3.0] * 3, "sgd": [3.0] * 3, "adam": [3.0] * 3, "yogi": [3.0] * 2})
    values = {"adai": [1.0, 2.0, 4.0], "sgd": [0.9, 2.2, 4.0], "adam": [100.0, 210.0, 400.0], "yogi": [9.0, 9.0]}
    flatness(path, values)
    assert main(["report", str(path)]) == 0
    out, page = capsys.readouterr().out, (path / "report.html").read_text()
    table = out[out.index("flatness after the last epoch") :]
    for heading in ("top eigenvalue", "trace", "SAM sharpness", "sharpness"):
        assert heading in table
    sentence = "Flatness after the last epoch is not compared: the mean losses are 2.3 to 237, and curvature shrinks"
    assert sentence in " ".join(out.split())
    assert sentence in page
    assert "times" not in out
    assert "top eigenvalue" not in (path / "summary.md").read_text()  # nor one measure alone in the table


def test_wide_numbers_are_wrapped_and_not_cut(tmp_path, capsys):
    path = comparison(tmp_path / "r", {"adai": [10.03, 11.2, 12.1], "sgd": [80.01, 45.2, 70.4]})
    flatness(path, {"adai": [1331.0, 2000.0, 1750.0], "sgd": [123456.0, 99999.0, 2e5]})
    assert main(["report", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(("┃", "│"))]
    assert len({len(line) for line in table}) == 2  # that of the errors, and that of flatness
    assert max(map(len, table)) <= 80
    words = " ".join(table).replace("│", " ").split()
    assert {"1694", "338", "141152", "11.11", "1.04"} <= {*words}
    assert not [word for word in words if "…" in word]


def test_flatness_measured_in_two_ways_is_not_mixed(tmp_path, capsys):
    path = comparison(tmp_path / "r", {"adai": [3.0] * 2, "sgd": [3.0] * 2})
    flatness(path, {"adai": [1.0, 2.0], "sgd": [3.0, 4.0]})
    flatness(path, {"sgd": [5.0]}, samples=10)
    found = after_last(read(path))
    assert found.about["samples"] == 1000
    assert found.values("adai", "largest") == {0: 1.0, 1: 2.0}
    assert found.values("sgd", "largest") == {1: 4.0}
    out, page = report(path, capsys)
    assert "Flatness: 1 finished run is not in it." in out
    assert "1 finished run is not in it." in page


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast_in_light_and_dark(page):
    """WCAG AA: 4.5 for text, 3 for what figures are made of."""
    both = [dict(re.findall(r"(--\w+): ?(#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", page, re.S)]
    assert len(both) == 2
    for n, named in enumerate(both):
        for text in ("--ink", "--quiet", "--link", "--warn"):
            assert contrast(named[text], named["--page"]) >= 4.5
        for name, colours in variables().items():
            assert named[name] == colours[n]
            assert name == "--grid" or contrast(colours[n], named["--page"]) >= 3


def test_figures_take_the_colours_of_the_page(page):
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert "var(--c0)" in drawings
    assert "currentColor" in drawings
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) <= {"#ffffff"}


def test_optimizers_look_different_without_colour():
    assert len({style(name).marker for name in RECIPES}) == len({style(name).light for name in RECIPES}) == len(RECIPES)


# --- other folders ----------------------------------------------------------------------------------------------------


def report(path, capsys, *options):
    assert main(["report", str(path), *options]) == 0
    return " ".join(capsys.readouterr().out.split()), (path / "report.html").read_text()


def test_a_folder_of_an_early_version(tmp_path, capsys):
    path = comparison(tmp_path / "r", {"adai": [3.0, 3.1, 3.2], "sgd": [3.5, 3.4, 3.9]}, columns=OLD)
    out, page = report(path, capsys)
    # Differences 0.5, 0.3, 0.7: mean 0.5, sd 0.2, half 4.302653 · 0.2 / sqrt(3) = 0.4968
    assert "Adai has a lower test error than SGD momentum (by 0.50 points, 0.00 to 1.00)" in out
    for what in ("the time per training step", "the memory of the optimizer’s state", "quantiles of the inertia μ"):
        assert f"Not recorded: {what}." in page


def test_time_per_step_from_whatever_was_recorded():
    def rows(**columns):
        return Record(0, "finished", [{"epoch": 1, **columns}] * 2)

    assert ms_per_step(rows(ms_per_step=4.0), 64) == 4
    assert ms_per_step(rows(seconds=2.0, steps=500, images_per_second=1.0), 64) == 4
    assert ms_per_step(rows(seconds=2.0, images_per_second=16_000), 64) == 4
    assert math.isnan(ms_per_step(rows(images_per_second=16_000), None))


def test_one_optimizer_of_one_seed(tmp_path, capsys):
    out, page = report(comparison(tmp_path / "r", {"sgd": [3.0]}, epochs=1), capsys)
    assert "One optimizer alone: nothing to compare." in out
    assert "inertia" not in page


def test_all_runs_diverged(tmp_path, capsys):
    out, page = report(comparison(tmp_path / "r", {"adai": [NAN] * 3, "sgd": [NAN] * 3}), capsys)
    assert "Adai: 3 of 3 runs diverged, SGD momentum: 3 of 3 runs diverged" in out
    assert "No verdict: no finished run has a test error." in out
    assert "0 of 3, 3 diverged" in page
    assert "Not recorded: the test error beside the training loss of a run that did not die." in page


def test_nothing_has_begun(tmp_path, capsys):
    out, page = report(comparison(tmp_path / "r", {"adai": [None] * 2, "sgd": [None] * 2}), capsys)
    assert "No verdict" in out
    assert "4 runs, 4 of them not finished" in page


def test_a_task_without_classes_goes_by_its_loss(tmp_path, capsys):
    columns = ("epoch", "train_loss", "test_loss")
    errors = {"adai": [1.0, 2.0, 3.0], "sgd": [6.0, 7.2, 8.0]}
    path = comparison(tmp_path / "r", errors, columns=columns)
    flatness(path, {"adai": [1.0, 1.1, 1.3], "sgd": [2.0, 2.2, 2.9]})
    out, page = report(path, capsys)
    assert re.search(r"Adai has a lower test loss than SGD momentum \(by 0\.5067, 0\.\d{4} to 0\.\d{4}\) after", out)
    assert "Test loss, mean ± standard deviation over seeds" in page
    assert "nats" not in out + page  # whatever the loss is measured in, nobody said


def test_runs_that_nobody_asked_for_settings_nobody_knows_and_text_that_looks_like_markup(tmp_path, capsys):
    errors = {"lion": [3.0, 3.1, 3.2], "adai": [3.5]}
    told = {"tuned": {"trials": 20}, "task": "<script>alert(1)</script>", "command": "a & <b>"}
    path = comparison(tmp_path / "r", errors, **told)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "seeds": 1, "optimizers": {"adai": {}}}))
    out, page = report(path, capsys, "--reference", "lion")
    assert "No verdict below 3 seeds: lion shares 1 finished seed with its rivals." in out
    assert [(e.name, len(e.runs)) for e in read(path).entrants] == [("adai", 1), ("lion", 3)]
    assert "4 runs, all of them finished" in page
    assert "tuned.trials" in page
    assert "<script" not in page
    assert "a &amp; &lt;b&gt;" in page


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no comparison"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "[]", "holds [], not an object"),
        ("config.json", '{"optimizers": {}}', "is not the file of a comparison: it lacks optimizers or epochs"),
        (
            "config.json",
            '{"optimizers": 3, "epochs": 1}',
            "is not the file of a comparison: it lacks optimizers or epochs",
        ),
        (
            "adai/seed0/metrics.jsonl",
            '{"epoch": 1\n{}\n',
            "run the command that trained the run again: it writes the file anew",
        ),
        ("adai/seed0/metrics.jsonl", "3\n", "a line is no JSON object"),
    ],
)
def test_a_folder_that_is_not_one_gives_one_line_and_status_2(tmp_path, capsys, name, content, message):
    path = comparison(tmp_path / "r", {"adai": [3.0]})
    (path / name).unlink()
    if content is not None:
        (path / name).write_text(content)
    assert main(["report", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("adai report: ")
    assert message in err
    assert err.count("\n") == 1


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: Debian's package chromium has it")
def test_in_a_browser_every_figure_is_drawn_and_nothing_is_cut_off(folder, tmp_path):
    widths = (320, 360, 768, 1280)
    for width, seen in zip(widths, measure(folder / "report.html", widths, tmp_path), strict=True):
        assert seen["page"] <= seen["window"] == width
        assert seen["clipped"] == []
        assert len(seen["figures"]) == 11
        for figure in seen["figures"]:
            assert figure["width"] > 0.8 * min(width - 32, 400)
            assert figure["height"] > 80
            assert figure["shapes"] > 10
            assert figure["texts"] > 4
            assert figure["outside"] == []
        assert seen["colours"][0] != seen["colours"][1]
