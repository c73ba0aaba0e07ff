"""Two versions beside each other as rows."""

from __future__ import annotations

import pytest

from admin.routes.comparison import MOST_FEATURES, importance_rows, metric_rows, param_rows


@pytest.mark.parametrize(
    ("name", "first", "second", "better"),
    [
        ("roc_auc", 0.7, 0.8, "second"),
        ("roc_auc", 0.8, 0.7, "first"),
        ("log_loss", 0.6, 0.5, "second"),
        ("max_drawdown", 0.1, 0.2, "first"),
        ("roc_auc", 0.7, 0.7, ""),
        ("n_holdout", 100.0, 200.0, ""),
        ("majority_accuracy", 0.5, 0.6, ""),
        ("my_own", 0.5, 0.6, ""),
    ],
)
def test_which_is_better_is_said_where_a_direction_is(name: str, first: float, second: float, better: str) -> None:
    (row,) = metric_rows({name: first}, {name: second})
    assert row.better == better
    assert row.difference == pytest.approx(second - first)


def test_a_metric_that_one_lacks_is_shown_without_a_difference() -> None:
    (row,) = metric_rows({}, {"roc_auc": 0.7})
    assert (row.first, row.second, row.difference, row.better) == (None, 0.7, None, "")


def test_the_usual_metrics_come_first_and_counts_last_as_whole_numbers() -> None:
    rows = metric_rows({"n_holdout": 8.0, "zeta": 1.0, "accuracy": 0.5, "brier": 0.2, "roc_auc": 0.5}, {})
    assert [(row.name, row.digits) for row in rows] == [
        ("accuracy", 4),
        ("roc_auc", 4),
        ("brier", 4),
        ("zeta", 4),
        ("n_holdout", 0),
    ]


def test_parameters_that_differ_are_apart_from_those_that_are_equal() -> None:
    different, equal = param_rows({"seed": "1", "depth": "3", "old": "x"}, {"seed": 1, "depth": 4})
    assert [(row.name, row.first, row.second) for row in different] == [("depth", "3", "4"), ("old", "x", None)]
    assert [row.name for row in equal] == ["seed"]


def test_features_are_ordered_by_what_they_matter_to_either() -> None:
    rows = importance_rows({"a": 0.1, "b": 0.6}, {"a": 0.9, "c": 0.3})
    assert [(row.name, row.first, row.second) for row in rows] == [("a", 0.1, 0.9), ("b", 0.6, None), ("c", None, 0.3)]
    many = {f"f{number}": number / 100 for number in range(MOST_FEATURES + 5)}
    assert len(importance_rows(many, {})) == MOST_FEATURES
