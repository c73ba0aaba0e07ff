"""Metrics of a strategy's own: what they are given, and what becomes of one that does not work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops.domain.training.metric_names import form_fault
from mlops.domain.training.metrics import evaluate_custom

DATES = np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]")
Y = np.array([1, 0, 1, 0], dtype=np.int8)
P = np.array([0.9, 0.2, 0.4, 0.1])
RETURNS = np.array([0.1, -0.1, 0.2, 0.3])


def measured(returns: Any = RETURNS, **metrics: str) -> Any:
    functions = {name: f"{__name__}:{function}" for name, function in metrics.items()}
    return evaluate_custom(functions, dates=DATES, y=Y, probability=P, returns=returns)


def earned(dates: Any, y: Any, p: Any, returns: Any) -> float:
    return float(returns[p >= 0.5].sum())


def n_dates(dates: Any, y: Any, p: Any, returns: Any) -> int:
    return len(np.unique(dates))


def never(dates: Any, y: Any, p: Any, returns: Any) -> float:
    return float("nan")


def infinite(dates: Any, y: Any, p: Any, returns: Any) -> np.float32:
    return np.float32(np.inf)


def broken(dates: Any, y: Any, p: Any, returns: Any) -> float:
    raise KeyError("beta")


def text(dates: Any, y: Any, p: Any, returns: Any) -> str:
    return "good"


def greedy(dates: Any, y: Any, p: Any, returns: Any) -> float:
    y[:] = 1
    returns[:] = 9.0
    return 0.0


NOT_A_FUNCTION = 3


def test_a_metric_is_given_the_rows_and_its_value_is_kept() -> None:
    found = measured(earned="earned", n_dates="n_dates")
    assert found.metrics == {"earned": pytest.approx(0.1), "n_dates": 4.0}
    assert found.notes == ()


def test_without_returns_they_are_all_missing() -> None:
    found = measured(None, earned="earned")
    assert found.notes == (f"earned is left out: {__name__}:earned gave no finite number for 4 rows",)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("never", "gave no finite number"),
        ("infinite", "gave no finite number"),
        ("broken", "raised KeyError: 'beta'"),
        ("text", "raised ValueError"),
        ("absent", "cannot be imported (AttributeError"),
        ("NOT_A_FUNCTION", "is no function but int"),
    ],
)
def test_a_metric_that_cannot_be_had_is_left_out_with_the_reason_and_the_others_stay(function: str, why: str) -> None:
    found = measured(bad=function, n_dates="n_dates")
    assert found.metrics == {"n_dates": 4.0}
    (note,) = found.notes
    assert note.startswith("bad is left out: ")
    assert why in note


def test_a_package_that_is_not_installed_is_named() -> None:
    found = evaluate_custom({"own": "no_such_package.here:f"}, dates=DATES, y=Y, probability=P, returns=None)
    (note,) = found.notes
    assert "own: no_such_package.here:f cannot be imported (ModuleNotFoundError: " in note
    assert note.endswith("install it, or mend it")


def test_a_metric_cannot_change_what_the_others_see() -> None:
    found = measured(greedy="greedy", earned="earned")
    assert found.metrics["earned"] == pytest.approx(0.1)
    assert Y.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("name", "function", "fault"),
    [
        ("accuracy", "desk.metrics:hit_rate", "is a metric of the system's own"),
        ("fold_accuracy_mean", "desk.metrics:hit_rate", "is a metric of the system's own"),
        ("Hit Rate", "desk.metrics:hit_rate", "is no metric name"),
        ("hit_rate", "desk.metrics.hit_rate", "names no function; write package.module:function"),
        ("hit_rate", "desk metrics:hit", "names no function"),
        ("hit_rate", "__import__('os'):system", "names no function"),
    ],
)
def test_the_form_is_checked_before_anything_is_imported(name: str, function: str, fault: str) -> None:
    assert fault in form_fault(name, function)


def test_a_well_formed_entry_has_no_fault() -> None:
    assert form_fault("hit_rate", "desk.metrics:hit_rate") == ""
