"""docs/claims.md: verdicts follow from the numbers, and the page is drawn from what is committed."""

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from adai import cli
from adai.cli import main
from adai.paper.claims import page, simulated, trained
from adai.paper.claims.claim import DOES_NOT_HOLD, HOLDS, HOLDS_WHEN, NOT_SHOWN, VERDICTS, NotRunError
from adai.paper.claims.listed import CLAIMS

ROOT = Path(__file__).parents[1]


def test_the_page_is_drawn_from_the_committed_results():
    assert (ROOT / "docs/claims.md").read_text(encoding="utf-8") == page.text(ROOT / "results", ROOT / "docs")


def test_every_claim_has_one_verdict_and_a_link_that_leads_somewhere():
    text = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    for claim in CLAIMS:
        found = claim.found(ROOT / "results")
        assert found.verdict in VERDICTS
        assert found.sentence.endswith(".")
        assert text.count(f'<a id="{claim.key}">') == text.count(f"](#{claim.key})") == 1
        assert all((ROOT / "results" / file).exists() for file in claim.files)


def test_a_claim_leads_to_its_results_in_the_theory():
    text = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs/theory.md").read_text(encoding="utf-8"), re.M)
    linked = re.findall(r"\[(\S+)\]\(theory\.md#(\S+)\)", text)
    assert {key for key, _ in linked} == {key for claim in CLAIMS for key in claim.theory} <= set(headings)
    assert all(anchor == key.replace(".", "") for key, anchor in linked)


def test_the_advice_compares_the_optimizer_that_it_names():
    words = shlex.split(re.search(r"`adai (compare --task [^`]+)`", page.HEAD)[1])
    assert cli.parser().parse_args(words, argparse.Namespace(arguments=words)).optimizers == ["adai", "sgd"]


def test_without_results_nothing_is_shown(tmp_path):
    assert {claim.found(tmp_path).verdict for claim in CLAIMS} == {NOT_SHOWN}
    assert main(["paper", "claims", str(tmp_path), "--out", str(tmp_path / "claims.md")]) == 0
    assert "Not run yet" in (tmp_path / "claims.md").read_text(encoding="utf-8")


def nothing(file: Path) -> str:
    """What a file of results is where nothing has been run: only headings, an object without numbers, only settings."""
    if file.name == "config.json":
        return file.read_text(encoding="utf-8")
    return {".csv": file.read_text(encoding="utf-8").splitlines()[0], ".json": "{}", ".jsonl": '{"cut": '}[file.suffix]


@pytest.mark.parametrize("content", [lambda _: "", nothing], ids=["empty", "without numbers"])
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_files_without_results_show_nothing(claim, content, tmp_path):
    for file in claim.files or [f"{folder}/config.json" for folder in trained.TABLE1]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        committed = ROOT / "results" / file
        (tmp_path / file).write_text(content(committed) if committed.exists() else "", encoding="utf-8")
    found = claim.found(tmp_path)
    assert found.verdict == NOT_SHOWN
    assert found.sentence.startswith("Not run yet: ")


def test_results_of_other_optimizers_show_nothing(tmp_path):
    csv_with(tmp_path / simulated.SADDLE, [{"optimizer": "lion", "msd": 1}])
    (tmp_path / "stability").mkdir()
    (tmp_path / trained.BLOW_UPS).write_text("".join(runs("sgd", None, 0, 10)))
    for name in trained.MEASURED:
        comparison(tmp_path / name, {"lion": [1.0, 2.0, 3.0]})
    for file in {*simulated.VALLEYS.values(), simulated.WELL}:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text('{"r_squared": {"lion": {}}, "ratios": {}, "slope_and_mean_over_theory": {}}')
    drawn_from_others = [claim for claim in CLAIMS if not claim.key.startswith("noise")]
    for claim in drawn_from_others:
        assert claim.found(tmp_path).sentence.startswith("Not run yet: "), claim.key


def test_bad_input_gets_one_line(tmp_path, capsys):
    assert main(["paper", "claims", str(tmp_path / "none")]) == 2
    assert main(["paper", "claims", str(tmp_path), "--out", str(tmp_path / "none/claims.md")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "none" in lines[0]
    assert "none" in lines[1]


def csv_with(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("factor", "correlation", "verdict"), [(1.1, 0.99, HOLDS), (0.4, 0.99, HOLDS_WHEN), (0.4, 0.5, DOES_NOT_HOLD)]
)
def test_noise_that_follows_the_hessian(tmp_path, factor, correlation, verdict):
    row = {"parameters": "p", "B": 1, "directions": 10, "correlation": correlation, "factor": factor}
    csv_with(tmp_path / simulated.FIGURE7, [row])
    assert simulated.hessian_noise(tmp_path).verdict == verdict


@pytest.mark.parametrize(("rejected", "verdict"), [(0.06, HOLDS), (0.9, DOES_NOT_HOLD)])
def test_gaussian_noise(tmp_path, rejected, verdict):
    row = {
        "parameters": "p", "B": 1, "minibatches": 9, "anderson_darling_rejected": rejected,
        "anderson_darling_gaussian": 0.05,
    }  # fmt: skip
    csv_with(tmp_path / simulated.FIGURE6, [row])
    assert simulated.gaussian(tmp_path).verdict == verdict


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([[0.1, 0.05, 0.2]] * 3, DOES_NOT_HOLD),
        ([[-0.1, -0.2, -0.05]] * 3, HOLDS),
        ([[-0.1, -0.2, -0.05], [0.0, -0.1, 0.1], [0.0, -0.1, 0.1]], HOLDS_WHEN),
        ([[0.0, -0.1, 0.1]] * 3, NOT_SHOWN),
    ],
)
def test_which_power_of_the_sharpness_the_escape_time_goes_with(tmp_path, differences, verdict):
    for file, difference in zip(simulated.VALLEYS.values(), differences, strict=True):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(json.dumps({"r_squared": {"adam": {"difference": difference}}}))
    assert simulated.adam_escape(tmp_path).verdict == verdict


