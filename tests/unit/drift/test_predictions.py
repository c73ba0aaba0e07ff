"""Drift of the champion's predictions, beside the features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp, wasserstein_distance

from mlops.domain.drift import outputs
from mlops.domain.drift.outputs import model_matrix, prediction_drift
from mlops.domain.errors import EmptyWindow, MissingColumn, UnusableFeatures
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy


def frame(**columns: list[float]) -> FeatureFrame:
    numbers = {name: np.array(values, dtype=float) for name, values in columns.items()}
    return FeatureFrame(
        n_rows=len(next(iter(numbers.values()))), numbers=numbers, categories={"sector": np.array(["a"], dtype=object)}
    )


def test_its_statistics_are_those_of_a_feature() -> None:
    rng = np.random.default_rng(0)
    before, now = rng.beta(2, 2, 900), rng.beta(3, 2, 70)
    found = prediction_drift("7", before, now, DriftPolicy())
    expected = ks_2samp(before, now, method="asymp")
    assert found.statistics.ks_statistic == pytest.approx(expected.statistic, abs=1e-12)
    assert found.statistics.ks_p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.statistics.wasserstein == pytest.approx(wasserstein_distance(before, now) / before.std(ddof=1))
    assert (found.version, found.n_reference, found.n_current) == ("7", 900, 70)


def test_half_and_above_is_a_positive_call() -> None:
    found = prediction_drift("1", np.array([0.1, 0.5, 0.6, 0.49]), np.array([0.9, 0.2]), DriftPolicy())
    assert (found.positive_reference, found.positive_current) == (0.5, 0.5)


def test_a_model_that_says_one_number_has_not_drifted() -> None:
    found = prediction_drift("1", np.full(50, 0.5), np.full(20, 0.5), DriftPolicy())
    assert found.statistics.ks_statistic == 0
    assert not found.statistics.drifted_ks


def test_rows_are_given_as_in_training_in_the_models_own_order() -> None:
    matrix = model_matrix(frame(a=[1.0, np.nan], b=[np.inf, 1e300], c=[0.0, 0.0]), ("b", "a"))
    assert matrix.dtype == np.float32
    # Infinite, and infinite once it is a float32: both count as missing.
    np.testing.assert_array_equal(matrix, [[np.nan, 1.0], [np.nan, np.nan]])


def test_of_many_rows_evenly_spaced_ones_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "SCORED_ROWS", 4)
    assert model_matrix(frame(a=list(range(10))), ("a",))[:, 0].tolist() == [0, 2, 5, 7]
    assert model_matrix(frame(a=[1.0, 2.0]), ("a",))[:, 0].tolist() == [1, 2]


def test_a_feature_that_is_gone_or_text_now_is_named() -> None:
    with pytest.raises(MissingColumn, match="it reads gone, lost, which the check does not"):
        model_matrix(frame(a=[1.0]), ("a", "gone", "lost"))
    with pytest.raises(UnusableFeatures, match="reads sector as numbers"):
        model_matrix(frame(a=[1.0]), ("a", "sector"))


def test_a_window_without_rows_cannot_be_asked_about() -> None:
    with pytest.raises(EmptyWindow, match="no rows of a window"):
        model_matrix(frame(a=[]), ("a",))
