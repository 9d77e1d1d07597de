"""A measure of your own is measured, kept, resumed and drawn as flatness is; old records outlive new columns."""

import csv
import json

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from adai.cli import main
from adai.errors import UserError
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.curvature.kept import Flatness
from adai.lab.measure.stability.kept import Stability
from adai.lab.queue.compare import compare
from adai.lab.results.comparison import read
from adai.lab.results.equal_loss import at_equal_loss, courses
from adai.lab.results.flatness import after_last
from adai.lab.results.measured import file_of
from adai.lab.tasks.task import Task
from tests.folders import comparison, measurement, write_kept

HERE = "tests.test_measures"


def points():
    """40 points in 3 classes, and 20 to test."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.randint(3, (60,), generator=generator)
    return Task(nn.Linear(4, 3), TensorDataset(x[:40], y[:40]), TensorDataset(x[40:], y[40:]))


class WeightNorm(Measure):
    """What the documentation has for an example."""

    name = "weight-norm"
    columns = {"norm": "norm of the weights", "lr": "learning rate"}  # noqa: RUF012

    def of(self, subject, optimizer):
        norm = sum(p.square().sum().item() for p in subject.model.parameters()) ** 0.5
        return {"norm": norm, "lr": optimizer.param_groups[0]["lr"]}


class OfSGD(WeightNorm):
    """For one optimizer alone."""

    name = "of-sgd"

    def check(self, optimizer):
        if not isinstance(optimizer, torch.optim.SGD):
            raise UserError("of-sgd is for SGD")


OPTIONS = {"task": f"{HERE}:points", "optimizers": ["sgd", "adam"], "seeds": 2, "epochs": 3, "batch": 20}


def test_a_measure_of_your_own_is_kept_and_drawn(tmp_path, capsys):
    assert compare(tmp_path, **OPTIONS, measures=[WeightNorm()], every=2) == []
    run = tmp_path / "sgd" / "seed0"
    kept = WeightNorm().kept_in(run)
    assert [one.epoch for one in kept] == [2, 3]
    state = torch.load(run / "checkpoint-000003.pt", weights_only=False)
    norm = sum(p.square().sum().item() for p in state["model"].values()) ** 0.5
    assert kept[-1].number("norm") == pytest.approx(norm, rel=1e-6)
    before = file_of(run, "weight-norm").read_bytes()
    assert compare(tmp_path, **OPTIONS, measures=[WeightNorm()], every=2) == []
    assert file_of(run, "weight-norm").read_bytes() == before
    # The report knows the measure from the runs alone.
    assert main(["report", str(tmp_path)]) == 0
    assert "norm of the weights" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert '<h2 id="measure-weight-norm">' in page
    assert 'id="figure-weight-norm-norm"' in page
    with (tmp_path / "weight-norm-epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2
    assert float(rows[1]["norm"]) == kept[-1].number("norm")


def test_how_often_and_of_which_optimizers_is_of_each_measure(tmp_path, caplog):
    measures = [Asked(WeightNorm(), every=1, of=["adam"]), OfSGD()]
    assert compare(tmp_path, **OPTIONS, measures=measures) == []
    found = {
        (measure.name, name): [one.epoch for one in measure.kept_in(tmp_path / name / "seed1")]
        for measure in (WeightNorm(), OfSGD())
        for name in ("sgd", "adam")
    }
    assert found == {
        ("weight-norm", "sgd"): [], ("weight-norm", "adam"): [1, 2, 3], ("of-sgd", "sgd"): [3], ("of-sgd", "adam"): []
    }  # fmt: skip
    assert "of-sgd is for SGD" in caplog.text
    with pytest.raises(UserError, match="of-sgd is for SGD"):
        compare(tmp_path, **{**OPTIONS, "optimizers": ["adam"]}, measures=[OfSGD()])
    with pytest.raises(UserError, match="unknown measure 'sharpnes'; choose from flatness, stability"):
        compare(tmp_path, **OPTIONS, measures=["sharpnes"])


# --- records outlive columns ------------------------------------------------------------------------------------------


def rewrite(folder, change):
    for file in folder.glob("*/seed*/curvature.json"):
        content = json.loads(file.read_text())
        for one in content["measured"]:
            change(one)
        file.write_text(json.dumps(content))


def added(one):
    one["numbers"]["kurtosis"] = 3.0
    one["remark"] = "of a later version"


def missing(one):
    del one["numbers"]["trace"]
    del one["settings"]["dtype"]
    del one["settings"]["effort"]["ascent"]
    del one["about"]["batch_norm"]


@pytest.fixture
def along(tmp_path):
    path = comparison(tmp_path / "runs", {"adai": [3.0, 3.1, 3.2], "sgd": [3.4, 3.5, 3.7]})
    for name, times in (("adai", 1.0), ("sgd", 2.0)):
        for seed in range(3):
            write_kept(
                path / name / f"seed{seed}",
                [measurement(epoch, 3.0, loss=1 / epoch, largest=times / epoch) for epoch in (1, 2, 4)],
            )
    return path


@pytest.mark.parametrize("change", [added, missing])
def test_a_column_more_or_less_makes_no_measurement_vanish(change, along):
    before = after_last(read(along)), at_equal_loss(courses(read(along)))
    rewrite(along, change)
    comparison = read(along)
    after = after_last(comparison), at_equal_loss(courses(comparison))
    for old, new in zip(before, after, strict=True):
        for name in ("adai", "sgd"):
            for key in ("loss", "largest", "filter_worst"):
                assert new.values(name, key) == old.values(name, key)
                assert len(new.values(name, key)) == 3
    assert len(after[0].values("adai", "trace")) == (0 if change is missing else 3)


@pytest.mark.slow
@pytest.mark.parametrize("change", [added, missing])
def test_the_report_draws_records_of_other_versions(change, along, capsys):
    rewrite(along, change)
    assert main(["report", str(along)]) == 0
    assert "equal loss" in capsys.readouterr().out
    assert "At equal loss</h3>" in (along / "report.html").read_text()


def test_what_is_measured_is_not_measured_again_for_a_column_more(along):
    """The settings that an earlier version did not have are the defaults."""
    run = along / "adai" / "seed0"
    settings = Flatness().kept_in(run)[-1].settings
    rewrite(along, missing)
    assert Flatness().kept_in(run)[-1].settings == settings


def test_a_margin_of_another_version_is_read(tmp_path):
    settings = Stability().settings
    numbers = {"loss": 0.1, "lr": 1.0, "margin": 0.5, "largest_lr": 2.0}
    newer = {"epoch": 2, "settings": settings, "about": {}, "numbers": {**numbers, "gap": 1.0}}
    older = {"epoch": 1, "settings": {"samples": 500}, "about": {}, "numbers": {"margin": 0.4}}
    file_of(tmp_path, "stability").write_text(json.dumps({"measured": [older, newer, {"epoch": 3}]}))
    found = Stability().kept_in(tmp_path)
    assert [(one.epoch, one.number("margin"), one.number("lr")) for one in found] == [(1, 0.4, None), (2, 0.5, 1.0)]
    assert [one.settings for one in found] == [settings] * 2
