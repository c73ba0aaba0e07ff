"""Features that count as much as they contribute to the champion."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.drift.calibration import Calibration, calibrate
from mlops.domain.drift.verdict import (
    FeatureVerdict,
    RuleDecision,
    calibrated_verdict,
    raw_verdict,
    weighted_verdict,
)
from mlops.domain.drift.weights import importance_weights, weighted_mean, weights_json
from mlops.domain.frame import FeatureFrame

FIRST = np.datetime64("2018-01-01")
#: Dates of the history, of the reference and of the current window; ten rows each.
SIZES, ROWS = (400, 60, 5), 10


def frames(*names: str, seed: int = 5) -> list[FeatureFrame]:
    """Both features shift at the end, `b` three times as far; a feature's values do not depend on the other's."""
    found, day = [], 0
    for part, size in enumerate(SIZES):
        rng = {name: np.random.default_rng([seed, part, ord(name)]) for name in names}
        shift = {"a": 0.5, "b": 1.5}
        numbers = {name: rng[name].normal(size=size * ROWS) + (shift[name] if part == 2 else 0.0) for name in names}
        dates = np.repeat(FIRST + np.arange(day, day + size), ROWS)
        found.append(FeatureFrame(n_rows=size * ROWS, numbers=numbers, categories={}, dates=dates))
        day += size
    return found


def calibrated(*names: str, weights: dict[str, float] | None = None) -> Calibration:
    history, reference, current = frames(*names)
    start = (FIRST + SIZES[0]).astype(date)
    return calibrate(history, reference, current, reference_start=start, weights=weights)


def verdicts(*drifted: bool, weights: tuple[float, ...] = ()) -> list[FeatureVerdict]:
    counted = weights or (1.0,) * len(drifted)
    return [
        FeatureVerdict(name=f"x{i}", drifted_ks=False, drifted_psi=one, weight=weight)
        for i, (one, weight) in enumerate(zip(drifted, counted, strict=True))
    ]


def raw(features: list[FeatureVerdict]) -> RuleDecision:
    return raw_verdict(features, alert_share=0.3, n_current=500, min_current_rows=100)


def weighted(features: list[FeatureVerdict]) -> RuleDecision:
    return weighted_verdict(features, alert_share=0.3, n_current=500, min_current_rows=100)


def test_weights_are_the_importance_of_the_checks_features_and_sum_to_one() -> None:
    found = importance_weights({"a": 0.6, "b": 0.2, "elsewhere": 0.2}, ["a", "b", "c"])
    assert found == pytest.approx({"a": 0.75, "b": 0.25, "c": 0.0})


@pytest.mark.parametrize("importance", [{}, {"elsewhere": 1.0}, {"a": 0.0}, {"a": math.nan}, {"a": -1.0}])
def test_a_model_that_draws_on_no_feature_of_the_check_gives_no_weights(importance: dict[str, float]) -> None:
    assert importance_weights(importance, ["a", "b"]) is None


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8))
def test_weights_sum_to_one_or_are_none(parts: list[float]) -> None:
    names = [f"x{i}" for i in range(len(parts))]
    found = importance_weights(dict(zip(names, parts, strict=True)), names)
    assert (found is None) == (sum(parts) == 0)
    assert found is None or sum(found.values()) == pytest.approx(1)


def test_a_weighted_mean_is_numpys_and_without_weights_the_plain_one() -> None:
    values = {"a": np.array([1.0, 2.0]), "b": np.array([3.0, 6.0])}
    assert weighted_mean(values, {"a": 3.0, "b": 1.0}).tolist() == [1.5, 3.0]
    assert weighted_mean(values, {"b": 1.0}).tolist() == [3.0, 6.0]
    for nothing in (None, {}, {"elsewhere": 1.0}):
        assert weighted_mean(values, nothing).tolist() == [2.0, 4.0]


def test_the_documented_rule_counts_every_feature_alike_whatever_its_weight() -> None:
    found = raw(verdicts(True, False, False, weights=(0.0, 0.5, 0.5)))
    assert found == raw(verdicts(True, False, False))
    assert (found.share, found.verdict, found.share_of) == (1 / 3, "drifted", "of the features")


def test_the_weighted_share_is_the_weight_of_what_drifted() -> None:
    found = weighted(verdicts(True, False, False, weights=(0.5, 0.25, 0.25)))
    assert (found.share, found.verdict) == (0.5, "drifted")
    assert found.reason == (
        "1 of 3 features (50% of the champion's importance) moved by PSI; the alert threshold is 30%"
    )
    unread = weighted(verdicts(True, True, False, weights=(0.0, 0.1, 0.9)))
    assert (unread.share, unread.verdict) == (0.1, "stable")


def test_features_that_count_alike_give_the_documented_share_and_words() -> None:
    found = raw(verdicts(True, False, False))
    assert (found.share, found.share_of) == (1 / 3, "of the features")
    assert found.reason == "1 of 3 features (33%) moved by PSI; the alert threshold is 30%"
    for weights in ((0.2, 0.2, 0.2), (0.0, 0.0, 0.0)):
        assert weighted(verdicts(True, False, False, weights=weights)).share == pytest.approx(1 / 3)


def test_the_calibrated_reason_says_what_its_share_is_of() -> None:
    counted = weighted(verdicts(True, False, weights=(0.75, 0.25)))
    found = calibrated_verdict(counted, calibrated("a", "b"), alert_share=0.3)
    assert found.reason.endswith("; 75% of the champion's importance moved by PSI")


def test_a_feature_with_all_the_weight_is_ranked_as_if_it_stood_alone() -> None:
    alone, weighted = calibrated("a"), calibrated("a", "b", weights={"a": 1.0})
    assert weighted.p_value == alone.p_value
    assert weighted.statistic == pytest.approx(alone.statistic)
    assert weighted.placements is not None
    assert alone.placements is not None
    np.testing.assert_allclose(weighted.placements.statistics, alone.placements.statistics)


def test_equal_weights_are_none() -> None:
    plain, equal = calibrated("a", "b"), calibrated("a", "b", weights={"a": 0.5, "b": 0.5})
    assert equal.statistic == pytest.approx(plain.statistic)
    assert equal.p_value == plain.p_value
    assert equal.distances == plain.distances


def test_the_report_states_the_weights_and_whose_they_are() -> None:
    assert weights_json(None, "3") == {"by": "equal"}
    assert weights_json({"a": 0.25, "b": 0.75}, "3") == {
        "by": "importance", "version": "3", "values": {"a": 0.25, "b": 0.75},
    }  # fmt: skip
