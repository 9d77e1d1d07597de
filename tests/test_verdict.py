"""What a verdict says beside the difference: at which settings, and where an interval tells nothing; what is kept."""

import json
import subprocess
import sys

import numpy as np
import pytest

from adai.commands.kept import refuse_others
from adai.errors import UserError
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.comparison import read
from adai.lab.results.summary import NO_INTERVAL, summarise, verdict
from adai.report.noise import Row, sentence
from adai.report.style import simulated, style
from adai.report.tables import cells, latex, markdown
from adai.simulate import study
from adai.simulate.escape import Times
from adai.simulate.rules import adam
from tests.folders import comparison

ERRORS = {"adai": [3.0, 3.1, 3.2], "adam": [5.0, 5.2, 5.3]}
PAPERS = {"task": "cifar10", "model": "resnet18", "schedule": "paper", "epochs": 200, "batch": 128}


def given(path, **options):
    """Change options of the optimizers of a comparison."""
    config = json.loads((path / "config.json").read_text())
    for name, own in options.items():
        config["optimizers"][name] = {**config["optimizers"][name], **own}
    (path / "config.json").write_text(json.dumps(config))
    return verdict(summarise(read(path)))


def test_a_verdict_at_default_rates_says_so_everywhere(tmp_path):
    path = comparison(tmp_path / "r", ERRORS)
    summary = summarise(read(path))
    said = "At untuned CIFAR settings, Adai has a lower test error than Adam (by 2.07 points"
    for text in (verdict(summary), markdown(summary), latex(summary)):
        assert said in text


def test_what_was_chosen_by_hand_is_named(tmp_path):
    path = comparison(tmp_path / "r", ERRORS)
    text = given(path, adam={"lr": 0.03})
    assert text.startswith(
        "At settings chosen by hand (Adam: lr 0.03) and untuned CIFAR settings for the others, Adai has"
    )
    text = given(path, adai={"weight_decay": 0.0})
    assert text.startswith("At settings chosen by hand (Adai: weight decay 0; Adam: lr 0.03), Adai has")


@pytest.mark.parametrize(
    ("changed", "papers"),
    [({}, True), ({"epochs": 100}, False), ({"model": "convnet"}, False), ({"task": "a:b"}, False)],
)
def test_the_papers_own_runs_have_the_papers_settings(changed, papers, tmp_path):
    config = {**PAPERS, **changed}
    path = comparison(tmp_path / "r", ERRORS, epochs=config.pop("epochs"), **config)
    assert verdict(summarise(read(path))).startswith("At untuned CIFAR settings, Adai"), "Adai has a floor"
    config = json.loads((path / "config.json").read_text())
    config["optimizers"]["adai"] = RECIPES["adai-paper"].options
    (path / "config.json").write_text(json.dumps(config))
    begins = "At the paper’s settings, Adai" if papers else "At untuned CIFAR settings, Adai"
    assert verdict(summarise(read(path))).startswith(begins)


def test_settings_that_nobody_recorded(tmp_path):
    path = comparison(tmp_path / "r", {"lion": [3.0, 3.1, 3.2], "tiger": [5.0, 5.2, 5.3]})
    assert verdict(summarise(read(path))).startswith("At settings that were not recorded, lion has")


def test_a_tuned_verdict_says_how_many_trials_and_how_near_the_edge(tmp_path):
    path = comparison(tmp_path / "r", ERRORS, trials=20)
    given(path, adai={"lr": 0.5}, adam={"lr": 0.02})
    assert verdict(summarise(read(path))).startswith("After 20 tuning trials of each optimizer, Adai has")
    assert "Best learning rates" not in verdict(summarise(read(path)))  # of a version that kept no ranges
    (path / "tuning").mkdir()
    ranges = {"adai": {"lr": [1 / 30, 30.0]}, "adam": {"lr": [1e-3 / 30, 0.03]}}
    (path / "tuning" / "tuning.json").write_text(json.dumps({"ranges": ranges}))
    assert verdict(summarise(read(path))).endswith(
        " Best learning rates, with their factor to the nearer end of the range searched: Adai 0.5 (15), Adam 0.02 "
        "(1.5: at the edge, a better one may lie beyond)."
    )


