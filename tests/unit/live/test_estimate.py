"""Estimates before outcomes are known: nothing of the future, calibrated, and as wide as earlier errors say."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mlops.domain.live.day_score import DayScore, score_day
from mlops.domain.live.estimate import _fitted, check_estimates, estimate_performance

from .simulated import FIRST, simulated_days

HORIZON = 10


def turned(score: DayScore, seed: int) -> DayScore:
    """The same predictions with other outcomes."""
    rng = np.random.default_rng(seed)
    p = np.concatenate([np.full(cell.n, cell.probability / cell.n) for cell in score.cells])
    return score_day(p, rng.integers(0, 2, size=len(p)).astype(np.int8), np.ones(len(p), dtype=bool))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 199))
def test_an_estimate_knows_no_outcome_before_its_horizon_has_passed(seed: int, at: int) -> None:
    days = simulated_days(np.random.default_rng(7), n_days=200, horizon=HORIZON)
    as_of = FIRST + timedelta(days=at)
    first = as_of - timedelta(days=HORIZON - 1)
    others = {
        day: turned(score, seed) if day > as_of - timedelta(days=HORIZON) else score for day, score in days.items()
    }

    def estimates(of: dict[date, DayScore]) -> list[float]:
        found = estimate_performance(of, first=first, as_of=as_of, horizon_dates=HORIZON)
        return [number for one in found for number in (one.value, one.low, one.high, float(one.n_earlier))]

    assert estimates(others) == pytest.approx(estimates(days))


def test_an_outcome_that_became_known_moves_the_estimate() -> None:
    days = simulated_days(np.random.default_rng(7), n_days=200, horizon=HORIZON)
    as_of = FIRST + timedelta(days=150)
    others = {day: turned(score, 1) if day < FIRST + timedelta(days=130) else score for day, score in days.items()}
    first = as_of - timedelta(days=9)
    ours, theirs = (
        estimate_performance(of, first=first, as_of=as_of, horizon_dates=HORIZON)[0] for of in (days, others)
    )
    assert ours.value != pytest.approx(theirs.value)


def test_months_are_covered_as_often_as_is_said_though_their_rows_are_not_independent() -> None:
    rng = np.random.default_rng(4)
    checks = [
        check
        for _ in range(2)
        for check in check_estimates(
            simulated_days(rng, n_days=1_200, horizon=HORIZON, shared=0.9),
            as_of=FIRST + timedelta(days=1_199),
            horizon_dates=HORIZON,
        )
        if check.estimate.metric == "accuracy"
    ]
    covered = np.mean([check.is_covered for check in checks])
    assert len(checks) == 2 * 39  # whole months; the outcomes of the fortieth, of 14 days, are not all known
    # At least what is said: with few errors known, those that are assumed make it wider.
    assert covered >= 0.86


def test_an_overconfident_model_is_corrected_by_what_came() -> None:
    days = simulated_days(np.random.default_rng(9), n_days=800, horizon=HORIZON, shared=0.1, confidence=4.0)
    as_of = FIRST + timedelta(days=799)
    first = as_of - timedelta(days=19)
    found = estimate_performance(days, first=first, as_of=as_of, horizon_dates=HORIZON)[0]
    stated = np.concatenate(
        [np.full(c.n, c.probability / c.n) for day, score in days.items() if day >= first for c in score.cells]
    )
    # A quarter of the log odds that it states are true.
    true = 1 / (1 + ((1 - stated) / stated) ** 0.25)
    assert np.maximum(stated, 1 - stated).mean() > np.maximum(true, 1 - true).mean() + 0.15
    assert found.metric == "accuracy"
    assert found.value == pytest.approx(np.maximum(true, 1 - true).mean(), abs=0.03)


def test_without_any_outcome_the_estimate_is_the_confidence_and_its_interval_wide() -> None:
    days = simulated_days(np.random.default_rng(9), n_days=10, horizon=HORIZON)
    found = {
        one.metric: one
        for one in estimate_performance(days, first=FIRST, as_of=FIRST + timedelta(days=9), horizon_dates=HORIZON)
    }
    p = [(c.probability / c.n, c.n) for day in days.values() for c in day.cells]
    confidence = sum(max(one, 1 - one) * n for one, n in p) / 100
    assert found["accuracy"].value == pytest.approx(confidence)
    assert found["accuracy"].n_earlier == 0
    assert found["accuracy"].high - found["accuracy"].low > 0.4
    assert set(found) == {"accuracy", "roc_auc", "log_loss", "brier"}


def test_errors_that_came_out_large_widen_the_next_interval() -> None:
    calm = simulated_days(np.random.default_rng(3), n_days=600, horizon=HORIZON, shared=0.0, n_names=50)
    wild = simulated_days(np.random.default_rng(3), n_days=600, horizon=HORIZON, shared=0.9, n_names=50)
    as_of = FIRST + timedelta(days=599)
    widths = []
    for days in (calm, wild):
        found = estimate_performance(days, first=as_of - timedelta(days=9), as_of=as_of, horizon_dates=HORIZON)[0]
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


def test_the_recalibration_is_scikit_learns_logistic_regression_where_rows_are_many() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=400)
    n = np.full(400, 1_000.0)
    positive = rng.binomial(1_000, 1 / (1 + np.exp(-(0.3 + 0.5 * x)))).astype(float)
    oracle = LogisticRegression(C=1e12, tol=1e-10, max_iter=1_000).fit(
        np.concatenate([x, x])[:, None],
        np.concatenate([np.ones(400), np.zeros(400)]),
        sample_weight=np.concatenate([positive, n - positive]),
    )
    assert _fitted(x, n, positive) == pytest.approx((oracle.intercept_[0], oracle.coef_[0, 0]), abs=2e-4)


def test_no_day_has_no_estimate() -> None:
    assert estimate_performance({}, first=FIRST, as_of=FIRST, horizon_dates=HORIZON) == ()
    assert check_estimates({}, as_of=FIRST, horizon_dates=HORIZON) == ()
