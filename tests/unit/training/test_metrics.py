from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from mlops.domain.training.metrics import evaluate_classifier, majority_class_share, roc_auc

GENERATOR = np.random.default_rng(3)
Y = (GENERATOR.random(500) < 0.35).astype(np.int8)
P = np.clip(0.3 + 0.3 * Y + GENERATOR.normal(scale=0.25, size=500), 0, 1).round(2)  # rounded: ties


def test_metrics_agree_with_scikit_learn() -> None:
    found = evaluate_classifier(Y, P, train_positive_share=0.4).metrics
    called = P >= 0.5
    assert found["accuracy"] == pytest.approx(oracle.accuracy_score(Y, called))
    assert found["precision"] == pytest.approx(oracle.precision_score(Y, called))
    assert found["recall"] == pytest.approx(oracle.recall_score(Y, called))
    assert found["f1_score"] == pytest.approx(oracle.f1_score(Y, called))
    assert found["roc_auc"] == pytest.approx(oracle.roc_auc_score(Y, P))
    assert found["brier"] == pytest.approx(oracle.brier_score_loss(Y, P))
    assert found["log_loss"] == pytest.approx(oracle.log_loss(Y, P))


def test_float32_probabilities_give_the_same_log_loss_as_their_float64_values() -> None:
    p = np.array([0.0, 1.0, 0.25], dtype=np.float32)
    found = evaluate_classifier(np.array([0, 1, 1]), p, train_positive_share=0.5).metrics["log_loss"]
    assert found == pytest.approx(oracle.log_loss([0, 1, 1], p.astype(np.float64)))


def test_the_majority_is_that_of_training_scored_on_the_held_out_dates() -> None:
    y = np.array([1, 1, 0, 0, 0])
    found = evaluate_classifier(y, np.array([0.9, 0.9, 0.1, 0.1, 0.9]), train_positive_share=0.6).metrics
    assert found["majority_accuracy"] == pytest.approx(2 / 5)  # always 1
    assert found["holdout_majority_accuracy"] == pytest.approx(3 / 5)  # always 0, with hindsight
    assert found["lift_over_majority"] == pytest.approx(4 / 5 - 3 / 5)


def test_a_coin_has_no_lift_where_the_base_rate_turned() -> None:
    y = np.repeat([1, 0], [300, 700])
    coin = np.tile([0.4, 0.6], 500)
    found = evaluate_classifier(y, coin, train_positive_share=0.7).metrics
    assert found["accuracy"] == pytest.approx(0.5)
    assert found["majority_accuracy"] == pytest.approx(0.3)
    assert found["lift_over_majority"] < 0


def test_one_class_leaves_roc_auc_out_and_says_so() -> None:
    found = evaluate_classifier(np.ones(4), np.array([0.2, 0.8, 0.9, 0.6]), train_positive_share=0.5)
    assert "roc_auc" not in found.metrics
    assert found.notes == ("roc_auc is undefined: all 4 held-out labels are 1",)


def test_precision_without_a_positive_call_is_left_out_and_f1_is_zero() -> None:
    found = evaluate_classifier(np.array([1, 0]), np.array([0.1, 0.2]), train_positive_share=0.5)
    assert "precision" not in found.metrics
    assert found.metrics["recall"] == 0
    assert found.metrics["f1_score"] == 0  # 2 * 0 / (0 called + 1 positive)
    assert found.notes == ("precision is undefined: no row was called positive",)


def test_recall_without_a_positive_row_is_left_out() -> None:
    found = evaluate_classifier(np.array([0, 0]), np.array([0.1, 0.2]), train_positive_share=0.5)
    assert not {"recall", "precision", "f1_score", "roc_auc"} & found.metrics.keys()
    assert len(found.notes) == 4


def test_the_share_of_ones_is_the_majority_class_share() -> None:
    assert majority_class_share(np.array([0, 1, 1, 1])) == 0.75


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60))
def test_roc_auc_counts_pairs_and_ignores_a_monotone_transform(rows: list[tuple[bool, int]]) -> None:
    positive = np.array([row[0] for row in rows])
    score = np.array([row[1] for row in rows], dtype=np.float64)
    found = roc_auc(positive, score)
    pairs = [(a, b) for a in score[positive] for b in score[~positive]]
    if not pairs:
        assert found is None
        return
    assert found == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))
    assert found == pytest.approx(roc_auc(positive, np.exp(score)))


def test_the_counts_of_the_classes_are_those_of_the_confusion_matrix() -> None:
    y, p = np.array([1, 1, 1, 0, 0, 1]), np.array([0.9, 0.5, 0.1, 0.8, 0.2, 0.4])
    found = evaluate_classifier(y, p, train_positive_share=0.5).metrics
    (tn, fp), (fn, tp) = confusion_matrix(y, p >= 0.5)
    counts = [found[f"{name}s"] for name in ("true_negative", "false_positive", "false_negative", "true_positive")]
    assert counts == [tn, fp, fn, tp]
    assert (found["n_holdout_positive"], found["n_holdout_negative"]) == (4, 2)


# --------------------------------------------------------------------------- skill over a constant


def test_a_constant_at_the_base_rate_has_no_skill_and_no_range() -> None:
    y = np.array([1] * 21 + [0] * 4)
    found = evaluate_classifier(y, np.full(25, 0.84), train_positive_share=0.5).metrics
    for name in ("accuracy_skill", "log_loss_skill", "brier_skill"):
        assert found[name] == pytest.approx(0.0, abs=1e-12)
    assert found["prediction_range"] == 0.0


def test_skill_is_the_share_of_a_constants_loss_that_is_gone() -> None:
    # Two of each class. Constant: accuracy 1/2, Brier 1/4, log loss ln 2. Here one error, Brier (3 * .04 + .36) / 4 = .12.
    y, p = np.array([1, 1, 0, 0]), np.array([0.8, 0.8, 0.2, 0.6])
    found = evaluate_classifier(y, p, train_positive_share=0.5).metrics
    assert found["accuracy_skill"] == pytest.approx(1 - 0.25 / 0.5)
    assert found["brier_skill"] == pytest.approx(1 - 0.12 / 0.25)
    assert found["log_loss_skill"] == pytest.approx(1 + (3 * np.log(0.8) + np.log(0.4)) / 4 / np.log(2))
    assert found["prediction_range"] == pytest.approx(0.6)


def test_a_training_that_weighed_its_classes_is_held_to_a_constant_that_does() -> None:
    # 20 % positive, weight 4: both classes weigh alike, and the constant says 1/2.
    y = np.array([1, 0, 0, 0, 0])
    p = np.array([0.7, 0.3, 0.3, 0.3, 0.3])
    plain = evaluate_classifier(y, np.full(5, 0.5), train_positive_share=0.2).metrics
    assert plain["log_loss_skill"] < 0
    weighed = evaluate_classifier(y, np.full(5, 0.5), train_positive_share=0.2, positive_weight=4.0).metrics
    assert weighed["log_loss_skill"] == pytest.approx(0.0, abs=1e-12)
    skilled = evaluate_classifier(y, p, train_positive_share=0.2, positive_weight=4.0).metrics
    assert skilled["log_loss_skill"] == pytest.approx(1 - np.log(0.7) / np.log(0.5))


def test_where_one_class_alone_is_there_a_constant_is_perfect_and_no_skill_is_reported() -> None:
    found = evaluate_classifier(np.ones(4, dtype=int), np.full(4, 0.9), train_positive_share=0.5)
    assert not [name for name in found.metrics if name.endswith("_skill")]
    assert found.notes == ("roc_auc is undefined: all 4 held-out labels are 1",)
