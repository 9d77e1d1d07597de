"""Momentum drift of Adai over Adam's, from rows."""

import numpy as np
import pytest

from adai.lab.results.comparison import read
from adai.report.drift import drift_pictures, momentum_drift
from adai.report.picture import Missing
from tests.folders import comparison


def test_the_drift_is_that_of_equation_12(tmp_path):
    """Rows have lr 0.1 / epoch and mean v̂ 1e-4."""
    path = comparison(tmp_path / "r", {"adai": [3.0, 3.1], "adam": [4.0, 4.1], "sgd": [3.0, 3.0]})
    entrants = {entrant.name: entrant for entrant in read(path).entrants}
    lr = 0.1 / np.arange(1, 5)
    np.testing.assert_allclose(momentum_drift(entrants["adai"]), [1e-4 * lr**2 / (2 * 0.1)] * 2)
    np.testing.assert_allclose(momentum_drift(entrants["adam"]), [lr**2 / (2 * (1 - 0.9))] * 2)
    entrants["adai"].options["betas"] = [0.2, 0.99]
    entrants["adam"].options["betas"] = [0.5, 0.999]
    np.testing.assert_allclose(momentum_drift(entrants["adai"]), [1e-4 * lr**2 / (2 * 0.2)] * 2)
    np.testing.assert_allclose(momentum_drift(entrants["adam"]), [lr**2 / (2 * 0.5)] * 2)


def test_the_curve_is_the_ratio_for_each_kind_of_adai(tmp_path):
    found = drift_pictures(read(comparison(tmp_path / "r", {"adai": [3.0], "adaiw": [3.0], "adam": [4.0]})))
    assert [picture.key for picture in found] == ["drift-adai", "drift-adaiw"]
    curve = found[0].figure.axes[0].lines[0]
    assert curve.get_ydata() == pytest.approx([1e-4] * 4)
    assert found[0].description.startswith("0.000100 in epoch 1, 0.000100 in epoch 4;")


def test_without_adam_there_is_no_curve_and_without_v_hat_it_says_so(tmp_path):
    assert drift_pictures(read(comparison(tmp_path / "a", {"adai": [3.0], "sgd": [4.0]}))) == []
    assert drift_pictures(read(comparison(tmp_path / "b", {"sgd": [3.0], "adam": [4.0]}))) == []
    columns = ("epoch", "train_loss", "test_error", "lr")
    (missing,) = drift_pictures(read(comparison(tmp_path / "c", {"adai": [3.0], "adam": [4.0]}, columns=columns)))
    assert isinstance(missing, Missing)
