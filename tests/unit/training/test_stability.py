"""The stability table: scores by fold, their mean and spread."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from mlops.domain.errors import SingleClass
from mlops.domain.training.checks import score_folds, summarise
from mlops.domain.training.fold_table import fold_rows, folds_csv
from mlops.domain.training.splits import Fold, walk_forward

GENERATOR = np.random.default_rng(11)
DATES = np.repeat(np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]"), 4)  # 60 dates of 4 rows
Y = GENERATOR.integers(0, 2, size=240).astype(np.int8)
P = GENERATOR.random(240)
FOLDS = walk_forward(DATES, np.ones(240, bool), n_folds=3, horizon_dates=5)


def test_each_line_is_what_scikit_learn_says_of_the_folds_rows() -> None:
    scores = score_folds(FOLDS, Y, lambda fold: P[fold.test])
    for fold, score in zip(FOLDS, scores, strict=True):
        y, p = Y[fold.test], P[fold.test]
        assert score.accuracy == pytest.approx(accuracy_score(y, p >= 0.5))
        assert score.roc_auc == pytest.approx(roc_auc_score(y, p))
        assert score.log_loss == pytest.approx(log_loss(y, p))
        assert score.majority_accuracy == pytest.approx(max(y.mean(), 1 - y.mean()))
        assert (score.n_train, score.n_test) == (fold.n_train_dates * 4, fold.n_test_dates * 4)
        assert (score.train_end, score.test_start) == (fold.last_train.isoformat(), fold.first_test.isoformat())


def test_mean_and_spread_are_over_the_folds() -> None:
    scores = score_folds(FOLDS, Y, lambda fold: P[fold.test])
    found = summarise(scores)
    values = [score.accuracy for score in scores if score.accuracy is not None]
    assert found["fold_count"] == 3
    assert found["fold_accuracy_mean"] == pytest.approx(sum(values) / 3)
    assert found["fold_accuracy_std"] == pytest.approx(np.std(values, ddof=1))
    assert set(found) == {"fold_count"} | {
        f"fold_{name}_{part}" for name in ("accuracy", "majority_accuracy", "roc_auc", "log_loss") for part in ("mean", "std")
    }  # fmt: skip


def test_a_fold_that_cannot_be_trained_is_a_note_and_the_others_count() -> None:
    def predict(fold: Fold) -> np.ndarray:
        if fold.number == 1:
            raise SingleClass("all labels are 1")
        return P[fold.test]

    scores = score_folds(FOLDS, Y, predict)
    assert (scores[0].accuracy, scores[0].note) == (None, "all labels are 1")
    assert summarise(scores)["fold_count"] == 2
    assert fold_rows(scores)[1][4:] == ("-", "-", "-", "-")


def test_one_fold_has_no_spread_and_none_has_nothing() -> None:
    assert "fold_accuracy_std" not in summarise(score_folds(FOLDS[:1], Y, lambda fold: P[fold.test]))
    assert summarise(()) == {}


def test_a_fold_of_one_class_has_no_area() -> None:
    (score,) = score_folds(FOLDS[:1], np.ones(240, np.int8), lambda fold: P[fold.test])
    assert score.roc_auc is None
    assert score.majority_accuracy == 1.0


def test_the_csv_has_a_line_per_fold() -> None:
    scores = score_folds(FOLDS, Y, lambda fold: P[fold.test])
    rows = list(csv.DictReader(folds_csv(scores).splitlines()))
    assert [row["fold"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["accuracy"]) == scores[1].accuracy
