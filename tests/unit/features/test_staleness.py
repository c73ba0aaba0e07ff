from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.report import DriftReport
from mlops.domain.frame import FeatureFrame, feature_frame
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.windows import drift_windows

THURSDAY = date(2020, 4, 9)
"""Before Easter: the next session was Monday, in some markets Tuesday."""


def _frame(newest: date) -> FeatureFrame:
    days = [newest - timedelta(days=back) for back in range(3)]
    return feature_frame(pa.table({"ticker": ["A"] * 3, "date": pa.array(days), "x": [1.0, 2.0, 3.0]}), ["x"])


def _check(newest: date, as_of: date) -> DriftReport:
    reference, current = drift_windows(as_of, DataPolicy())
    return detect_drift(
        _frame(newest - timedelta(days=10)),
        _frame(newest),
        DriftPolicy(rule="raw"),
        strategy="growth",
        as_of=as_of,
        reference_window=reference,
        current_window=current,
        timestamp=datetime(2020, 4, 20, tzinfo=UTC),
    )


def test_a_frame_knows_its_newest_date() -> None:
    assert _frame(THURSDAY).newest_date == THURSDAY
    assert FeatureFrame(n_rows=0, numbers={}, categories={}).newest_date is None


@pytest.mark.parametrize("pause_days", [0, 1, 4])
def test_a_long_weekend_is_no_finding(pause_days: int) -> None:
    report = _check(THURSDAY, THURSDAY + timedelta(days=pause_days))
    assert "stale" not in {finding.code for finding in report.findings}


def test_rows_that_have_stopped_coming_are_a_finding_with_their_date() -> None:
    report = _check(THURSDAY, THURSDAY + timedelta(days=5))
    stale = [finding for finding in report.findings if finding.code == "stale"]
    assert [finding.message for finding in stale] == ["the newest row is of 2020-04-09, 5 days before 2020-04-14"]
    assert not stale[0].is_drift
