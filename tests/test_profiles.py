"""Performance profiles, ranks and steps to a target, held to cases worked by hand."""

import math

import pytest

from adai.lab.results.profiles import _resampled, first_at, mean_ranks, profiles, ratios, typical


def seeds(*values):
    return dict(enumerate(values))


# Three tasks. "a" is best on the first two and never gets there on the third.
SCORES = {
    "one": {"a": seeds(10.0, 10.0), "b": seeds(15.0, 15.0), "c": seeds(40.0, 40.0)},
    "two": {"a": seeds(2.0, 2.0), "b": seeds(2.0, 2.0), "c": seeds(3.0, 3.0)},
    "three": {"a": seeds(math.inf, math.inf), "b": seeds(6.0, 6.0), "c": seeds(5.0, 5.0)},
}


def test_ratios_to_the_best_of_each_task():
    assert ratios(SCORES) == {
        "one": {"a": 1, "b": 1.5, "c": 4},
        "two": {"a": 1, "b": 1, "c": 1.5},
        "three": {"a": math.inf, "b": 1.2, "c": 1},
    }


def test_a_task_that_nobody_solves_and_a_best_of_zero():
    assert ratios({"t": {"a": seeds(math.inf), "b": seeds(math.inf)}}) == {"t": {"a": math.inf, "b": math.inf}}
    assert ratios({"t": {"a": seeds(0.0), "b": seeds(1.0)}}) == {"t": {"a": 1, "b": math.inf}}


def test_profiles_are_shares_of_tasks():
    found = profiles(SCORES, [1, 1.2, 1.5, 4, 100])
    third = pytest.approx([1 / 3, 1 / 3, 2 / 3, 1, 1])
    assert list(found["a"].share) == pytest.approx([2 / 3] * 5)  # censored: never 1
    assert list(found["b"].share) == pytest.approx([1 / 3, 2 / 3, 1, 1, 1])
    assert list(found["c"].share) == third
    for one in found.values():  # all seeds are equal, so the band has no width
        assert list(one.low) == list(one.share) == list(one.high)


def test_bands_hold_the_profile_and_have_width_where_seeds_differ():
    scores = {"t": {"a": seeds(1.0, 3.0, 2.0, 1.0, 3.0), "b": seeds(2.0, 2.0, 2.0, 2.0, 2.0)}}
    found = profiles(scores, [1.0, 1.5])
    for one in found.values():
        assert all(one.low <= one.share)
        assert all(one.share <= one.high)
    assert found["a"].low[0] < found["a"].high[0]
    again = profiles(scores, [1.0, 1.5])
    assert list(again["a"].low) == list(found["a"].low)


def test_a_missing_run_does_not_put_the_others_out_of_step():
    """The two are equal on each seed, so no resampling may rank them differently where both have run it."""
    a = dict(enumerate([1.0, 2.0, 3.0, 4.0, 5.0]))
    scores = {"t": {"a": a, "b": {seed: value + 0.1 for seed, value in a.items() if seed != 0}}}
    drawn = [again["t"] for again in _resampled(scores)]
    pairs = [(one["a"][i], one["b"][i]) for one in drawn if one["b"] is not scores["t"]["b"] for i in one["b"]]
    assert pairs
    assert all(b == pytest.approx(a + 0.1) for a, b in pairs)


def test_mean_ranks_share_places_of_equals():
    found = mean_ranks(SCORES)
    assert found["a"].value == pytest.approx((1 + 1.5 + 3) / 3)
    assert found["b"].value == pytest.approx((2 + 1.5 + 2) / 3)
    assert found["c"].value == pytest.approx((3 + 3 + 1) / 3)
    assert sum(one.value for one in found.values()) == pytest.approx(6)


def test_the_median_over_seeds_stands_one_dead_run():
    assert typical([1.0, 2.0, math.inf]) == 2
    assert typical([1.0, math.inf, math.inf]) == math.inf
    assert typical([]) == math.inf


@pytest.mark.parametrize(
    ("values", "target", "lower", "expected"),
    [
        ([5, 3, 2, 3], 3, True, 2),
        ([5, 4], 3, True, None),
        ([math.nan, 1], 3, True, 2),
        ([50, 80], 80, False, 2),
        ([], 1, True, None),
    ],
)
def test_the_first_epoch_at_a_target(values, target, lower, expected):
    assert first_at(values, target, lower_is_better=lower) == expected
