"""The table of results, the page made of it, the command and the fixtures file."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adai.cli import main
from adai.theory import exact, fixtures, page, results, saddle
from adai.theory.record import KINDS, number
from adai.theory.results import RESULTS
from adai.theory.symbols import LISTS, SYMBOLS
from tests.tolerance import approx

DOCS = Path(__file__).parents[1] / "docs"
KEYS = [result.key for result in RESULTS]
PAPER = os.environ.get("ADAI_PAPER_DIR")


def values(result, **inputs):
    """The values of a result's formulas at its example, with these inputs replaced: (printed, …)."""
    got = [formula.value({**result.inputs, **inputs}) for _, formula in result.formulas]
    return [None if value is None else number(value) for value in got]


def test_keys_are_unique_and_kinds_known():
    assert len(set(KEYS)) == len(KEYS)
    assert {result.kind for result in RESULTS} <= set(KINDS)


@pytest.mark.parametrize("result", RESULTS, ids=KEYS)
def test_every_record_is_complete(result):
    """Every erratum has the corrected or the exact formula and a reason, and its example can be computed."""
    assert result.note
    assert result.valid
    if result.kind == "N":
        assert result.ours
        assert {what for what, _ in result.formulas} == {"ours"}
        assert result.reference == "not in the paper; ours"
    elif result.kind != "OK":
        assert result.corrected or result.exact or result.kind == "A"
    assert bool(result.printed) != bool(result.ours)
    assert set(result.inputs) <= set(SYMBOLS)
    got = [value for value in values(result) if value is not None]
    assert bool(got) == bool(result.inputs) == bool(result.quantity)
    assert all(np.all(np.isfinite(value)) for value in got)


@pytest.mark.parametrize("result", RESULTS, ids=KEYS)
def test_every_erratum_in_value_has_its_figure(result):
    got = [value for value in values(result) if value is not None]
    differs = values(result)[0] is not None and any(np.any(abs(got[0] / value - 1) > 1e-9) for value in got[1:])
    assert result.has_figure == (differs and result.kind != "OK")
    assert not (result.sweep and result.picture)
    assert (DOCS / page.figure(result)).is_file() == result.has_figure


def test_the_page_is_what_the_table_makes():
    """If it fails after a change of the table, run adai theory --docs docs."""
    assert (DOCS / "theory.md").read_text(encoding="utf-8") == page.markdown()


def test_the_page_links_to_figures_that_exist():
    links = re.findall(r"\]\((theory/[^)]*)\)", page.markdown())
    assert len(links) == sum(result.has_figure for result in RESULTS)
    assert {path.relative_to(DOCS).as_posix() for path in (DOCS / "theory").iterdir()} == set(links)


@pytest.mark.parametrize(
    ("key", "inputs"),
    [
        ("thm2.1", {"eta": 1e-4}),
        ("thm2.1-taylor", {"eta": 1e-6}),
        ("thm3.1", {"T": 10**6, "H": 1e-9}),
        ("prop1", {"T": 3000, "H": 0.0}),
        ("eq12", {"beta1": 0.9999}),
        ("eq47", {"H_a": 1.0, "delta_L": 0.2}),
        ("eq72", {"n": 10**6}),
        ("alg1", {"g": 10.0}),
        ("appendix-e", {"sd": 1e-3}),
    ],
)
def test_printed_meets_exact_where_the_record_says_that_it_is_valid(key, inputs):
    printed, *others = values(results.find(key), **inputs)
    for other in others:
        np.testing.assert_allclose(printed, other, rtol=0.01)


@pytest.mark.parametrize("key", ["thm3.1-taylor", "prop1-taylor"])
def test_a_corrected_expansion_meets_the_exact_answer(key):
    inputs = {"T": 200, "H": -1e-7, "eta": 1e-3}
    inputs |= {"beta1": 0.998, "T": 1000}
    _, corrected, truth, *_ = values(results.find(key), **inputs)
    np.testing.assert_allclose(corrected, truth, rtol=0.01)


@pytest.mark.parametrize(
    ("key", "inputs", "quotient"),
    [
        ("thm3.2", {"H_a": 1.0}, 10.0),  # "10 times too long"
        ("prop3", {}, 2.0),
        ("a2", {"T": 10**6}, 2.0),  # "ends at twice"
        ("prop2", {"H_a": 1.0}, 1.0),
        ("eq67", {"H_b": -1.0, "H_a": 10.0}, 1.0),  # "equal only if |H_b| = 1"
        ("thm3.1", {"H": 1e-15, "T": 1, "beta1": 0.99}, 200.0),  # "for small x a factor 2/x"
    ],
)
def test_the_factors_that_the_notes_name(key, inputs, quotient):
    printed, corrected, *_ = values(results.find(key), **inputs)
    assert printed / corrected == approx(quotient, rel=0.01)


