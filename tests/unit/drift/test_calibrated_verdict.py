"""Both rules, and why they differ."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest

from mlops.domain.drift.calibration import calibrate
from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.report import DriftReport
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DataPolicy, DriftPolicy
from mlops.domain.windows import calibration_window, drift_windows

AS_OF = date(2020, 6, 30)
REFERENCE, CURRENT = drift_windows(AS_OF, DataPolicy())
HISTORY = calibration_window(REFERENCE, 730)


def report(
    *, shift: float = 0.0, swing: float = 0.0, policy: DriftPolicy | None = None, history: bool = True
) -> DriftReport:
    """40 rows a day of two features; `swing`: size of a common move that all rows of a date share."""
    rng = np.random.default_rng(1)
    days = np.arange(np.datetime64(HISTORY.start) + 1, np.datetime64(AS_OF) + 1)
    # A slow wave: a month's rows lie together, and the next month's elsewhere.
    common = swing * np.sin(np.arange(len(days)) / 9)
    values = {name: common[:, None] + rng.normal(size=(len(days), 40)) for name in ("a", "b")}
    for column in values.values():
        column[-7:] += shift
    frames = []
    for window in (HISTORY, REFERENCE, CURRENT):
        inside = (days > np.datetime64(window.start)) & (days <= np.datetime64(window.end))
        frames.append(
            FeatureFrame(
                n_rows=int(inside.sum()) * 40,
                numbers={name: np.ascontiguousarray(column[inside].ravel()) for name, column in values.items()},
                categories={},
                dates=np.repeat(days[inside], 40),
            )
        )
    return detect_drift(
        frames[1],
        frames[2],
        policy or DriftPolicy(),
        strategy="growth",
        as_of=AS_OF,
        reference_window=REFERENCE,
        current_window=CURRENT,
        timestamp=datetime(2020, 7, 1, tzinfo=UTC),
        history=frames[0] if history else None,
    )


def test_both_rules_see_a_plain_shift() -> None:
    found = report(shift=1.0)
    assert (found.raw.verdict, found.calibrated.verdict, found.verdict) == ("drifted", "drifted", "drifted")
    assert found.to_json()["verdict"]["difference"] is None


def test_a_move_that_is_usual_is_drift_for_the_raw_rule_alone() -> None:
    found = report(swing=2.0)
    assert (found.raw.verdict, found.calibrated.verdict) == ("drifted", "stable")
    assert not found.drifted
    said = found.to_json()["verdict"]["difference"]
    assert "raw rule says drifted, the calibrated one stable" in said
    assert "so large a shift is usual here (p " in said
    assert ", above 0.05); 100% of the features moved by PSI" in said
    assert "drifted by PSI" not in said


def test_the_raw_rule_in_force_gives_the_guides_decision() -> None:
    found = report(swing=2.0, policy=DriftPolicy(rule="raw"))
    assert found.drifted
    assert found.to_json()["summary"]["drift_detected"] is True
    assert found.to_json()["verdict"]["calibrated"]["verdict"] == "stable"


def test_a_shift_below_the_alert_share_is_stable_however_rare() -> None:
    found = report(shift=0.2)
    assert found.calibration.is_extreme
    assert found.verdict == "stable"
    assert "below the alert threshold" in found.reason


def test_without_history_the_verdict_is_insufficient_and_says_what_to_load() -> None:
    found = report(shift=1.0, history=False)
    assert found.verdict == "insufficient"
    assert "load 365 days of history, or use rule raw" in found.reason
    assert found.to_json()["verdict"]["raw"]["verdict"] == "drifted"
    assert found.to_json()["summary"]["drift_detected"] is False


def test_the_report_is_strict_json_with_what_p_rests_on() -> None:
    document = json.loads(json.dumps(report(shift=1.0).to_json(), allow_nan=False))
    calibration = document["calibration"]
    assert calibration["n_placements"] == 730 - 90 - 7 + 1
    assert calibration["n_blocks"] == calibration["n_placements"] // 7
    assert calibration["p_value"] == pytest.approx(1 / (1 + calibration["n_placements"]))
    assert calibration["smallest_detectable_shift"] == calibration["critical"] > 0
    assert len(calibration["placements"]["statistics"]) == calibration["n_placements"]
    assert calibration["distances"].keys() == {"a", "b"}


def test_a_shift_of_every_feature_by_one_spread_has_a_statistic_of_about_one() -> None:
    assert report(shift=1.0).calibration.statistic == pytest.approx(1.0, abs=0.15)


def test_rows_without_dates_say_so() -> None:
    frame = FeatureFrame(n_rows=1, numbers={"a": np.ones(1)}, categories={})
    assert "no dates" in (calibrate(frame, frame, replace(frame), reference_start=AS_OF).missing or "")
