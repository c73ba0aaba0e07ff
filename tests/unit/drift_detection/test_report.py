"""The report's JSON has the documented keys and is strict."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from mlops.domain.policies import DriftPolicy
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, check, frame, noise


def report_json(policy: DriftPolicy | None = None) -> dict[str, Any]:
    reference = frame(
        calm=noise(N_REFERENCE),
        moved=noise(N_REFERENCE, seed=2),
        empty=np.full(N_REFERENCE, np.nan),
        odd=np.append(noise(N_REFERENCE - 2), [np.inf, 1e308]),
        sector=np.array(["tech", "food"] * (N_REFERENCE // 2), dtype=object),
    )
    current = frame(
        calm=noise(N_CURRENT, seed=3),
        moved=noise(N_CURRENT, seed=4, shift=2.0),
        empty=np.full(N_CURRENT, np.nan),
        odd=np.append(noise(N_CURRENT - 2, seed=5), [-np.inf, -1e308]),
        sector=np.array(["tech", None] * (N_CURRENT // 2), dtype=object),
    )
    return check(reference, current, policy).to_json()


def test_it_has_the_documented_keys_and_the_added_ones() -> None:
    assert list(report_json()) == [
        "timestamp", "n_features", "n_samples_reference", "n_samples_current", "drift_threshold", "summary", "ks_test",
        "psi", "distances", "verdict", "calibration", "champion_reference", "feature_alarms", "correlation_alarm",
        "findings", "feature_statistics", "distributions", "windows", "data",
    ]  # fmt: skip


def test_its_summary_counts_the_features() -> None:
    content = report_json()
    assert (content["n_features"], content["n_samples_reference"], content["n_samples_current"]) == (5, 1_000, 200)
    assert content["summary"] == {
        # moved and sector; calm and odd have not, and empty holds nothing that could: 2 / 4
        "drifted_features_ks": 2,
        "drifted_features_psi": 2,
        "drift_detected": True,
        "drift_ratio": 0.5,
        "alert_threshold": 0.3,
    }
    assert content["drift_threshold"] == 0.05


def test_it_is_strict_json_whatever_the_features_hold() -> None:
    content = report_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content


def test_an_undefined_statistic_is_null_and_its_finding_says_why() -> None:
    content = report_json()
    assert content["psi"]["empty"] == {"psi_value": None, "drifted": False, "band": "undefined"}
    assert content["ks_test"]["empty"] == {"statistic": None, "p_value": None, "drifted": False}
    assert {"code": "all_missing", "column": "empty", "message": "empty: no value at all in both windows", "is_drift": False} in content["findings"]  # fmt: skip


def test_each_feature_has_its_statistics_per_window() -> None:
    content = report_json()
    moved = content["feature_statistics"]["moved"]
    assert moved["reference"]["n"] == 1_000
    assert moved["current"]["mean"] == pytest.approx(float(noise(N_CURRENT, seed=4, shift=2.0).mean()))
    assert list(moved["current"]["quantiles"]) == ["0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"]
    assert content["feature_statistics"]["sector"] == {"reference": None, "current": None}


def test_its_dates_are_those_of_the_windows_and_its_time_has_a_zone() -> None:
    content = report_json()
    assert content["windows"] == {
        "as_of": "2020-03-20",
        "reference": {"after": "2019-12-14", "to": "2020-03-13"},
        "current": {"after": "2020-03-13", "to": "2020-03-20"},
        "current_dates": None,  # rows without dates and tickers
        "current_names": None,
        "stretched_from_days": None,
    }
    assert datetime.fromisoformat(content["timestamp"]).tzinfo is not None


def test_the_verdict_shows_the_rule_and_its_raw_share() -> None:
    content = report_json(DriftPolicy(rule="raw", alert_share=0.6))
    assert content["verdict"]["verdict"] == "stable"
    assert content["verdict"]["rule"] == "raw"
    raw = content["verdict"]["raw"]
    assert (raw["verdict"], raw["share"], raw["alert_share"]) == ("stable", 0.5, 0.6)
    assert content["summary"]["drift_detected"] is False


@pytest.mark.parametrize(
    ("moderate", "significant", "band", "drifted"),
    [(9.0, 10.0, "none", False), (1e-6, 10.0, "moderate", False), (1e-7, 1e-6, "significant", True)],
)
def test_the_band_follows_the_policys_thresholds(moderate: float, significant: float, band: str, drifted: bool) -> None:
    content = report_json(DriftPolicy(rule="raw", psi_moderate=moderate, psi_significant=significant))
    assert content["psi"]["moved"]["band"] == band
    assert content["psi"]["moved"]["drifted"] is drifted


def test_a_threshold_itself_belongs_to_the_higher_band() -> None:
    psi = report_json()["psi"]["moved"]["psi_value"]
    at_it = report_json(DriftPolicy(rule="raw", psi_significant=psi))["psi"]["moved"]
    assert (at_it["band"], at_it["drifted"]) == ("significant", True)
    assert (
        report_json(DriftPolicy(rule="raw", psi_moderate=psi, psi_significant=psi * 2))["psi"]["moved"]["band"]
        == "moderate"
    )