def test_the_other_numbers_that_the_notes_name():
    assert values(results.find("prop1-taylor"))[2] / values(results.find("prop1-taylor"))[0] == approx(59, abs=0.5)
    n, half = 100, 0.196  # eq. 72: "four times as often on the high side"
    runs = np.random.default_rng(0).gamma(n, size=200000)
    high, low = np.mean(98 * (1 + half) < runs), np.mean(98 * (1 - half) > runs)
    assert min(high, low) == approx(0.0120, abs=0.001)
    assert max(high, low) == approx(0.0481, abs=0.002)


def test_find_names_what_there_is():
    with pytest.raises(ValueError, match=r"no result 'thm9'; choose from eq5, .*, appendix-e"):
        results.find("thm9")


def test_theory_needs_numpy_and_scipy_alone():
    code = """
import sys, types
stub = types.ModuleType("adai"); stub.__path__ = [sys.argv[1]]; sys.modules["adai"] = stub
import adai.theory.page, adai.theory.fixtures
assert not {"torch", "matplotlib", "rich", "sklearn"} & set(sys.modules)
assert all(m.startswith("adai.theory") for m in sys.modules if m.startswith("adai."))
"""
    subprocess.run([sys.executable, "-c", code, str(DOCS.parent / "adai")], check=True)


@pytest.mark.slow
def test_the_figures_are_drawn_from_the_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adai.report.theory.POINTS", 3)
    monkeypatch.setattr("adai.report.relaxation.SETTLE", 10)
    monkeypatch.setattr("adai.report.relaxation.END", 0.1)
    assert main(["theory", "--docs", str(tmp_path)]) == 0
    assert (tmp_path / "theory.md").read_text(encoding="utf-8") == page.markdown()
    assert {path.name for path in (tmp_path / "theory").iterdir()} == {
        path.name for path in (DOCS / "theory").iterdir()
    }
    assert "theory.md and 23 figures" in capsys.readouterr().out


def test_the_command_prints_the_table(capsys):
    assert main(["theory"]) == 0
    out = capsys.readouterr().out
    assert all(key in out for key in KEYS)
    assert all(f"{kind}: {meaning}" in out for kind, meaning in KINDS.items())


def test_the_command_prints_one_result_with_ratios(capsys):
    options = "--lr 0.01 --beta1 0.9 --beta3 1 --H -0.1 --B 1 --T 100"
    assert main(["theory", "thm3.1", *options.split()]) == 0
    out = capsys.readouterr().out
    inputs = (0.01, 0.9, 1, 1, -0.1, 100)
    printed = float(saddle.momentum_printed(*inputs).value)
    truth = float(exact.momentum(0.01, 0.9, 1, -0.1, 0.1, 100))
    for text in ("printed", "corrected", "exact", f"{printed:.6g}", f"{truth:.6g}", f"{printed / truth:.6g}"):
        assert text in out


@pytest.mark.parametrize("result", RESULTS, ids=KEYS)
def test_the_command_shows_every_result(result, capsys):
    assert main(["theory", result.key]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert result.name in out
    assert result.reference in out


def _flat(text):
    """What a table says, without its lines and breaks."""
    return " ".join(re.sub("[│┃]", " ", text).split())


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (  # the example: a matrix, μ of each
            "",
            ["1.21719 0.821566, stable", "0.903411 1.10692, not stable", "17.1648 0.0582587, stable"],
        ),
        ("--lr 4 --H 2 --mu 0.5 --beta1 0", ["3 1.33333, not stable", "1 4, not stable"]),
        ("--H 2 1 0.2 --mu 0", ["1 1, not stable", "1.9 0.526316, stable", "19 0.0526316, stable"]),
        ("--H -1 0 --mu 0.5", ["inf 0, stable"]),
    ],
)
def test_the_command_says_how_large_the_learning_rate_may_be(options, rows, capsys):
    assert main(["theory", "stability", *options.split()]) == 0
    out = _flat(capsys.readouterr().out)
    assert "not in the paper; ours" in out
    for row in rows:
        assert row in out


