"""Features and scores that are too good to be true; the areas are checked against scikit-learn and brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mlops.domain.policies import FindingsPolicy
from mlops.domain.promotion.findings import Finding
from mlops.domain.training.leakage import (
    LEAST_ROWS,
    MAX_ROWS,
    RandomSplit,
    rows_to_look_at,
    single_feature_auc,
    suspicious_features,
    suspicious_gap,
    suspicious_scores,
)

POLICY = FindingsPolicy()
GENERATOR = np.random.default_rng(5)
N = 600
RETURN = GENERATOR.normal(size=N)
Y = (RETURN > 0).astype(np.int8)
NOISE = GENERATOR.normal(size=N)


def found(name: str, values: np.ndarray, y: np.ndarray = Y, policy: FindingsPolicy = POLICY) -> tuple[Finding, ...]:
    x = np.column_stack([NOISE, values]).astype(np.float32)
    return suspicious_features(x, y, {"target_return": RETURN}, features=("noise", name), policy=policy)


def codes(name: str, values: np.ndarray, y: np.ndarray = Y) -> list[str]:
    return [one.code for one in found(name, values, y)]


def test_a_feature_of_no_use_is_no_finding() -> None:
    assert codes("momentum", GENERATOR.normal(size=N)) == []


def test_a_feature_that_is_the_label_is_found_in_either_direction() -> None:
    assert codes("leak", Y.astype(float)) == ["single_feature_predicts_label:leak"]
    assert codes("leak", -Y.astype(float)) == ["single_feature_predicts_label:leak"]


def test_a_feature_that_ranks_like_the_return_is_found_as_target_like_too() -> None:
    wanted = ["single_feature_predicts_label:leak", "target_like_column:leak"]
    assert codes("leak", np.exp(3 * RETURN)) == wanted
    assert codes("leak", -RETURN) == wanted


def test_a_feature_whose_absence_is_the_label_is_found() -> None:
    (one,) = found("filled_later", np.where(Y == 1, NOISE, np.nan))
    assert one.code == "single_feature_predicts_label:filled_later"
    assert "whether feature filled_later is missing" in one.words


def test_an_honest_strong_feature_is_below_the_bound() -> None:
    # Trailing volatility on the question whether volatility rises had AUC 0.8 on real prices.
    strong = RETURN + 1.2 * GENERATOR.normal(size=N)
    area = roc_auc_score(Y, strong)
    assert 0.75 < area < 0.9
    assert codes("volatility_20d", strong) == []


@pytest.mark.parametrize(
    ("name", "suspect"),
    [
        ("fwd_return_20d", True), ("return_next_20d", True), ("futureVol", True), ("label", True),
        ("Target-Price", True), ("forward_return", True),
        ("forward_pe", False), ("context_score", False), ("targeted_spend", False), ("return_20d", False),
    ],
)  # fmt: skip
def test_words_of_a_name_are_compared_whole(name: str, suspect: bool) -> None:
    assert codes(name, NOISE) == ([f"target_like_column:{name}"] if suspect else [])


def test_a_feature_that_is_constant_or_empty_is_no_finding() -> None:
    assert codes("flat", np.full(N, 3.0)) == []
    assert codes("empty", np.full(N, np.nan)) == []


def test_with_fewer_than_twenty_rows_of_a_class_nothing_is_said() -> None:
    y = np.zeros(N, dtype=np.int8)
    y[:19] = 1
    assert codes("leak", y.astype(float), y) == []
    y[19] = 1
    assert codes("leak", y.astype(float), y) == ["single_feature_predicts_label:leak"]


@given(seed=st.integers(0, 10_000), ties=st.booleans(), missing=st.floats(0, 0.5))
def test_the_area_is_scikit_learns(seed: int, ties: bool, missing: float) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=200)
    if ties:
        values = np.round(values)
    positive = generator.random(200) < 0.5
    values[generator.random(200) < missing] = np.nan
    by_value, _ = single_feature_auc(values, positive)
    there = np.isfinite(values)
    expected = roc_auc_score(positive[there], values[there])
    assert by_value == pytest.approx(max(expected, 1 - expected))


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    values, positive = np.arange(40) % 7.0, np.arange(40) % 2 == 1
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(values[positive], values[~positive])]
    share = sum(pairs) / len(pairs)
    assert single_feature_auc(values, positive)[0] == pytest.approx(max(share, 1 - share))


def test_the_correlation_is_scipys_spearman() -> None:
    values = RETURN + 0.2 * NOISE
    rho = spearmanr(values, RETURN).statistic
    words = [one.words for one in found("echo", values, policy=replace(POLICY, target_correlation=float(rho) - 1e-6))]
    assert f"feature echo moves like target_return: rank correlation {rho:+.3f} (bound {rho:.2f})" in words
    assert [
        one.code for one in found("echo", values, policy=replace(POLICY, target_correlation=float(rho) + 1e-6))
    ] == ["single_feature_predicts_label:echo"]


def looked_at(x: npt.NDArray[np.float32], y: npt.NDArray[np.int8], marks: npt.NDArray[np.uint32]) -> list[int]:
    return np.flatnonzero(rows_to_look_at(x, y, marks, on=np.ones(len(y), dtype=bool))).tolist()


def test_ten_thousand_rows_are_looked_at_and_no_order_of_rows_decides_which() -> None:
    rng = np.random.default_rng(3)
    n = 30_000
    x, y = rng.normal(size=(n, 2)).astype(np.float32), (np.arange(n) % 2).astype(np.int8)
    marks = rng.permutation(n).astype(np.uint32)
    kept = looked_at(x, y, marks)
    assert kept == np.flatnonzero(marks < MAX_ROWS).tolist()
    other = rng.permutation(n)
    assert sorted(other[looked_at(x[other], y[other], marks[other])].tolist()) == kept
    few = np.zeros(n, dtype=bool)
    few[:MAX_ROWS] = True
    assert (rows_to_look_at(x, y, marks, on=few) == few).all()


def test_a_rare_class_and_a_feature_that_few_names_have_are_looked_at_in_a_thousand_rows() -> None:
    rng = np.random.default_rng(4)
    n = 60_000
    x = np.full((n, 2), np.nan, dtype=np.float32)
    x[:, 0] = 1.0
    x[:1_200, 1] = 1.0
    y = (np.arange(n) >= n - 1_500).astype(np.int8)
    kept = looked_at(x, y, rng.permutation(n).astype(np.uint32))
    assert np.isfinite(x[kept, 1]).sum() >= LEAST_ROWS
    assert y[kept].sum() >= LEAST_ROWS


def scores(**metrics: float) -> list[str]:
    return [one.code for one in suspicious_scores(metrics, POLICY)]


def test_an_implausible_score_is_found_and_a_good_one_is_not() -> None:
    assert scores(accuracy=0.93, lift_over_majority=0.4, roc_auc=0.97) == ["too_good:accuracy", "too_good:roc_auc"]
    assert scores(accuracy=0.76, lift_over_majority=0.2, roc_auc=0.89) == []
    assert scores(accuracy=0.6) == []


def test_a_rare_label_is_no_finding_where_the_majority_class_alone_is_as_good() -> None:
    # 95 % majority: naming it errs 5 times of 100, the model 4 times.
    assert scores(accuracy=0.96, lift_over_majority=0.01) == []
    assert scores(accuracy=0.98, lift_over_majority=0.03) == ["too_good:accuracy"]


def split(accuracy: float, honest: float, majority: float) -> RandomSplit:
    return RandomSplit(
        accuracy=accuracy,
        roc_auc=None,
        later_accuracy=honest,
        later_roc_auc=None,
        honest_accuracy=honest,
        honest_roc_auc=None,
        majority_accuracy=majority,
    )


def test_a_random_split_far_above_dates_without_skill_is_found() -> None:
    (one,) = suspicious_gap(split(0.82, 0.50, 0.57), POLICY)
    assert one.code == "random_split_gap"
    assert "0.820, the held-out dates 0.500 where their majority class has 0.570" in one.words
    assert suspicious_gap(split(0.64, 0.50, 0.57), POLICY) == ()  # a gap of 0.14


def test_a_gap_beside_skill_is_no_finding() -> None:
    # Volatility on the sample: the labels overlap, and the dates after the training are predicted all the same.
    assert suspicious_gap(split(0.897, 0.645, 0.579), POLICY) == ()
