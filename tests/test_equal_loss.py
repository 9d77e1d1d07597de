"""Runs compared at equal loss: where they come through it, and what the report makes of that."""

import csv
import json

import pytest

from adai.cli import main
from adai.lab.measure.curvature.kept import FlatnessSettings
from adai.lab.results import flatness
from adai.lab.results.comparison import read
from adai.lab.results.equal_loss import at_equal_loss, courses, verdicts
from adai.report.equal_loss import picture
from tests.folders import comparison, measurement, write_kept

TIMES = {"adai": 2.0, "sgd": 1.0, "adam": 8.0}
VARIES = {"adai": 0.004, "sgd": 0.003, "adam": 0.002}  # from seed to seed
LOSSES = {"adai": [0.9, 0.2, 0.03, 0.004], "sgd": [0.8, 0.1, 0.01, 0.001], "adam": [1.0, 0.5, 0.3, 0.1]}


def law(name, seed, loss):
    """A top eigenvalue that follows the loss: at equal losses those of two optimizers have a fixed ratio."""
    return TIMES[name] * (1 + VARIES[name] * seed) * loss**0.7


def course(name, seed, losses, **more):
    return [
        measurement(epoch, 3.0, loss=loss, largest=loss and law(name, seed, loss), **more)
        for epoch, loss in enumerate(losses, 1)
    ]


@pytest.fixture
def along(tmp_path):
    path = comparison(tmp_path / "runs", {name: [3.0, 3.1, 3.2] for name in LOSSES})
    for name, losses in LOSSES.items():
        for seed in range(3):
            write_kept(path / name / f"seed{seed}", course(name, seed, losses))
    return path


def test_all_runs_are_compared_at_the_highest_of_their_lowest_losses(along):
    equal = at_equal_loss(courses(read(along)))
    assert equal.at_loss == 0.1  # Adam's last, which sgd has after its second epoch, and Adai between two
    for name in LOSSES:
        found = equal.values(name, "largest")
        assert found == {seed: pytest.approx(law(name, seed, 0.1)) for seed in range(3)}
        assert equal.values(name, "loss") == dict.fromkeys(range(3), 0.1)
        assert equal.values(name, "trace") == {seed: pytest.approx(3.0) for seed in range(3)}


def test_the_sentences_at_equal_loss(along):
    found = read(along)
    eigenvalue, sharpness = verdicts(found, at_equal_loss(courses(found)), "adai")
    assert eigenvalue.startswith("At untuned CIFAR settings and at equal loss, 0.1 nats, the top eigenvalue of H is ")
    assert "0.5 times Adai’s with SGD momentum (" in eigenvalue
    assert " and 4 times with Adam (" in eigenvalue
    assert eigenvalue.endswith("(3 seeds, 95 % intervals that hold together).")
    assert sharpness.startswith("There no difference is shown in the filter-normalised sharpness between Adai and ")


def test_flatness_is_said_by_both_measures_or_by_neither(along):
    for file in along.glob("*/seed*/curvature.json"):
        content = json.loads(file.read_text())
        for one in content["measured"]:
            one["numbers"]["filter_worst"] = None
        file.write_text(json.dumps(content))
    found = read(along)
    (sentence,) = verdicts(found, at_equal_loss(courses(found)), "adai")
    assert sentence.startswith("No verdict at equal loss, 0.100 nats")
    with pytest.raises(ValueError, match="compared only at equal loss"):
        flatness.verdicts(found, flatness.after_last(found), "adai")


def test_a_run_that_comes_through_twice_counts_where_it_does_last(along):
    up_again = [0.2, 0.05, 0.4, 0.02]
    write_kept(along / "sgd" / "seed0", course("sgd", 0, up_again))
    equal = at_equal_loss(courses(read(along)))
    assert equal.values("sgd", "largest")[0] == pytest.approx(law("sgd", 0, 0.1))
    falling = [measurement(epoch, 3.0, loss=loss) for epoch, loss in enumerate(up_again, 1)]
    falling[2:] = [one._replace(numbers=one.numbers | {"trace": 7.0}) for one in falling[2:]]
    write_kept(along / "sgd" / "seed0", falling)
    assert at_equal_loss(courses(read(along))).values("sgd", "trace")[0] == pytest.approx(7.0)


def test_numbers_that_are_not_above_0_are_joined_by_a_straight_line(along):
    measured = course("adai", 0, [0.4, 0.025])
    ends = [measured[0]._replace(numbers=measured[0].numbers | {"trace": 5.0, "sam": None}), measured[1]]
    ends[1] = ends[1]._replace(numbers=ends[1].numbers | {"trace": -3.0})
    write_kept(along / "adai" / "seed0", ends)
    equal = at_equal_loss(courses(read(along)))
    assert equal.values("adai", "trace")[0] == pytest.approx(1.0)  # 0.1 is half-way from 0.4 to 0.025 by factors
    assert 0 not in equal.values("adai", "sam")


