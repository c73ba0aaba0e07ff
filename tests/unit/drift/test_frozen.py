"""A check against a profile says what a check against the profile's rows would."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats import ks_2samp

from mlops.domain.drift.detect import detect_drift
from mlops.domain.drift.references.frozen import detect_drift_from_profile
from mlops.domain.drift.references.training_profile import GRID
from mlops.domain.drift.report import DriftReport, ReferenceUsed
from mlops.domain.errors import EmptyWindow, UnusableFeatures
from mlops.domain.policies import DriftPolicy
from mlops.domain.ports import Window
from tests.unit.drift.profiles import SPANS, day, frame, profile_of

N = sum(SPANS)
AS_OF = day(N + 4)
CURRENT = Window(start=day(N - 1), end=AS_OF)
TRAINED = slice(SPANS[0], SPANS[0] + SPANS[1])
NOW = datetime(2019, 1, 1, tzinfo=UTC)
USED = ReferenceUsed(choice="champion", model_name="m", model_version="3", profile_sha256="ab")


def columns(*, rows: int = 8) -> dict[str, np.ndarray]:
    """Features with everything that is awkward; 40 trained dates of 8 rows fit the grid."""
    rng = np.random.default_rng(0)

    def normal() -> np.ndarray:
        return rng.normal(size=(N + 5, rows))

    missing, wild, flag, started = normal(), normal(), (normal() > 1).astype(float), np.full((N + 5, rows), 3.0)
    missing[rng.random(missing.shape) < 0.2] = np.nan
    missing[N:, :5] = np.nan
    wild[130, 0], wild[N, 1] = np.inf, -np.inf
    started[N:] = normal()[N:]
    sector = rng.choice(np.array(["a", "b", None], dtype=object), size=(N + 5, rows))
    sector[N:, 0] = "new"
    shifted = normal()
    shifted[N:] += 1
    return {
        "same": normal(), "shifted": shifted, "missing": missing, "wild": wild, "flag": flag,
        "constant": np.full((N + 5, rows), 2.0), "started": started, "empty": np.full((N + 5, rows), np.nan),
        "sector": sector,
    }  # fmt: skip


def check(found: dict[str, np.ndarray], profiled: dict[str, np.ndarray] | None = None, **policy: object) -> DriftReport:
    profile = profile_of({name: values[:N] for name, values in (profiled or found).items()})
    return detect_drift_from_profile(
        profile,
        frame(N, {name: values[N:] for name, values in found.items()}),
        DriftPolicy(min_calibration_days=100, **policy),  # type: ignore[arg-type]
        as_of=AS_OF,
        current_window=CURRENT,
        timestamp=NOW,
        min_current_rows=10,
        used=USED,
    )


def test_every_statistic_and_finding_is_that_of_the_rows_themselves_where_they_fit_the_grid() -> None:
    found = columns()
    frozen = check(found)
    whole = detect_drift(
        frame(SPANS[0], {name: values[TRAINED] for name, values in found.items()}),
        frame(N, {name: values[N:] for name, values in found.items()}),
        DriftPolicy(),
        strategy="growth",
        as_of=AS_OF,
        reference_window=Window(start=day(SPANS[0] - 1), end=day(SPANS[0] + SPANS[1] - 1)),
        current_window=CURRENT,
        timestamp=NOW,
        min_current_rows=10,
    )
    assert set(frozen.features) == set(whole.features)
    for name, feature in whole.features.items():
        other = frozen.features[name]
        assert other.ks_p == pytest.approx(feature.ks_p, abs=1e-12), name
        assert (other.wasserstein is None) == (feature.wasserstein is None), name
        assert (other.wasserstein or 0) == pytest.approx(feature.wasserstein or 0, rel=1e-9), name
        rounded = {"ks_p": 0, "wasserstein": 0}
        assert asdict(other) | rounded == asdict(feature) | rounded, name
    key = lambda finding: (finding.code, finding.column or "")  # noqa: E731 -- used twice, here
    assert sorted(frozen.findings, key=key) == sorted(whole.findings, key=key)
    assert frozen.raw == whole.raw
    assert (frozen.n_reference, frozen.reference_window) == (whole.n_reference, whole.reference_window)


def test_d_of_a_long_reference_is_off_by_less_than_half_a_step_and_p_has_all_rows() -> None:
    rng = np.random.default_rng(1)
    found = {"x": rng.normal(size=(N + 5, 200))}
    reference, current = found["x"][TRAINED].ravel(), found["x"][N:].ravel()
    assert len(reference) == 8000 > GRID
    exact = ks_2samp(reference, current, method="asymp")
    feature = check(found).features["x"]
    assert feature.ks_statistic == pytest.approx(exact.statistic, abs=1 / (2 * GRID))
    assert feature.ks_p == pytest.approx(exact.pvalue, abs=0.02)


def test_the_report_says_which_reference_it_was() -> None:
    document = check(columns()).to_json()
    reference = document["data"]["reference"]
    assert reference["used"] == "champion"
    assert (reference["model_version"], reference["profile_sha256"], reference["gap_dates"]) == ("3", "ab", 20)
    assert len(reference["schema_hash"]) == 64
    assert document["windows"]["reference"]["to"] == day(SPANS[0] + SPANS[1] - 1).isoformat()
    assert f"D against {GRID} quantiles of the reference, off by less than 1/4096" in document["data"]["ks_convention"]


def test_columns_that_vanished_are_new_or_changed_their_kind_are_findings() -> None:
    before = columns()
    now = {name: values for name, values in before.items() if name not in ("same", "flag")}
    now["added"] = before["same"]
    now["flag"] = before["sector"]
    codes = {(finding.code, finding.column) for finding in check(now, before).findings}
    assert {("vanished_column", "same"), ("new_column", "added"), ("kind_changed", "flag")} <= codes


def test_psi_keeps_the_bins_of_the_profile_whatever_the_policy_has_become() -> None:
    report = check(columns(), bins=20)
    assert report.policy.bins == 10
    assert report.features["shifted"].psi == check(columns()).features["shifted"].psi


def test_the_calibrated_rule_sees_a_shift_and_leaves_a_calm_window_alone() -> None:
    rng = np.random.default_rng(3)
    found = {name: rng.normal(size=(N + 5, 40)) for name in ("a", "b", "c")}
    assert check(found).verdict == "stable"
    for values in found.values():
        values[N:] += 1.0
    assert check(found).verdict == "drifted"


def test_an_empty_current_window_and_no_common_feature_are_errors() -> None:
    with pytest.raises(EmptyWindow):
        check({"x": np.empty((N + 5, 0))}, {"x": np.zeros((N, 4))})
    with pytest.raises(UnusableFeatures, match="no feature that is in both"):
        check({"x": np.zeros((N + 5, 4))}, {"y": np.zeros((N, 4))})


def test_current_rows_that_are_old_are_stale() -> None:
    found = columns()
    profile = profile_of({name: values[:N] for name, values in found.items()})
    late = AS_OF + timedelta(days=9)
    report = detect_drift_from_profile(
        profile,
        frame(N, {name: values[N:] for name, values in found.items()}),
        DriftPolicy(),
        as_of=late,
        current_window=CURRENT,
        timestamp=NOW,
        used=USED,
    )
    assert "stale" in {finding.code for finding in report.findings}
