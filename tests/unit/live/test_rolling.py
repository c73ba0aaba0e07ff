"""A metric of the newest dates, beside scikit-learn on the same rows."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.performance import measure_performance
from mlops.domain.live.rolling import LiveMetric, measure_metric, measured_windows, rolling_metric

FIRST = date(2026, 1, 1)
N_DAYS, N_NAMES = 50, 30


def panel() -> tuple[np.ndarray, np.ndarray, dict[date, DayScore]]:
    """Probabilities at the middles of the cells, so that no pair is a tie that is none; (days, names) each."""
    generator = np.random.default_rng(4)
    p = (generator.integers(0, 128, size=(N_DAYS, N_NAMES)) + 0.5) / 128
    y = (generator.uniform(size=p.shape) < p).astype(np.int8)
    known = np.full(N_NAMES, True)
    return p, y, {FIRST + timedelta(days=n): score_day(p[n], y[n], known) for n in range(N_DAYS)}


@pytest.mark.parametrize(
    ("metric", "oracle"),
    [
        ("accuracy", lambda y, p: accuracy_score(y, p >= 0.5)),
        ("roc_auc", roc_auc_score),
        ("log_loss", log_loss),
        ("brier", brier_score_loss),
    ],
)
def test_each_window_has_the_metric_of_its_rows(metric: LiveMetric, oracle: object) -> None:
    p, y, days = panel()
    found = rolling_metric(days, metric, window=20, least=5)
    assert [point.n_days for point in found] == [*range(5, 20), *[20] * (N_DAYS - 19)]
    for point in found:
        end = (point.day - FIRST).days + 1
        rows = slice(max(0, end - 20), end)
        assert point.value == pytest.approx(oracle(y[rows].ravel(), p[rows].ravel()), abs=1e-9)  # type: ignore[operator]


def test_days_without_an_outcome_are_no_part_of_a_window() -> None:
    p, y, days = panel()
    waiting = score_day(p[0], y[0], np.full(N_NAMES, False))
    between = {FIRST + timedelta(days=2): waiting, FIRST + timedelta(days=49): waiting}
    found = rolling_metric({**days, **between}, "accuracy", window=20)
    assert len(found) == N_DAYS - 2 - 4
    assert found[0].day == FIRST + timedelta(days=5)


def test_too_few_days_make_no_curve_and_one_class_has_no_auc() -> None:
    _, _, days = panel()
    few = dict(list(days.items())[:4])
    assert rolling_metric(few, "accuracy", window=20) == ()
    sure = {day: score_day(np.full(3, 0.7), np.ones(3, np.int8), np.full(3, True)) for day in days}
    assert {point.value for point in rolling_metric(sure, "roc_auc", window=20)} == {None}
    assert measured_windows(sure, "roc_auc", window=40, step=10, least=20, horizon_dates=5) == ()


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "brier"])
def test_one_metric_alone_is_that_of_the_whole_performance(metric: LiveMetric) -> None:
    _, _, days = panel()
    assert measure_metric(days, metric, horizon_dates=5) == getattr(measure_performance(days, horizon_dates=5), metric)
    assert measure_metric({}, metric, horizon_dates=5) is None


def test_measured_windows_end_with_the_newest_day_and_have_intervals() -> None:
    _, _, days = panel()
    found = measured_windows(days, "roc_auc", window=40, step=15, least=20, horizon_dates=5)
    assert [(point.day - FIRST).days for point in found] == [19, 34, 49]
    assert [point.n_days for point in found] == [20, 35, 40]
    assert all(point.low < point.value < point.high for point in found if point.low and point.high and point.value)