def runs(optimizer: str, floor: float | None, dead: int, of: int) -> Iterator[str]:
    for number in range(of):
        status = "diverged" if number < dead else "finished"
        row = {"optimizer": optimizer, "min_inertia": floor, "warmup_steps": 0, "factor": 1, "status": status}
        yield json.dumps(row) + "\n"


@pytest.mark.parametrize(("dead", "verdict"), [(9, DOES_NOT_HOLD), (0, NOT_SHOWN)])
def test_a_rule_that_dies_where_sgd_trains_is_not_robust(tmp_path, dead, verdict):
    lines = [*runs("adai", 0.0, dead, 10), *runs("adai", 0.9, 0, 10), *runs("sgd", None, 0, 10)]
    (tmp_path / "stability").mkdir()
    (tmp_path / trained.BLOW_UPS).write_text("".join(lines) + '{"cut": ')
    found = trained.robust(tmp_path)
    assert found.verdict == verdict
    assert f"Adai {dead} of 10" in found.sentence
    # Then four hyperparameters are not enough.
    four = trained.no_more_hyperparameters(tmp_path)
    assert four.verdict == (HOLDS_WHEN if dead else HOLDS)
    assert f"Adai blew up in {dead} of 10" in four.sentence
    assert "an argument, not a measurement" in four.sentence


def comparison(folder: Path, errors: dict[str, list[float]]) -> None:
    """A folder of one epoch a run, with these test errors by optimizer and seed."""
    folder.mkdir(parents=True)
    seeds = len(next(iter(errors.values())))
    config = {"task": "cifar10", "model": "resnet8", "epochs": 1, "seeds": seeds, "optimizers": dict.fromkeys(errors)}
    (folder / "config.json").write_text(json.dumps({**config, "optimizers": {name: {} for name in errors}}))
    for name, values in errors.items():
        for seed, value in enumerate(values):
            run = folder / name / f"seed{seed}"
            run.mkdir(parents=True)
            row = {"epoch": 1, "train_loss": 0.1, "train_error": 1.0, "test_loss": 0.1, "test_error": value}
            (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [((1.0, 1.0), HOLDS), ((1.0, 0.0), HOLDS_WHEN), ((0.0, 0.0), NOT_SHOWN), ((-1.0, 0.0), DOES_NOT_HOLD)],
)
def test_better_than_sgd(tmp_path, gap, verdict):
    noise = np.array([0.01, 0.05, -0.04, 0.02])
    for folder, shift in zip(trained.TABLE1, gap, strict=True):
        adai = 15 + noise
        comparison(tmp_path / folder, {"adai": adai.tolist(), "sgd": (adai + shift + noise[::-1]).tolist()})
    assert trained.better_than_sgd(tmp_path).verdict == verdict


@pytest.mark.parametrize(("shift", "verdict"), [(1.0, HOLDS_WHEN), (0.0, NOT_SHOWN), (-1.0, NOT_SHOWN)])
def test_better_than_sgd_at_higher_rates(tmp_path, shift, verdict):
    noise = np.array([0.01, 0.05, -0.04, 0.02])
    same = (15 + noise).tolist()
    comparison(tmp_path / trained.TABLE1[0], {"adai": same, "sgd": same[::-1]})
    found = {"adai-paper": same, "sgd": (15 + shift + noise[::-1]).tolist(), "ema": same}
    comparison(tmp_path / trained.HIGHER, found)
    of = trained.better_than_sgd(tmp_path)
    assert of.verdict == verdict
    assert of.sentence.startswith("It is shown at three times the paper's rates") == (verdict == HOLDS_WHEN)
    assert "At three times these rates, resnet8, 1 epochs, 4 seeds: SGD momentum" in of.sentence


@pytest.mark.parametrize("judge", [trained.as_flat_as_sgd, trained.flatter_than_adam])
def test_flatness_that_was_never_measured_shows_nothing(tmp_path, judge):
    for name in trained.MEASURED:
        comparison(tmp_path / name, {"adai": [1.0, 2.0, 3.0], "sgd": [1.0, 2.0, 3.0], "adam": [1.0, 2.0, 3.0]})
    with pytest.raises(NotRunError, match="both sharpnesses at equal loss"):
        judge(tmp_path)


def test_escape_times_of_no_optimizer_show_nothing(tmp_path):
    for file in simulated.VALLEYS.values():
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text('{"r_squared": {}}')
    with pytest.raises(NotRunError, match="no escape time of Adam was fitted"):
        simulated.adam_escape(tmp_path)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.01, HOLDS_WHEN), (10.0, DOES_NOT_HOLD)])
def test_theorem_3_2_is_judged_by_the_simulated_escape_times(tmp_path, ratio, verdict):
    (tmp_path / simulated.MATCHED).parent.mkdir()
    theory = {"sgd": [1.0, 1.0], "ema": [1.0, ratio]}
    (tmp_path / simulated.MATCHED).write_text(json.dumps({"slope_and_mean_over_theory": theory}))
    assert simulated.momentum_escape(tmp_path).verdict == verdict
