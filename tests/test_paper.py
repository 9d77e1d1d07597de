"""`adai paper`: what is run for each table and figure, and what is drawn from the folders."""

import csv
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from adai.cli import main
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.schedules import PAPER_SCHEDULES
from adai.lab.settings import Settings
from adai.paper import figure2, figure3, figure5, figure6, figure7, results, table1
from adai.paper.drawing import found
from adai.paper.experiments import FULL, NINE, QUICK, RESNET8_CIFAR10, RESNET18, RESNET34, SMALL, VGG16
from adai.paper.items import ITEMS
from adai.paper.published import TABLE1
from adai.report.grid import SCATTER, TEST_ERROR, TOP5_ERROR, Panel, draw_panel
from tests.folders import comparison

pytestmark = pytest.mark.slow

PAPER = os.environ.get("ADAI_PAPER_DIR")
DATA = os.environ.get("ADAI_DATA_DIR")
NAN, INTERRUPTED = float("nan"), float("inf")
KEPT = Path(__file__).parent.parent / "results"
PNG = b"\x89PNG"

ERRORS = {
    "adai": [4.0, 4.2, 4.4],
    "sgd": [6.0, NAN, INTERRUPTED],
    "adam": [INTERRUPTED, None, None],
    "amsgrad": [None, None, None],
}


def fabricated(folder, experiment, errors, scale=FULL):
    """Runs as the experiment's folder holds them."""
    config = next(iter(experiment.runs(scale).values())).as_dict()
    shared = {key: value for key, value in config.items() if key not in ("optimizer", "options", "seed", "epochs")}
    options = {name: own.options for name, own in experiment.runs(scale).items() if name in errors}
    return comparison(folder / experiment.name, errors, epochs=config["epochs"], optimizers=options, **shared)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("paper")
    fabricated(path, RESNET18, ERRORS)
    return path


@pytest.mark.skipif(PAPER is None, reason="ADAI_PAPER_DIR, a folder with adai_paper.txt, is not set")
def test_the_papers_numbers_are_those_it_prints():
    lines = (Path(str(PAPER)) / "adai_paper.txt").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("DATASET\tMODEL\tADAI"))
    names = {"SGD M": "sgd"}
    columns = [names.get(name, name.lower()) for name in lines[start].split("\t")[2:]]
    assert tuple(columns) == NINE
    printed, dataset = {}, ""
    for line in lines[start + 1 : start + 6]:
        first, model, *cells = line.split("\t")
        dataset = first.lower().replace("-", "") or dataset
        numbers = [tuple(map(float, re.fullmatch(r"(\S+) _\{(\S+)\}", cell).groups())) for cell in cells]
        printed[dataset, model.lower()] = dict(zip(columns, numbers, strict=True))
    assert {key: {n: tuple(s) for n, s in row.items()} for key, row in TABLE1.items()} == printed


def papers(own):
    """The options of the paper, whose Adai has no floor."""
    return RECIPES["adai-paper" if own.optimizer == "adai" else own.optimizer].options


def test_full_scale_is_the_papers_experiment():
    every = {(item, e.name): e.runs(FULL) for item, held in ITEMS.items() for e in held.experiments}
    assert {e.name for e in table1.EXPERIMENTS} == {"-".join(key) for key in TABLE1}
    for (item, name), runs in every.items():
        for own in runs.values():
            assert (own.limit, own.precision, own.validation, own.accumulate) == (None, "fp32", 0.0, 1)
            assert own.augment
            if item in ("table1", "figure1", "figure4"):
                assert own == replace(
                    Settings.of(own.task, model=own.model, optimizer=own.optimizer), options=papers(own)
                )
                assert (own.epochs, own.batch, own.schedule, own.warmup_steps) == (200, 128, "paper", 0), name
    fixed, lower = (e.runs(FULL) for e in figure2.EXPERIMENTS)
    assert fixed["adai"].options["lr"] == 1.0
    assert [runs["adam"].options["lr"] for runs in (fixed, lower)] == [1e-3, 1e-4]
    assert {(r.epochs, r.schedule, r.warmup_steps) for r in (*fixed.values(), *lower.values())} == {
        (1000, "constant", 0)
    }
    imagenet = figure3.EXPERIMENTS[0].runs(FULL)
    assert {(r.batch, r.options["weight_decay"], r.image_size) for r in imagenet.values()} == {(256, 1e-4, 224)}