@pytest.mark.parametrize("H", ["-1e-3", "-.001", "-1E-3"])
def test_negative_numbers_in_any_notation_are_no_options(H, capsys):
    assert main(["theory", "thm2.1", "--H", H]) == 0
    assert "--H -0.001" in capsys.readouterr().out


def test_a_hessian_may_be_a_matrix_in_quotes(capsys):
    assert main(["theory", "stability", "--H", "3.341665 -1.22356; -1.22356 .540603", "--mu", "0.997319", "0"]) == 0
    assert "3.67427" in capsys.readouterr().out
    assert main(["theory", "stability", "--H", "-1,0;0,2", "--mu", "0"]) == 0
    assert "--H '-1 0; 0 2'" in capsys.readouterr().out


def test_the_ratio_of_times_that_overflow(capsys):
    assert main(["theory", "thm3.2", "--lr", "1e-5", "--Ha", "1"]) == 0
    out = capsys.readouterr().out
    assert "inf" in out
    assert re.search(r"│ +10 +│", out)


FIXTURES = [
    {"name": "mass", "inputs": {"eta": 0.3, "b1": 0.5, "b3": 2.0}, "value": 0.15, "rtol": 1e-12},
    {
        "name": "eq12",
        "inputs": {"H": -3, "eta": 0.2, "b1": 0.5, "B": 4},
        "value": 3 * 0.04 / (2 * 0.5 * 4),
        "rtol": 1e-12,
    },
    {"name": "rate.mvue", "inputs": {"t": "3..7"}, "value": 4 / 25, "rtol": 1e-12},
    {
        "name": "stability.adam_eta_max",
        "inputs": {"H": [[2, 0], [0, 1]], "P": [4, 1], "b1": 0},
        "value": 2,
        "rtol": 1e-12,
    },
    {"name": "stability.sgd_eta_max", "inputs": {"lambda": 4}, "value": 0.5, "rtol": 1e-12},
    {"name": "thm2_1.cont", "inputs": {"D": 2, "H": 0.5, "t": 1}, "value": 4 * (1 - np.exp(-1)), "rtol": 1e-12},
]


