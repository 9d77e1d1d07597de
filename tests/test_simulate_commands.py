"""`adai escape` and `adai saddle`: files, resuming, one-line errors."""

import csv
import json

import numpy as np
import pytest

from adai.cli import main
from adai.report.escape import Row, draw, fits, ratios, rows
from adai.simulate import study as studies
from adai.simulate.escape import Times
from adai.simulate.saddle import displacements
from adai.simulate.settings import SETTINGS
from adai.simulate.study import Study, run
from tests.folders import comparison

pytestmark = pytest.mark.slow

QUICK = ["escape", "--k", "3.6", "4.5", "6", "--replicas", "30"]


def quick(**changes):
    rules = {name: SETTINGS["paper"].rules[name] for name in ("adai", "momentum")}
    study = Study(setting="paper", rules=rules, ks=(4.5, 6.0), replicas=30, seed=0, cap=10**6)
    return study._replace(**changes)


def test_escape_writes_table_figure_and_numbers(tmp_path, capsys):
    out, file = tmp_path / "out", tmp_path / "numbers.json"
    assert main([*QUICK, "--out", str(out), "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    for text in ("Adai / Momentum", "R² of log τ", "1/sqrt(k)"):
        assert text in printed
    numbers = json.loads(file.read_text())
    assert len(numbers["rows"]) == 9
    assert set(numbers["rows"][0]) >= {
        "setting", "optimizer", "k", "replicas", "censored", "mean", "ci_low", "ci_high", "cv"
    }  # fmt: skip
    assert numbers["rows"][0]["ci_low"] < numbers["rows"][0]["mean"] < numbers["rows"][0]["ci_high"]
    assert json.loads((out / "escape.json").read_text()) == numbers
    with (out / "escape.csv").open() as lines:
        assert [float(line["mean"]) for line in csv.DictReader(lines)] == [row["mean"] for row in numbers["rows"]]
    assert (out / "escape.png").read_bytes().startswith(b"\x89PNG")


def test_escape_draws_kept_numbers_again_without_the_replicas(tmp_path, monkeypatch, capsys):
    """Also where nothing escaped at some sharpness."""
    assert main([*QUICK, "--cap", "60", "--out", str(tmp_path)]) == 0
    assert None in [row["mean"] for row in json.loads((tmp_path / "escape.json").read_text())["rows"]]
    drawn = (tmp_path / "escape.png").read_bytes()
    for name in ("escape.png", "times.npz"):
        (tmp_path / name).unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(studies, "_chunk", lambda *_: pytest.fail("it simulates"))
    assert main(["escape", "--draw-only", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"Figure: {tmp_path}/escape.png\n")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {**before, "escape.png": drawn}


def test_escape_draws_nothing_where_nothing_is(tmp_path, capsys):
    assert main(["escape", "--draw-only", "--out", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("has no escape times to draw; run adai escape without --draw-only") == 1
    assert not (tmp_path / "none").exists()
    (tmp_path / "escape.json").write_text('{"rows": [{"k": 1}]}')
    assert main(["escape", "--draw-only", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"adai escape: {tmp_path}/escape.json is damaged (KeyError('setting')); remove it, or give another folder with "
        "--out\n"
    )


def test_threads_and_interruptions_change_nothing(tmp_path, monkeypatch):
    whole = run(quick(), tmp_path / "a", threads=1, progress=lambda n: None)
    done = 0

    def interrupt(count):
        nonlocal done
        done += count
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(quick(), tmp_path / "b", threads=2, progress=interrupt)
    with np.load(tmp_path / "b" / "times.npz") as kept:
        assert 0 < sum(kept[key].shape[1] for key in kept) < 120
    ran = []
    real = studies._chunk
    monkeypatch.setattr(studies, "_chunk", lambda *arguments: ran.append(1) or real(*arguments))
    resumed = run(quick(), tmp_path / "b", threads=2, progress=lambda n: None)
    assert len(ran) < 40
    for point, times in whole.items():
        for a, b in zip(times, resumed[point], strict=True):
            assert np.array_equal(a, b)


def test_more_replicas_are_added_and_fewer_are_the_first_ones(tmp_path):
    some = run(quick(replicas=10), tmp_path, progress=lambda n: None)
    more = run(quick(replicas=25), tmp_path, progress=lambda n: None)
    few = run(quick(replicas=5), tmp_path, progress=lambda n: None)
    for point in some:
        assert np.array_equal(more[point].exits[:10], some[point].exits)
        assert np.array_equal(few[point].exits, some[point].exits[:5])


def test_censored_replicas_are_not_averaged_in_as_escapes(tmp_path):
    study = quick(ks=(3.0,), cap=100)
    store = run(study, tmp_path, progress=lambda n: None)
    row = rows(study, store)[0]
    times = store["adai", 3.0]
    assert 0 < row.censored < 30
    assert row.mean == pytest.approx(times.exits.sum() / times.escaped.sum())
    assert row.mean > times.exits.mean()
    assert row.cv is None


def test_nothing_escaped_is_said_and_drawn(tmp_path, capsys):
    assert main([*QUICK, "--cap", "1", "--out", str(tmp_path)]) == 0
    assert "inf" in capsys.readouterr().out
    numbers = json.loads((tmp_path / "escape.json").read_text(), parse_constant=pytest.fail)
    assert numbers["r_squared"] == {}
    assert numbers["rows"][0]["mean"] is None


def test_fits_and_ratios_of_known_times(tmp_path):
    """τ = e^(5/k): a straight line against 1/k, bent against 1/sqrt(k)."""
    study = quick(ks=(1.0, 2.0, 3.0, 4.0))
    rng = np.random.default_rng(0)
    store = {}
    for name, factor in (("adai", 1.0), ("momentum", 2.0)):
        for k in study.ks:
            times = np.ceil(factor * np.exp(5 / k) * 1000 * (1 + 0.01 * rng.standard_normal(200))).astype(np.int64)
            store[name, k] = Times(times, times, np.ones(200, dtype=bool))
    fit = fits(study, store)["adai"]
    assert fit.first.value > 0.9999 > fit.second.value
    assert fit.difference.low > 0
    for ratio in ratios(study, store, "momentum", "adai").values():
        assert ratio.low < 2 < ratio.high
        assert ratio.value == pytest.approx(2, rel=0.01)
    draw(tmp_path / "x.png", rows(study, store))
    assert isinstance(rows(study, store)[0], Row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["escape", "--optimizers", "lion"], "unknown optimizer 'lion'; choose from adai, momentum"),
        (["escape", "--lr", "adam"], "--lr adam: give an optimizer that runs and a number above 0"),
        (["escape", "--lr", "sgd=0.1"], "--lr sgd=0.1: give an optimizer that runs"),
        (["escape", "--k", "-1"], "'-1' is not a number above 0"),
        (["escape", "--replicas", "0"], "'0' is not a whole number above 0"),
        (["escape", "--setting", "moon"], "invalid choice: 'moon'"),
        (["saddle", "--H", "0"], "'0' is not a number above 0"),
        (["saddle", "--B", "-2"], "'-2' is not a number above 0"),
        (["saddle", "--replicas", "1"], "'1' is not a whole number above 1"),
        (["saddle", "--optimizers", "adaiw"], "unknown optimizer 'adaiw'; choose from sgd, momentum"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(arguments, message, capsys, tmp_path):
    try:
        status = main([*arguments, "--out", str(tmp_path)])
    except SystemExit as exit_:
        status = exit_.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", ["saddle", "report"])
def test_an_interruption_is_one_line_and_status_130(command, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    if command == "saddle":
        monkeypatch.setattr("adai.commands.saddle.displacements", interrupted)
        arguments = ["--replicas", "20", "--out", str(tmp_path)]
    else:
        monkeypatch.setattr("adai.commands.report.report_of", interrupted)
        arguments = [str(comparison(tmp_path / "runs", {"adai": [3.0]}))]
    assert main([command, *arguments]) == 130
    assert capsys.readouterr().err == f"adai {command}: interrupted\n"
    assert not list(tmp_path.glob("saddle.*"))


def test_saddle_goes_on_after_the_last_finished_optimizer(tmp_path, monkeypatch, capsys):
    arguments = ["saddle", "--optimizers", "sgd", "ema", "--replicas", "20", "--H", "1"]
    assert main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    simulated, finished = [], []

    def counted(rule, *given, **options):
        if not finished and simulated and simulated[-1] != rule:
            finished.append(simulated[-1])
            raise KeyboardInterrupt
        simulated.append(rule)
        return displacements(rule, *given, **options)

    monkeypatch.setattr("adai.commands.saddle.displacements", counted)
    capsys.readouterr()
    again = [*arguments, "--threads", "1", "--out", str(tmp_path / "twice")]
    assert main(again) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    simulated.clear()
    assert main(again) == 0
    assert simulated
    assert finished[0] not in simulated
    for name in ("saddle.json", "saddle.csv"):
        assert (tmp_path / "twice" / name).read_text() == (tmp_path / "whole" / name).read_text()


def test_another_seed_needs_another_folder(tmp_path, capsys):
    assert main([*QUICK, "--out", str(tmp_path)]) == 0
    assert main([*QUICK, "--seed", "1", "--out", str(tmp_path)]) == 2
    assert "holds escape times with another seed; give another folder with --out" in capsys.readouterr().err


def test_saddle_writes_table_figure_and_numbers(tmp_path, capsys):
    assert main(["saddle", "--optimizers", "sgd", "ema", "--replicas", "200", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "mean squared displacement after 100 iterations" in printed
    assert "drift" in printed
    numbers = json.loads((tmp_path / "saddle.json").read_text())
    assert len(numbers["rows"]) == 20
    assert numbers["optimizers"]["ema"]["lr"] == 0.01
    for row in numbers["rows"]:
        assert row["msd"] == pytest.approx(row["msd_exact"], rel=4 * np.sqrt(2 / 200))
    with (tmp_path / "saddle.csv").open() as lines:
        assert len(list(csv.DictReader(lines))) == 20
    assert (tmp_path / "saddle.png").read_bytes().startswith(b"\x89PNG")
