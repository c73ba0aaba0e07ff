"""Which windows of a check are sampled, and what the report says of it."""

from __future__ import annotations

import math
from datetime import date, timedelta

import numpy as np
import pytest

from mlops.domain.ports import Window
from mlops.domain.sampling import plan_sampling, sampling_json

BORDER = date(2020, 6, 1)
HISTORY = Window(start=BORDER - timedelta(days=10), end=BORDER)
REFERENCE = Window(start=BORDER, end=BORDER + timedelta(days=4))
ROWS = {BORDER - timedelta(days=1): 5000, BORDER: 100, **{BORDER + timedelta(days=i): 10_000 for i in range(1, 5)}}
RATHER_EMPTY = BORDER + timedelta(days=2)


def test_no_window_is_sampled_up_to_the_limit_or_without_one() -> None:
    for limit in (40_000, None):
        planned = plan_sampling(ROWS, reference=REFERENCE, history=HISTORY, limit=limit, rows_per_date=48)
        assert (planned.reference, planned.history, planned.sample) == (None, None, None)
        assert sampling_json(planned, n_reference=40_000, n_history=5100) is None


def test_a_reference_above_the_limit_keeps_the_same_share_of_each_date() -> None:
    planned = plan_sampling(ROWS, reference=REFERENCE, history=HISTORY, limit=20_000, rows_per_date=48)
    assert planned.reference is not None
    assert planned.history is None
    assert set(planned.reference.shares.values()) == {0.5}
    assert planned.sample is not None
    assert planned.sample.limit(BORDER + timedelta(days=5)) == 2**31 - 1  # the current window is read whole


def test_a_history_above_the_limit_keeps_four_times_what_the_calibration_takes_of_a_date() -> None:
    planned = plan_sampling(ROWS, reference=REFERENCE, history=HISTORY, limit=5000, rows_per_date=48)
    assert planned.history is not None
    assert planned.history.shares == {BORDER - timedelta(days=1): 192 / 5000}


def test_the_report_states_the_rows_and_massarts_bound() -> None:
    planned = plan_sampling(ROWS, reference=REFERENCE, history=HISTORY, limit=20_000, rows_per_date=48)
    assert sampling_json(planned, n_reference=20_100, n_history=5100) == {
        "by": "hash of ticker and date",
        "reference": {"n_rows": 40_000, "n_kept": 20_100, "share": 20_100 / 40_000},
        "ks_error_bound": pytest.approx(math.sqrt(math.log(40) / (2 * 20_100))),
        "confidence": 0.95,
    }


def test_a_sampled_history_alone_moves_no_statistic_of_a_feature() -> None:
    rows = {**ROWS, BORDER: 90_000}
    planned = plan_sampling(rows, reference=REFERENCE, history=HISTORY, limit=50_000, rows_per_date=48)
    found = sampling_json(planned, n_reference=40_000, n_history=384)
    assert found is not None
    assert "reference" not in found
    assert found["history"] == {"n_rows": 95_000, "n_kept": 384, "share": 384 / 95_000}
    assert (found["ks_error_bound"], found["confidence"]) == (None, None)


def test_dates_that_are_spared_widen_the_bound_by_their_share() -> None:
    # A date of 150 rows is kept whole where the others keep a tenth: 135 rows too many in some 3,150.
    rows = {**ROWS, RATHER_EMPTY: 150}
    planned = plan_sampling(rows, reference=REFERENCE, history=HISTORY, limit=3015, rows_per_date=48)
    assert planned.reference is not None
    assert planned.reference.shares[RATHER_EMPTY] == 1.0
    assert planned.reference.extra_rows == pytest.approx(135)
    expected = math.sqrt(math.log(40) / (2 * (3150 - 135))) + 135 / 3150
    assert planned.reference.bound(3150) == pytest.approx(expected)


def test_dates_that_lost_their_rows_are_named() -> None:
    planned = plan_sampling(ROWS, reference=REFERENCE, history=HISTORY, limit=20_000, rows_per_date=48)
    days = [BORDER + timedelta(days=i) for i in (1, 3, 4)]
    read = np.repeat(np.array(days, dtype="datetime64[D]"), [5000, 47, 48])
    assert planned.short_dates(read, rows_per_date=48) == [RATHER_EMPTY, BORDER + timedelta(days=3)]