def _file(tmp_path, content):
    path = tmp_path / "fixtures.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_check_counts_what_passes_and_what_fails(tmp_path, capsys):
    assert main(["theory", "--check", _file(tmp_path, FIXTURES)]) == 0
    assert capsys.readouterr().out == "6 passed, 0 failed\n"
    wrong = [*FIXTURES, {**FIXTURES[0], "value": 0.151}]
    assert main(["theory", "--check", _file(tmp_path, wrong)]) == 1
    out = capsys.readouterr().out
    assert "FAILED mass: expected 0.151, got 0.15, rtol 1e-12" in out
    assert out.endswith("\n6 passed, 1 failed\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ({}, "has to hold a list of fixtures, and at least one"),
        ([], "has to hold a list of fixtures, and at least one"),
        ([{"name": "mass"}], "fixture 0 of"),
        ([{**FIXTURES[0], "name": "weight"}], "has the unknown name 'weight'; known are mass, gamma"),
        ([{**FIXTURES[0], "inputs": {"eta": 1}}], "mass: "),
        ([{**FIXTURES[0], "inputs": {"eta": -1, "b1": 0, "b3": 1}}], "mass: eta = -1, but has to be above 0"),
        ([{"name": "rate.mle", "inputs": {"t": "1"}, "value": 1, "rtol": 1}], "rate.mle: "),
        ([{**FIXTURES[0], "value": "much"}], "lacks a name, inputs, a value or an rtol"),
    ],
)
def test_a_bad_fixtures_file_gives_one_line_and_status_2(tmp_path, capsys, content, message):
    assert main(["theory", "--check", _file(tmp_path, content)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("adai theory: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "/nowhere/f.json"], "cannot read /nowhere/f.json: No such file or directory"),
        (["thm9"], "no result 'thm9'; choose from"),
        (["thm3.1", "--beta1", "1"], "beta1 = 1, but has to be in [0, 1)"),
        (["thm3.1", "--lr", "0"], "eta = 0, but has to be above 0"),
        (["thm3.1", "--T", "2.5"], "T = 2.5, but has to be a whole number"),
        (["thm3.2", "--s", "1"], "s = 1, but has to be in (0, 1)"),
        (["eq11", "--H", "5"], "y = 4, but has to be at most 1"),
        (["eq12", "--s", "0.5"], "eq12 has no --s; it takes --lr, --beta1, --B, --H"),
        (["eq6", "--H", "1"], "eq6 has no --H; it takes no options"),
        (["--H", "1"], "--H needs a result; give its key first"),
        (["thm3.1", "--check", "f"], "give one of KEY, --check and --docs, not several"),
        (["--docs", "/dev/null/x"], "cannot write to /dev/null/x"),
        (["thm3.1", "--lr", "fast"], "invalid float value: 'fast'"),
        (["thm3.1", "--H", "fast"], "invalid float value: 'fast'"),
        (["thm3.1", "--H", "1 2; 2 1"], "--H takes one number, but got a matrix"),
        (["stability", "--H", "1 2; 2 fast"], "invalid float value: 'fast'"),
        (["stability", "--H", "1 2; 2"], "has to be square, rows with ; between them ('2 .5; .5 1'), but"),
        (["stability", "--H", "1 2"], "but '1 2' has 1 row of 2 numbers"),
        (["stability", "--H", ""], "but '' has 1 row of 0 numbers"),
        (["stability", "--H", "1 2; 2 1", "3"], "--H takes eigenvalues or one matrix in quotes"),
        (["stability", "--H", "1 2; 3 1", "--mu", "0"], "H is not symmetric: an element and its mirror image"),
        (["stability", "--H", "1 2; 2 1"], "mu has 3 values, but H 2 parameters; give one, or one for each"),
        (["stability", "--H", "1", "2", "--mu", "0", "0", "0"], "mu has 3 values, but H 2 parameters"),
        (["stability-adam", "--H", "1", "2"], "P has 3 values, but H 2 parameters"),
        (["stability", "--H", "nan"], "H = nan, but has to be finite"),
        (["stability", "--mu", "1"], "mu = 1, but has to be in [0, 1)"),
        (["stability", "--beta1", "1"], "beta1 = 1, but has to be in [0, 1)"),
        (["stability", "--lr", "0"], "eta = 0, but has to be above 0"),
        (["stability", "--sd", "1"], "stability has no --sd; it takes --lr, --H, --mu, --beta1"),
        (["stability-adam", "--P", "0"], "P = 0, but has to be above 0"),
        (["stability-floor", "--min-inertia", "1"], "min_inertia = 1, but has to be in [0, 1)"),
        (["stability-decay", "--weight-decay", "-1"], "weight_decay = -1, but has to be 0 or above"),
        (["damping", "--H-all", "1", "-1"], "H = -1, but has to be above 0"),
    ],
)
def test_bad_options_give_one_line_and_status_2(arguments, message, capsys):
    try:
        status = main(["theory", *arguments])
    except SystemExit as exit_:
        status = exit_.code
    out, error = capsys.readouterr()
    assert status == 2
    assert not out
    assert message in error
    assert error.startswith("adai theory: ")
    assert error.count("\n") == 1


def test_own_fixtures_are_named_in_the_map():
    assert {record["name"] for record in FIXTURES} <= set(fixtures.FIXTURES)


@pytest.mark.skipif(PAPER is None, reason="ADAI_PAPER_DIR, a folder with fixtures.json, is not set")
def test_every_fixture_of_the_paper_passes():
    checked = fixtures.check(Path(str(PAPER)) / "fixtures.json")
    assert len(checked) >= 80
    assert [result for result in checked if not result.passed] == []
    assert {result.name for result in checked} == {name for name in fixtures.FIXTURES if "stability" not in name}


@pytest.mark.skipif(PAPER is None, reason="ADAI_PAPER_DIR, a folder with fixtures_stability.json, is not set")
def test_every_fixture_of_stability_passes():
    checked = fixtures.check(Path(str(PAPER)) / "fixtures_stability.json")
    assert len(checked) >= 13
    assert [result for result in checked if not result.passed] == []
    assert {result.name for result in checked} == {name for name in fixtures.FIXTURES if "stability" in name}


def test_what_takes_one_number_says_so(capsys):
    several = {name for result in RESULTS for name, value in result.inputs.items() if isinstance(value, tuple)}
    assert set(LISTS) == several
    with pytest.raises(SystemExit):
        main(["theory", "--help"])
    text = capsys.readouterr().out
    assert "--T X " in text
    assert "--H-all X [X ...]" in text
    with pytest.raises(SystemExit):
        main(["theory", "thm3.1", "--T", "1", "2"])
    assert "unrecognized arguments: 2" in capsys.readouterr().err
    assert main(["theory", "--T", "5", "thm3.1"]) == 0