def test_points_of_error_lie_within_100(tmp_path):
    path = comparison(tmp_path / "r", {"adai": [3.0, 80.0, 3.2], "adam": [3.0, 4.0, 85.0], "sgd": [3.1, 80.2, 3.2]})
    summary = summarise(read(path))
    text = verdict(summary)
    assert f"Adam ({NO_INTERVAL})" in text
    assert "SGD momentum (−" in text  # this one tells something
    line = next(line for line in cells(summary).rows if line[0] == "Adam")
    assert line[4] == "+1.93 (no interval)"


def test_the_page_has_the_threads_of_the_runs(tmp_path):
    path = comparison(tmp_path / "r", ERRORS, threads=8)
    assert read(path).where["threads"] == 8
    for seed, threads in enumerate((4, 4, 2)):
        config = {"epochs": 4, "threads": threads}
        (path / "adai" / f"seed{seed}" / "config.json").write_text(json.dumps(config))
    assert read(path).where["threads"] == "4, 2"


def test_optimizers_that_are_simulated_look_as_those_that_are_trained():
    assert simulated("adai") == style("adai")
    assert simulated("momentum") == style("sgd")
    assert simulated("sgd") == style("sgd-plain")
    rules = ("adai", "momentum", "ema", "adam", "sgd", "adaiw")
    looks = [simulated(rule) for rule in rules]
    assert len({look.light for look in looks}) == len({look.marker for look in looks}) == len(rules)
    assert style("\udcff")  # a folder whose name is no text


@pytest.mark.parametrize(
    ("share", "says"),
    [(0.05, "is Gaussian as far as the test can tell"), (0.2, "for some parameters"), (0.9, "for most parameters")],
)
def test_the_noise_is_gaussian_or_not_in_a_sentence(share, says):
    numbers = {**dict.fromkeys(Row._fields, 1.0), "parameters": "net", "tested": 500}
    text = sentence(Row(**{**numbers, "anderson_darling_rejected": share, "anderson_darling_gaussian": 0.05}))
    assert says in text
    assert f"rejects {share:.1%}".replace("%", " %") in text


def test_results_of_other_settings_are_not_written_over(tmp_path):
    file = tmp_path / "curvature.json"
    refuse_others(file, {"seed": 0}, "the curvature")
    file.write_text(json.dumps({"about": {"seed": 0, "states": ["a"]}, "rows": []}))
    refuse_others(file, {"seed": 0, "states": ("a",), "new": 1}, "the curvature")
    with pytest.raises(
        UserError, match="holds the curvature of another states, which would be overwritten; give another"
    ):
        refuse_others(file, {"seed": 0, "states": ("b",)}, "the curvature")


def test_an_interrupted_study_keeps_what_was_running(tmp_path, monkeypatch):
    def times(landscape, rule, seeds, **_):
        ran.append(len(seeds))
        return Times(np.ones(len(seeds), dtype=np.int64), np.ones(len(seeds), dtype=np.int64), seeds >= 0)

    def interrupted(count):
        if count:
            raise KeyboardInterrupt

    ran = []
    monkeypatch.setattr(study, "escape_times", times)
    asked = study.Study("matched", {"adam": adam(0.01)}, (2.0, 4.0), 40, 0, 10**6)
    with pytest.raises(KeyboardInterrupt):
        study.run(asked, tmp_path, threads=2, progress=interrupted)
    with np.load(tmp_path / "times.npz") as kept:
        assert sum(rows.shape[1] for rows in kept.values()) == sum(ran) > 0
    store = study.run(asked, tmp_path, threads=2, progress=lambda count: None)
    assert [store["adam", k].exits.size for k in (2.0, 4.0)] == [40, 40]


def test_the_version_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; from adai.cli import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0]) == (0, "adai"), done.stderr