def test_runs_that_were_below_from_the_first_measurement_on_are_left_out(along):
    for seed in range(3):
        write_kept(along / "sgd" / f"seed{seed}", course("sgd", seed, LOSSES["sgd"])[2:])
    equal = at_equal_loss(courses(read(along)))
    assert list(equal.runs) == ["adai", "adam"]
    write_kept(along / "adai" / "seed1", course("adai", 1, LOSSES["adai"])[2:])
    found = read(along)
    said, missing = verdicts(found, at_equal_loss(courses(found)), "adai")
    assert missing == "At equal loss: 4 finished runs are not in it."
    assert said.startswith("No verdict at equal loss, 0.100 nats: at least 3 seeds have to pass")
    for seed in range(3):
        write_kept(along / "adai" / f"seed{seed}", course("adai", seed, LOSSES["adai"])[2:])
    found = read(along)
    assert at_equal_loss(courses(found)) is None
    assert verdicts(found, None, "adai")[0].startswith("No verdict at equal loss: no two optimizers")


def test_courses_are_of_finished_runs_measured_alike_and_more_than_once(along):
    other = FlatnessSettings(10).as_dict()
    kept = course("sgd", 0, LOSSES["sgd"])
    # Asked for later, after the last epoch alone, as `adai curvature RUNS` does: the course is still there.
    write_kept(along / "sgd" / "seed0", [*kept, kept[-1]._replace(settings=other)])
    write_kept(along / "sgd" / "seed1", [one._replace(settings=other) for one in kept])
    write_kept(along / "sgd" / "seed2", kept[-1:])
    found = courses(read(along))
    assert {name: list(of_seeds) for name, of_seeds in found.items()} == {
        "adai": [0, 1, 2], "sgd": [0], "adam": [0, 1, 2]
    }  # fmt: skip
    assert [one.epoch for one in found["sgd"][0]] == [1, 2, 3, 4]
    assert courses(read(comparison(along.parent / "other", {"sgd": [3.0]}))) == {}


def test_a_loss_that_is_not_finite_or_0_is_passed_over(along):
    write_kept(along / "sgd" / "seed0", course("sgd", 0, [None, 0.8, 0.01, 0.0]))
    equal = at_equal_loss(courses(read(along)))
    assert equal.at_loss == 0.1
    assert equal.values("sgd", "largest")[0] == pytest.approx(law("sgd", 0, 0.1))
    write_kept(along / "sgd" / "seed0", course("sgd", 0, [None, 0.8, 0.0]))
    assert 0 not in at_equal_loss(courses(read(along))).values("sgd", "largest")
    write_kept(along / "sgd" / "seed0", course("sgd", 0, [0.0, 0.0]))
    assert list(at_equal_loss(courses(read(along))).values("sgd", "largest")) == [1, 2]


@pytest.mark.slow
def test_the_legend_has_the_optimizers_that_are_drawn(along, tmp_path):
    """A comparison of four optimizers, one of which was not measured."""
    extended = read(comparison(tmp_path / "four", {**{name: [3.0] for name in LOSSES}, "adamw": [3.0]}))
    drawn = picture(extended, courses(read(along)), None).figure
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["Adai", "SGD momentum", "Adam"]


def test_the_report_of_runs_measured_along_training(along, capsys):
    assert main(["report", str(along)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "At untuned CIFAR settings and at equal loss, 0.1 nats, the top eigenvalue of H is" in out
    page = (along / "report.html").read_text()
    for text in ("At equal loss</h3>", "Flatness at a loss of 0.1 nats", "equal-loss.csv", "flatness-epochs.csv"):
        assert text in page
    assert "Medians at the dotted line, 0.100 nats: Adai 0.401; SGD momentum 0.200; Adam 1.60" in page
    assert (along / "figures" / "flatness-along.png").stat().st_size > 10_000
    with (along / "flatness-epochs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 3 * 4
    assert (rows[0]["optimizer"], rows[0]["epoch"], rows[0]["loss"]) == ("adai", "1", "0.9")
    numbers = json.loads((along / "equal-loss.json").read_text())
    assert numbers["at_loss"] == 0.1
    assert "| Adai | 3 | 0.1 ± 0 | 0.401 ± 0.0016 |" in (along / "equal-loss.md").read_text()
