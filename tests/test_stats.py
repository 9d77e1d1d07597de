"""Statistics over seeds, held to cases worked by hand, and to how often they are wrong."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from adai.lab.results.stats import BOOTSTRAP_SEEDS, Difference, paired_difference, rank_correlation, spread
from adai.lab.results.summary import ERROR, Row, Summary, verdict


def test_spread_by_hand():
    assert spread([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    assert spread([4.0])[0] == 4
    assert math.isnan(spread([4.0]).sd)
    assert all(map(math.isnan, spread([])))


def test_paired_difference_by_hand():
    """Differences 1, 2, 3: mean 2, sd 1, standard error 1/sqrt(3), and t(2) is 4.302653 at 97.5 %."""
    got = paired_difference([3.0, 3.0, 7.0], [2.0, 1.0, 4.0])
    half = 4.302653 / math.sqrt(3)
    assert got == (pytest.approx(2), pytest.approx(2 - half), pytest.approx(2 + half), 3)
    assert not got.shown  # 2 - 2.484 is below 0
    assert paired_difference([3.0, 3.1, 7.0], [1.0, 1.0, 5.0]).shown  # 2, 2.1, 2: sd 0.058
    reversed_ = paired_difference([2.0, 1.0, 4.0], [3.0, 3.0, 7.0])
    assert reversed_[:3] == pytest.approx((-2, -got.high, -got.low))


def test_paired_difference_is_students_with_few_seeds():
    a, b = [3.1, 2.9, 3.6, 3.3], [2.8, 2.9, 3.0, 3.1]
    expected = ttest_rel(a, b).confidence_interval(0.95)
    got = paired_difference(a, b)
    assert (got.low, got.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    with pytest.raises(ValueError, match="at least 2 pairs, but got 1"):
        paired_difference([1.0], [2.0])
    with pytest.raises(ValueError, match="longer|shorter"):
        paired_difference([1.0, 2.0], [2.0])


def test_several_comparisons_share_the_five_percent():
    a, b = [3.1, 2.9, 3.6, 3.3], [2.8, 2.9, 3.0, 3.1]
    expected = ttest_rel(a, b).confidence_interval(1 - 0.05 / 4)
    got = paired_difference(a, b, comparisons=4)
    assert (got.low, got.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_from_ten_seeds_the_interval_reaches_as_far_as_the_bootstrap_where_the_differences_are_skewed():
    skewed = [0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.5, 0.7, 1.2, 4.0]
    zero = [0.0] * len(skewed)
    assert len(skewed) == BOOTSTRAP_SEEDS
    student = ttest_rel(skewed, zero).confidence_interval(0.95)
    got = paired_difference(skewed, zero)
    assert got == paired_difference(skewed, zero)  # the same at every call
    assert got.low == pytest.approx(student.low)  # the short tail: Student's end is farther out
    assert got.high > student.high + 1

    draws = np.random.default_rng(7).choice(skewed, (20_000, 10))
    t = (draws.mean(axis=1) - np.mean(skewed)) / (draws.std(axis=1, ddof=1) / math.sqrt(10))
    error = np.std(skewed, ddof=1) / math.sqrt(10)
    assert got.high == pytest.approx(np.mean(skewed) - np.quantile(t, 0.025) * error, rel=0.05)


def test_equal_differences_tell_nothing_of_their_spread():
    same = paired_difference([2.3, 3.3, 4.3], [2.1, 3.1, 4.1])
    assert (same.low, same.high) == (-math.inf, math.inf)
    assert not same.shown
    assert paired_difference([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == (0, 0, 0, 3)


def test_no_difference_is_shown_below_three_seeds():
    assert not Difference(5.0, 4.9, 5.1, 2).shown
    assert Difference(5.0, 4.9, 5.1, 3).shown


def summary(*errors):
    """A summary of optimizers A, B, …, the first the reference, from their errors over seeds."""
    lists = [list(map(float, e)) for e in errors]
    rows = []
    for label, values in zip("ABCDEF", lists, strict=False):
        gap = paired_difference(values, lists[0], comparisons=len(lists) - 1) if rows and len(values) > 1 else None
        by_seed = dict(enumerate(values))
        rows.append(
            Row(
                optimizer=label,
                label=label,
                planned=len(values),
                finished=len(values),
                others={},
                last=by_seed,
                best=by_seed,
                train_losses=values,
                ms_per_step=math.nan,
                state_bytes=math.nan,
                peak_bytes=math.nan,
                difference=gap,
            )
        )
    return Summary(ERROR, "A", rows, len(rows) - 1)


@pytest.mark.parametrize("law", ["normal", "exponential"])
@pytest.mark.parametrize("rivals", [1, 4])
@pytest.mark.parametrize(("seeds", "simulated"), [(3, 400), (5, 400), (10, 100)])
def test_equal_optimizers_differ_in_at_most_7_of_100_sentences(law, rivals, seeds, simulated):
    """All optimizers draw their errors from one law; the whole sentence, with every rival in it, is what counts."""
    rng = np.random.default_rng(0)
    draw = getattr(rng, law)
    sentences = [verdict(summary(*draw(size=(1 + rivals, seeds)))) for _ in range(simulated)]
    silent = np.mean([text.startswith("No difference is shown") for text in sentences])
    assert silent >= 0.93


def test_verdict_says_what_the_seeds_can_tell():
    text = verdict(summary([1.0, 1.1, 1.2], [2.0, 2.1, 2.3]))
    # Differences 1.0, 1.0, 1.1: mean 1.0333, sd 0.05774, half 4.302653 · 0.05774 / sqrt(3) = 0.1434
    expected = (
        "A has a lower test error than B (by 1.03 points, 0.89 to 1.18) after the last epoch (3 seeds, 95 % interval)."
    )
    assert text == expected
    text = verdict(summary([2.0, 2.1, 2.3], [1.0, 1.1, 1.2]))
    assert text.startswith("A has a higher test error than B (by 1.03 points, 0.89 to 1.18)")
    text = verdict(summary([1.0, 2.1, 1.2], [2.0, 1.1, 2.3]))
    # Differences 1, -1, 1.1: mean 0.3667, sd 1.1846, half 2.9428
    assert text == (
        "No difference is shown in test error between A and B (−2.58 to +3.31 points) after the last epoch "
        "(3 seeds, 95 % interval)."
    )


def test_verdict_on_several_rivals_is_one_sentence():
    a, b, c, d = [1.0, 1.1, 1.2], [2.0, 2.1, 2.3], [0.5, 0.61, 0.7], [0.0, 1.0, 3.0]
    text = verdict(summary(a, b, c, d))
    assert text.startswith("A has a lower test error than B (by 1.03 points, ")
    assert " and a higher test error than C (by 0.50 points, " in text
    assert "(3 seeds, 95 % intervals that hold together); no difference shown to D (" in text


def test_no_verdict_where_there_is_nothing_to_judge():
    assert verdict(summary([1.0, 1.1], [2.0, 2.1])) == (
        "No verdict below 3 seeds: A shares 2 finished seeds with its rivals."
    )
    assert verdict(summary([1.0], [2.0])) == "No verdict below 3 seeds: A shares 1 finished seed with its rivals."
    assert verdict(summary([1.0, 2.0, 3.0])) == "One optimizer alone: nothing to compare."
    text = verdict(summary([1.0, 1.1, 1.2], [2.0, 2.1, 2.2]))
    assert "No difference is shown" in text
    assert "by the same 1.00 points at every seed, no interval" in text


def test_a_rank_correlation_by_hand():
    """ρ = 1 − 6 Σ d² / (n (n² − 1)); here d² sums to 6 over n = 6."""
    found = rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 40, 30, 60, 50])
    assert found.value == pytest.approx(1 - 6 * 6 / 210)
    half = 1.96 * math.sqrt((1 + found.value**2 / 2) / 3)
    assert found.low == pytest.approx(math.tanh(math.atanh(found.value) - half))
    assert found.high == pytest.approx(math.tanh(math.atanh(found.value) + half))
    assert found.number == 6


@pytest.mark.parametrize(("a", "value"), [([1, 2, 3, 4, 5], 1), ([5, 4, 3, 2, 1], -1), ([1, 3, 2], 0.5)])
def test_a_rank_correlation_has_no_interval_where_it_would_have_no_width_or_no_data(a, value):
    found = rank_correlation(a, sorted(a))
    assert found.value == pytest.approx(value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
