"""Performance over days: the numbers beside scikit-learn, and intervals that hold where days and names depend."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score

from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.performance import measure_performance
from mlops.domain.live.resampling import OutcomesByDay, Resamples, accuracy
from mlops.domain.training.trading import max_drawdown, sharpe_ratio

from .simulated import FIRST, TRUE_ACCURACY, simulated_days


def marked_days(marks: list[list[float]]) -> dict[date, DayScore]:
    """Days on which every name is called positive."""
    return {
        FIRST + timedelta(days=i): score_day(
            np.full(len(returns), 0.9),
            np.ones(len(returns), dtype=np.int8),
            np.ones(len(returns), dtype=bool),
            np.array(returns),
            is_long=True,
        )
        for i, returns in enumerate(marks)
    }


def test_the_metrics_of_all_days_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    p, y = rng.uniform(size=(60, 8)), rng.integers(0, 2, size=(60, 8)).astype(np.int8)
    days = {FIRST + timedelta(days=i): score_day(p[i], y[i], np.ones(8, dtype=bool)) for i in range(60)}
    found = measure_performance(days, horizon_dates=5)
    pooled_p, pooled_y = p.ravel(), y.ravel()
    assert found.accuracy is not None
    assert found.accuracy.value == pytest.approx(accuracy_score(pooled_y, pooled_p >= 0.5))
    assert found.log_loss is not None
    assert found.log_loss.value == pytest.approx(log_loss(pooled_y, pooled_p))
    assert found.brier is not None
    assert found.brier.value == pytest.approx(brier_score_loss(pooled_y, pooled_p))
    assert found.roc_auc is not None
    assert found.roc_auc.value == pytest.approx(roc_auc_score(pooled_y, pooled_p), abs=2e-4)
    assert found.calibration_bias is not None
    assert found.calibration_bias.value == pytest.approx(float(pooled_p.mean() - pooled_y.mean()))
    for one in (found.accuracy, found.log_loss, found.brier, found.roc_auc, found.calibration_bias):
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high


@pytest.mark.parametrize("n_names", [20, 3_000])
@pytest.mark.parametrize("centre", [0.5, 0.13])
@pytest.mark.parametrize("spread", [0.0005, 0.002, 0.05])
def test_the_auc_of_a_model_with_narrow_probabilities_is_that_of_its_rows(
    spread: float, centre: float, n_names: int
) -> None:
    rng = np.random.default_rng(12)
    y = rng.integers(0, 2, size=(40, n_names)).astype(np.int8)
    p = centre + spread * (rng.normal(size=y.shape) + 0.35 * y + rng.normal(size=(40, 1)))
    known = np.ones(n_names, dtype=bool)
    days = {FIRST + timedelta(days=i): score_day(p[i], y[i], known) for i in range(40)}
    found = measure_performance(days, horizon_dates=5)
    assert found.roc_auc is not None
    assert found.roc_auc.value == pytest.approx(roc_auc_score(y.ravel(), p.ravel()), abs=5e-4)
    # What came to a day's score through the ledger is as good.
    kept = {day: DayScore.from_json(score.to_json()) for day, score in days.items()}
    assert measure_performance(kept, horizon_dates=5).roc_auc == pytest.approx(found.roc_auc, abs=1e-6)


def test_the_interval_covers_though_names_share_shocks_and_labels_overlap() -> None:
    rng = np.random.default_rng(11)
    covered = covered_by_rows = 0
    for _ in range(80):
        days = simulated_days(rng, n_days=200, horizon=10)
        outcomes = OutcomesByDay.of([days[day] for day in sorted(days)])
        sample = Resamples.of(outcomes, horizon_dates=10)
        found = sample.measured(lambda counts, outcomes=outcomes: accuracy(outcomes, counts), 0.0, 1.0)  # type: ignore[misc]
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= TRUE_ACCURACY <= found.high
        half = 1.645 * math.sqrt(found.value * (1 - found.value) / float(outcomes.n.sum()))
        covered_by_rows += abs(found.value - TRUE_ACCURACY) <= half
    # 90 % promised; of 80, two standard errors are 7 points. Rows that were independent would cover far less.
    assert 0.83 <= covered / 80 <= 0.98
    assert covered_by_rows / 80 < 0.7


def test_a_calibrated_model_is_seen_as_such_and_an_overconfident_one_is_not() -> None:
    honest = measure_performance(simulated_days(np.random.default_rng(2), n_days=400, horizon=5), horizon_dates=5)
    loud = measure_performance(
        simulated_days(np.random.default_rng(2), n_days=400, horizon=5, confidence=3.0), horizon_dates=5
    )
    assert honest.calibration_error is not None
    assert loud.calibration_error is not None
    assert honest.calibration_error.low == 0.0
    assert loud.calibration_error.low is not None
    assert loud.calibration_error.low > 0.08
    assert len(loud.calibration) == 10
    assert sum(point.n for point in loud.calibration) == loud.n_labelled
    assert [point.probability for point in loud.calibration] == sorted(point.probability for point in loud.calibration)
    assert loud.calibration[0].share > loud.calibration[0].probability
    assert loud.calibration[-1].share < loud.calibration[-1].probability


def test_what_waits_is_counted_and_no_part_of_the_metrics() -> None:
    days = simulated_days(np.random.default_rng(1), n_days=50)
    waiting = FIRST + timedelta(days=60)
    days[waiting] = score_day(np.array([0.9] * 7), np.zeros(7, dtype=np.int8), np.zeros(7, dtype=bool))
    found = measure_performance(days, horizon_dates=20)
    assert (found.n_waiting, found.n_labelled, found.n_predictions, found.n_days) == (7, 500, 507, 50)
    assert found.last == FIRST + timedelta(days=49)


def test_fewer_than_two_horizons_have_numbers_and_no_interval() -> None:
    found = measure_performance(simulated_days(np.random.default_rng(1), n_days=39), horizon_dates=20)
    assert found.accuracy is not None
    assert (found.accuracy.low, found.accuracy.high) == (None, None)
    assert found.notes == ("no intervals: 39 days with outcomes are fewer than 2 blocks of 20",)


def test_no_day_has_no_number() -> None:
    found = measure_performance({}, horizon_dates=20)
    assert (found.accuracy, found.roc_auc, found.calibration, found.signal, found.first) == (None, None, (), None, None)


def test_the_signal_is_marked_day_by_day() -> None:
    rng = np.random.default_rng(8)
    returns = rng.normal(0.001, 0.01, size=(60, 4))
    found = measure_performance(marked_days(returns.tolist()), horizon_dates=20).signal
    assert found is not None
    marks = returns.mean(axis=1)
    assert found.wealth[-1] == pytest.approx(float(np.prod(1 + marks)))
    assert found.total.value == pytest.approx(found.wealth[-1] - 1)
    assert found.total == found.total_of_all
    assert found.sharpe_ratio is not None
    assert found.sharpe_ratio.value == pytest.approx(sharpe_ratio(marks, periods_per_year=252))
    assert found.max_drawdown.value == pytest.approx(max_drawdown(marks))
    assert found.win_rate is not None
    assert found.win_rate.value == pytest.approx(float((returns > 0).mean()))
    for one in (found.total, found.sharpe_ratio, found.win_rate):
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high


def test_a_few_marks_have_no_interval() -> None:
    found = measure_performance(marked_days([[0.01]] * 4), horizon_dates=20).signal
    assert found is not None
    assert found.total.value == pytest.approx(1.01**4 - 1)
    assert found.total.low is None
    assert found.sharpe_ratio is None