def test_small_scale_has_the_papers_rates_on_a_small_net():
    """In 20 of its 200 epochs, with the milestones at the same share, in bf16, after a warm-up."""
    runs = {name: [e.runs(SMALL) for e in item.at(SMALL)] for name, item in ITEMS.items()}
    assert {name: [list(own) for own in each] for name, each in runs.items()} == {
        "table1": [list(NINE), list(NINE)],
        "figure1": [list(NINE), list(NINE)],
        "figure2": [["adai", "adam"], ["adam"]],
        "figure3": [],
        "figure4": [["sgd", "adai", "adam"]] * 2,
    }
    for item in ("table1", "figure1", "figure4"):
        assert [e.dataset for e in ITEMS[item].at(SMALL)] == ["cifar10", "cifar100"]
        for own in [one for each in runs[item] for one in each.values()]:
            assert own.options == papers(own)
            assert (own.model, own.epochs, own.batch, own.schedule) == ("resnet8", 20, 128, "paper")
            assert (own.warmup_steps, own.precision, own.channels_last, own.augment) == (100, "bf16", True, True)
    assert {d: s.scaled(20).milestones for d, s in PAPER_SCHEDULES.items()} == {
        "cifar10": (8, 16),
        "cifar100": (10, 15),
    }
    fixed, lower = runs["figure2"]
    assert {(o.task, o.model, o.epochs, o.schedule, o.warmup_steps) for o in (*fixed.values(), *lower.values())} == {
        ("digits", "smallnet", 1000, "constant", 100)
    }
    assert [each["adam"].options["lr"] for each in runs["figure2"]] == [1e-3, 1e-4]
    assert figure6.settings_at(SMALL).model == "resnet8"


