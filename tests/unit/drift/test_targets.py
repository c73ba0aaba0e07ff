"""Drift of what is predicted."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from scipy.stats import ks_2samp

from mlops.domain.drift.outputs import target_drift
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.ports import Window

DATES = np.repeat(np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-07-01")), 20)


def returns() -> np.ndarray:
    values = np.random.default_rng(0).normal(size=len(DATES))
    values[np.datetime64("2020-06-10") < DATES] = np.nan  # the 20 newest dates are not known yet
    return values


def test_its_windows_end_where_it_is_known() -> None:
    found = target_drift({"target_return": returns()}, DATES, horizon_dates=20, data=DataPolicy(), drift=DriftPolicy())[
        "target_return"
    ]
    assert found.current_window == Window(start=date(2020, 6, 3), end=date(2020, 6, 10))
    assert found.reference_window == Window(start=date(2020, 3, 5), end=date(2020, 6, 3))
    assert (found.n_reference, found.n_current) == (90 * 20, 7 * 20)


def test_its_statistics_are_those_of_a_feature() -> None:
    values = returns()
    values[(np.datetime64("2020-06-03") < DATES) & ~np.isnan(values)] += 1
    found = target_drift({"y": values}, DATES, horizon_dates=20, data=DataPolicy(), drift=DriftPolicy())["y"]
    current = values[(np.datetime64("2020-06-03") < DATES) & (np.datetime64("2020-06-10") >= DATES)]
    reference = values[(np.datetime64("2020-03-05") < DATES) & (np.datetime64("2020-06-03") >= DATES)]
    assert found.statistics.ks_p == pytest.approx(ks_2samp(reference, current, method="asymp").pvalue, rel=1e-9)
    assert found.statistics.drifted_psi
    assert found.statistics.wasserstein == pytest.approx(1, abs=0.25)


def test_a_target_that_is_never_known_is_left_out() -> None:
    assert (
        target_drift(
            {"y": np.full(len(DATES), np.nan)}, DATES, horizon_dates=20, data=DataPolicy(), drift=DriftPolicy()
        )
        == {}
    )


def test_a_replay_sees_no_value_that_was_not_known_on_its_day() -> None:
    known_today = np.random.default_rng(1).normal(size=len(DATES))
    found = target_drift({"y": known_today}, DATES, horizon_dates=20, data=DataPolicy(), drift=DriftPolicy())["y"]
    # The rows end on 30 June; 20 dates back, the newest known value is of the 10th.
    assert found.current_window.end == date(2020, 6, 10)
    assert target_drift({"y": known_today}, DATES, horizon_dates=500, data=DataPolicy(), drift=DriftPolicy()) == {}