def test_table_1_at_small_scale_has_the_order_beside_the_papers(tmp_path, capsys):
    """Five seeds of some optimizers and three of the others: what nobody asked for is not missing."""
    errors = {"adai": [30.0] * 5, "sgd": [29.0] * 5, "adam": [35.0] * 3}
    folder = fabricated(tmp_path, RESNET8_CIFAR10, errors, SMALL)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "machine": "a made-up GPU"}))
    assert main(["paper", "table1", "--scale", "small", "--draw-only", "--out", str(tmp_path)]) == 0
    assert SMALL.note in " ".join(capsys.readouterr().out.split())
    table = table1.cells(tmp_path, SMALL)
    assert len(table) == 18
    lines = {tuple(line[:2]): line[2:] for line in table1.lines(table, SMALL)}
    assert lines["ResNet8, CIFAR-10", "Adai"] == ["29.50 ± 0.00", "5", "2", "4.74 ± 0.14", "ResNet18", "1"]
    assert lines["ResNet8, CIFAR-10", "SGD momentum"][1:3] == ["5", "1"]
    assert lines["ResNet8, CIFAR-10", "Adam"] == ["34.50 ± 0.00", "3", "3", "6.53 ± 0.03", "ResNet18", "9"]
    assert lines["ResNet8, CIFAR-100", "Adam"] == ["not run", "–", "–", "27.16 ± 0.55", "ResNet34", "9"]
    with (tmp_path / "table1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["scale"], row["difference"]) for row in rows} == {(SMALL.note, "")}
    assert [row["machine"] for row in rows] == ["a made-up GPU"] * 9 + [""] * 9
    assert SMALL.note in (tmp_path / "table1.md").read_text()
    assert "Trained on: ResNet8 on CIFAR-10, a made-up GPU.\n" in (tmp_path / "table1.md").read_text()
    said = "ResNet8 on CIFAR-10 and the paper's ResNet18 order the optimizers with rank correlation 0.50 (no interval"
    assert said in (tmp_path / "table1.md").read_text()
    assert all(cell.model == "resnet18" for cell in table1.cells(tmp_path, FULL)[:9])
    assert {cell.runs for cell in table1.cells(tmp_path, FULL)} == {"not run"}


def test_what_is_shared_is_run_once():
    """Tables and figures with a folder in common agree on every run in it."""
    runs = {}
    for held in ITEMS.values():
        for experiment in held.experiments:
            for name, own in experiment.runs(FULL).items():
                assert runs.setdefault((experiment.name, name), own) == own
    assert len(runs) == 5 * 9 + 3 + 3


def test_table_1_by_hand(folder):
    cells = {(c.model, c.optimizer): c for c in table1.cells(folder, FULL)}
    assert len(cells) == 45
    adai = cells["resnet18", "adai"]
    assert adai.mean == pytest.approx(3.7)  # the best epoch is half a point below the last: 3.5, 3.7, 3.9
    assert adai.sd == pytest.approx(0.2)
    assert (adai.paper_mean, adai.paper_sd) == (4.74, 0.14)
    assert adai.difference == pytest.approx(3.7 - 4.74)
    lines = {tuple(line[:2]): line[2:] for line in table1.lines(table1.cells(folder, FULL), FULL)}
    assert lines["ResNet18, CIFAR-10", "Adai"] == ["3.70 ± 0.20", "3", "4.74 ± 0.14", "−1.04"]
    assert lines["ResNet18, CIFAR-10", "SGD momentum"] == [
        "5.50", "1 of 3, 1 diverged, 1 unfinished", "5.01 ± 0.03", "+0.49",
    ]  # fmt: skip
    assert lines["ResNet18, CIFAR-10", "Adam"] == ["–", "0 of 3, 1 unfinished, 2 not started", "6.53 ± 0.03", "–"]
    for key in (("ResNet18, CIFAR-10", "AMSGrad"), ("ResNet18, CIFAR-10", "Yogi"), ("GoogLeNet, CIFAR-100", "Adai")):
        assert lines[key][:2] == ["not run", "–"], key


def test_table_1_is_drawn_from_what_is_there(folder, capsys):
    assert main(["paper", "table1", "--draw-only", "--out", str(folder)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"ResNet18 +Adai +3\.70 ± 0\.20 +3 +4\.74 ± 0\.14 +−1\.04", out)
    assert "quick" not in out
    with (folder / "table1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45
    assert float(rows[0]["mean"]) == pytest.approx(3.7)
    assert (rows[-1]["runs"], rows[-1]["mean"], rows[-1]["scale"]) == ("not run", "", "full")
    assert "| ResNet18, CIFAR-10 | Adai | 3.70 ± 0.20 | 3 | 4.74 ± 0.14 | −1.04 |" in (folder / "table1.md").read_text()


@pytest.mark.parametrize("item", ["figure1", "figure2", "figure3", "figure4"])
def test_figures_are_drawn_from_what_is_there(folder, item, capsys):
    assert main(["paper", item, "--draw-only", "--out", str(folder)]) == 0
    assert f"Drawn: {folder}/{item}.png, {folder}/{item}.pdf" in capsys.readouterr().out
    assert (folder / f"{item}.png").read_bytes().startswith(PNG)
    assert (folder / f"{item}.pdf").read_bytes().startswith(b"%PDF")


def test_a_panel_names_what_is_not_run(folder):
    runs = found(folder, RESNET18, FULL)
    assert [entrant.name for entrant in runs.entrants] == list(NINE)
    ax = Figure().subplots()
    draw_panel(ax, Panel("ours", runs, TEST_ERROR))
    title = ax.get_title().replace("\n", " ")
    assert title == "ours not run: AMSGrad, AdamW, AdaBound, Padam, Yogi, RAdam"
    # The last 40 epochs of the three runs of Adai and of SGD's finished one; the unfinished have not come that far.
    ax = Figure().subplots()
    draw_panel(ax, Panel("ours", runs, SCATTER))
    points = sum(len(c.get_offsets().compressed()) // 2 for c in ax.collections)
    assert points == 40 * 4
    for panel, text in (
        (Panel("none", found(folder, RESNET34, FULL), TEST_ERROR), "not run"),
        (Panel("old", replace(runs, entrants=[runs.entrants[3]]), TOP5_ERROR), "not run"),
    ):
        ax = Figure().subplots()
        draw_panel(ax, panel)
        assert [t.get_text() for t in ax.texts] == [text]


def test_runs_of_another_experiment_are_refused(tmp_path, capsys):
    fabricated(tmp_path, RESNET18, ERRORS, QUICK)
    fabricated(tmp_path, VGG16, {"adai": [6.0]})
    config = tmp_path / VGG16.name / "config.json"
    found_there = json.loads(config.read_text())
    found_there["optimizers"]["adai"]["lr"] = 0.5
    config.write_text(json.dumps(found_there))
    assert main(["paper", "figure1", "--draw-only", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "cifar10-resnet18 holds other runs than those of --scale full (epochs is 2 there, 200 here)" in error
    assert error.count("\n") == 1
    assert main(["paper", "figure4", "--draw-only", "--scale", "full", "--out", str(tmp_path)]) == 2
    assert main(["paper", "figure1", "--draw-only", "--scale", "quick", "--out", str(tmp_path)]) == 0
    (tmp_path / RESNET18.name).rename(tmp_path / "away")
    assert main(["paper", "figure4", "--draw-only", "--out", str(tmp_path)]) == 2
    assert "options of adai is {'lr': 0.5, 'weight_decay': 0.0005} there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figure3"], "ImageNet is not on this machine; point --data-dir or ADAI_DATA_DIR at a folder"),
        (["table1", "--only", "resnet50"], "network 'resnet50' takes no part; choose from resnet18, vgg16, resnet34"),
        (["figure4", "--optimizers", "yogi"], "optimizer 'yogi' takes no part; choose from sgd, adai, adam"),
        (["figure8"], "invalid choice: 'figure8'"),
        (["results", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAI_DATA_DIR", str(tmp_path))
    try:
        status = main(["paper", *arguments])
    except SystemExit as exit_:
        status = exit_.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(DATA is None, reason="ADAI_DATA_DIR, a folder with cifar10, is not set")
def test_quick_runs_serve_table_and_figures_and_are_labelled(tmp_path, capsys):
    quick = ["--scale", "quick", "--only", "vgg16", "--optimizers", "adai", "--out", str(tmp_path)]
    assert main(["paper", "table1", *quick]) == 0
    assert "not the paper's experiment" in capsys.readouterr().out
    with (tmp_path / "table1.csv").open(newline="") as file:
        rows = {(r["model"], r["optimizer"]): r for r in csv.DictReader(file)}
    assert {key for key, row in rows.items() if row["runs"] != "not run"} == {("vgg16", "adai")}
    assert {row["scale"] for row in rows.values()} == {QUICK.note}
    assert QUICK.note in (tmp_path / "table1.md").read_text()
    files = {f: f.stat().st_mtime_ns for f in tmp_path.glob("*/*/*/metrics.jsonl")}
    assert len(files) == 1
    assert main(["paper", "figure4", *quick]) == 0  # nothing is left to be run
    assert f"Drawn ({QUICK.note})" in capsys.readouterr().out
    assert {f: f.stat().st_mtime_ns for f in tmp_path.glob("*/*/*/metrics.jsonl")} == files


def test_figure_5_is_what_escape_draws(tmp_path, monkeypatch, capsys):
    assert (figure5.study(FULL).replicas, figure5.study(QUICK).replicas) == (1000, 20)
    few = figure5.study(QUICK)._replace(ks=(4.5, 6.0), replicas=5)
    monkeypatch.setattr(figure5, "study", lambda scale: few)
    there = tmp_path / "escape-paper"
    assert main(["paper", "figure5", "--scale", "quick", "--out", str(tmp_path)]) == 0
    assert QUICK.note in capsys.readouterr().out
    with (there / "escape.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["setting"], row["replicas"], row["remark"]) for row in rows} == {("paper", "5", QUICK.note)}
    assert json.loads((there / "escape.json").read_text())["remark"] == QUICK.note
    # The same replicas that adai escape keeps: it has nothing to add, and draws them without the remark.
    assert main(["escape", "--replicas", "5", "--k", "4.5", "6", "--out", str(there)]) == 0
    with (there / "escape.csv").open(newline="") as file:
        again = list(csv.DictReader(file))
    assert [{**row, "remark": QUICK.note} for row in again] == rows


def test_figures_6_and_7_are_drawn_and_labelled(tmp_path, monkeypatch, capsys):
    small6 = figure6.Settings(dataset="digits", epochs=1, minibatches=40, parameters=20, B=32)
    small7 = figure7.Settings(dataset="digits", model="fc3-10", epochs=5, samples=40, batches=(1,))
    for module, name, table, small in ((figure6, "figure6", "noise", small6), (figure7, "figure7", "eq5", small7)):
        assert module.settings_at(FULL) != module.settings_at(QUICK)
        monkeypatch.setattr(module, "settings_at", lambda scale, small=small: small)
        assert main(["paper", name, "--scale", "quick", "--out", str(tmp_path)]) == 0
        out = capsys.readouterr().out
        assert f"Drawn ({QUICK.note}): {tmp_path / name}" in out
        assert out.count(QUICK.note) == 1
        with (tmp_path / name / f"{table}.csv").open(newline="") as file:
            assert all(row["parameters"].endswith(f"({QUICK.note})") for row in csv.DictReader(file))
        assert (tmp_path / name / f"{name}.png").read_bytes().startswith(PNG)


def test_the_kept_results_say_what_their_files_say():
    assert (KEPT / "README.md").read_text(encoding="utf-8") == results.readme(KEPT)


def test_results_has_small_in_a_section_of_its_own(tmp_path):
    fabricated(tmp_path / "small", RESNET8_CIFAR10, {"adai": [30.0] * 3}, SMALL)
    assert main(["paper", "results", str(tmp_path)]) == 0
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    full, small = text.split(f"## Table 1: test error ({SMALL.note})\n")
    assert "| ResNet8, CIFAR-10 | Adai | 29.50 ± 0.00 | 3 | 1 | 4.74 ± 0.14 | ResNet18 | 1 |" in small
    assert "ResNet8" not in full
    assert "29.50" not in full
    for name in ("figure1", "figure4"):
        assert f"(small/{name}.png)" in small
        assert (tmp_path / "small" / f"{name}.png").exists()
        assert not (tmp_path / f"{name}.png").exists()
    assert "Not run: `adai paper figure2 --scale small`." in small
    assert (tmp_path / "small" / "table1.csv").exists()


def test_results_draws_what_there_is(tmp_path, capsys):
    fabricated(tmp_path, RESNET18, {"adai": [4.0, 4.2, 4.4]})
    assert main(["paper", "results", str(tmp_path)]) == 0
    assert f"Written: {tmp_path}/README.md" in capsys.readouterr().out
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| ResNet18, CIFAR-10 | Adai | 3.70 ± 0.20 | 3 | 4.74 ± 0.14 | −1.04 |" in text
    for name in ("figure1", "figure4"):
        assert f"({name}.png)" in text
        assert (tmp_path / f"{name}.png").exists()
    assert "Not run: `adai paper figure2`." in text
    assert "## Figure 6: gradient noise\n\nNot run.\n" in text
    assert "| VGG16" not in text
    assert (
        "Not run: VGG16 on CIFAR-10, ResNet34 on CIFAR-100, DenseNet121 on CIFAR-100, GoogLeNet on CIFAR-100." in text
    )
    parts = text.split("\n## ")[1:]
    assert ["Not run" in part for part in parts[2:]] == [False] + [True] * (len(parts) - 3), (
        "what is not run comes last"
    )
    assert not (tmp_path / "figure2.png").exists()
