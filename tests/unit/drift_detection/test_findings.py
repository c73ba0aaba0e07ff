"""What is wrong with the data is said, and counts as drift where it is drift."""

from __future__ import annotations

import numpy as np
import pytest

from lab.placebos import PsiReference
from mlops.domain.errors import EmptyWindow, UnusableFeatures
from mlops.domain.frame import FeatureFrame
from mlops.domain.policies import DriftPolicy
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, check, check_one, codes, frame, noise

NAN = np.nan


def test_clean_data_have_no_finding() -> None:
    assert codes(check_one(noise(N_REFERENCE), noise(N_CURRENT, seed=1))) == []


def test_a_changed_missing_share_is_a_finding_with_both_shares() -> None:
    current = noise(N_CURRENT, seed=1)
    current[:120] = NAN
    report = check_one(noise(N_REFERENCE), current)
    assert codes(report) == ["missing_share_changed"]
    assert "0.0% of the rows have no value in the reference, 60.0% now" in report.findings[0].message


@pytest.mark.parametrize(("n_missing", "found"), [(20, ["missing_share_changed"]), (19, [])])
def test_a_missing_share_has_changed_at_the_policys_level(n_missing: int, found: list[str]) -> None:
    # 10 of 100 against 20 of 100: p 0.048; against 19: z = 0.09 / sqrt(0.145 * 0.855 * 0.02) = 1.807, p 0.071
    reference, current = noise(100), noise(100, seed=1)
    reference[:10], current[:n_missing] = NAN, NAN
    assert codes(check_one(reference, current)) == found


def test_the_same_missing_share_is_none() -> None:
    reference, current = noise(N_REFERENCE), noise(N_CURRENT, seed=1)
    reference[::10], current[::10] = NAN, NAN
    assert codes(check_one(reference, current)) == []


@pytest.mark.parametrize("which", ["reference", "current"])
def test_infinities_are_a_finding_of_their_window(which: str) -> None:
    columns = {"reference": noise(N_REFERENCE), "current": noise(N_CURRENT, seed=1)}
    columns[which][:2] = [np.inf, -np.inf]
    report = check_one(columns["reference"], columns["current"])
    assert codes(report) == ["infinite_values"]
    assert f"2 infinite values in the {which} window" in report.findings[0].message


def test_a_column_without_any_value_now_counts_as_drifted_without_statistics() -> None:
    report = check_one(noise(N_REFERENCE), np.full(N_CURRENT, NAN))
    feature = report.features["x"]
    assert codes(report) == ["all_missing"]
    assert (feature.psi, feature.ks_statistic, feature.ks_p) == (None, None, None)
    assert feature.drifted_psi
    assert feature.drifted_ks
    assert report.drifted


def test_a_column_that_has_values_for_the_first_time_counts_as_drifted() -> None:
    report = check_one(np.full(N_REFERENCE, NAN), noise(N_CURRENT))
    assert codes(report) == ["all_missing"]
    assert report.drifted


def test_a_column_without_a_value_in_both_windows_is_a_finding_and_no_drift() -> None:
    report = check(
        frame(x=np.full(N_REFERENCE, NAN), y=noise(N_REFERENCE)),
        frame(x=np.full(N_CURRENT, NAN), y=noise(N_CURRENT, seed=1)),
    )
    assert codes(report) == ["all_missing"]
    assert "in both windows" in report.findings[0].message
    assert not report.features["x"].drifted_psi


def test_features_of_which_none_holds_a_value_are_refused_not_called_stable() -> None:
    empty = frame(x=np.full(N_REFERENCE, NAN), sector=np.full(N_REFERENCE, None, dtype=object))
    with pytest.raises(UnusableFeatures, match="no feature holds any value from 2019-12-14 to 2020-03-20: x, sector"):
        check(empty, empty)


def test_a_constant_that_starts_to_vary_counts_as_drifted() -> None:
    report = check_one(np.full(N_REFERENCE, 0.5), noise(N_CURRENT))
    assert codes(report) == ["started_to_vary"]
    assert report.drifted


def test_a_constant_that_varies_in_one_row_counts_as_drifted_whatever_its_statistics() -> None:
    report = check_one(np.full(N_REFERENCE, 0.5), np.append(np.full(N_CURRENT - 1, 0.5), 0.6))
    feature = report.features["x"]
    assert feature.psi is not None
    assert feature.psi < 0.1
    assert feature.ks_p == pytest.approx(1.0)
    assert feature.drifted_psi
    assert feature.drifted_ks


def test_a_constant_that_takes_another_value_counts_as_drifted() -> None:
    report = check_one(np.full(N_REFERENCE, 0.5), np.full(N_CURRENT, 0.6))
    assert codes(report) == ["constant_reference"]
    assert "constant at 0.5, now at 0.6" in report.findings[0].message
    assert report.findings[0].is_drift
    assert report.drifted


def test_a_constant_that_stays_is_a_finding_and_no_drift() -> None:
    report = check_one(np.full(N_REFERENCE, 0.1), np.full(N_CURRENT, 0.1))
    assert codes(report) == ["constant_reference"]
    assert report.features["x"].psi == 0.0
    assert not report.drifted


@pytest.mark.parametrize("value", [0.5, "tech"])
def test_a_constant_of_which_most_values_go_missing_counts_as_drifted(value: float | str) -> None:
    kind, nothing = (object, None) if isinstance(value, str) else (float, NAN)
    current = np.full(N_CURRENT, value, dtype=kind)
    current[: N_CURRENT * 3 // 5] = nothing
    windows = [
        frame(calm=noise(n, seed=n), x=values)
        for n, values in ((N_REFERENCE, np.full(N_REFERENCE, value, dtype=kind)), (N_CURRENT, current))
    ]
    report = check(*windows)
    assert report.features["x"].drifted_psi
    assert report.raw.share == 0.5  # of calm and x
    assert PsiReference(windows[0], DriftPolicy()).drifted(windows[1]) == {"calm": False, "x": True}


@pytest.mark.parametrize("idle", [np.nan, 0.0, "tech"])
def test_a_feature_that_holds_nothing_that_could_drift_is_in_no_share(idle: float | str) -> None:
    def window(n: int, *, shift: float) -> FeatureFrame:
        kind = object if isinstance(idle, str) else float
        idles = {f"idle{i}": np.full(n, idle, dtype=kind) for i in range(20)}
        return frame(calm=noise(n, seed=n), moved=noise(n, seed=n + 1, shift=shift), **idles)

    report = check(window(N_REFERENCE, shift=0.0), window(N_CURRENT, shift=2.5))
    assert report.raw.share == 0.5  # of calm and moved; 1 of 22 would be 5 %, below any threshold
    assert len(report.features) == 22
    assert sorted({finding.column for finding in report.findings if finding.column}) == sorted(
        f"idle{i}" for i in range(20)
    )


def test_features_of_which_none_could_drift_are_stable_together() -> None:
    report = check(
        frame(a=np.ones(N_REFERENCE), b=np.zeros(N_REFERENCE)), frame(a=np.ones(N_CURRENT), b=np.zeros(N_CURRENT))
    )
    assert (report.raw.verdict, report.raw.share) == ("stable", 0.0)


def test_a_feature_that_stops_varying_is_a_finding_and_its_statistics_say_drift() -> None:
    report = check_one(noise(N_REFERENCE), np.full(N_CURRENT, 0.3))
    assert codes(report) == ["stopped_varying"]
    assert not report.findings[0].is_drift
    assert report.drifted


def test_a_rare_flag_that_is_down_for_a_week_is_no_drift() -> None:
    # up in 1 % of the rows: 150 rows without it have probability 0.99^150 = 0.22
    reference = (np.arange(N_REFERENCE) % 100 == 0).astype(float)
    report = check_one(reference, np.zeros(150))
    assert codes(report) == ["stopped_varying"]
    assert not report.drifted


def test_one_value_among_missing_ones_has_not_stopped_varying() -> None:
    current = np.full(N_CURRENT, NAN)
    current[0] = 0.3
    assert codes(check_one(noise(N_REFERENCE), current)) == ["missing_share_changed"]


def test_vanished_and_new_columns_are_findings() -> None:
    reference = frame(x=noise(N_REFERENCE), old=noise(N_REFERENCE))
    current = frame(x=noise(N_CURRENT, seed=1), new=noise(N_CURRENT))
    report = check(reference, current)
    assert [(finding.code, finding.column) for finding in report.findings] == [
        ("vanished_column", "old"),
        ("new_column", "new"),
    ]
    assert list(report.features) == ["x"]


def test_a_column_of_numbers_that_becomes_text_is_a_finding() -> None:
    reference = frame(x=noise(N_REFERENCE), code=noise(N_REFERENCE))
    current = frame(x=noise(N_CURRENT, seed=1), code=np.full(N_CURRENT, "7", dtype=object))
    assert codes(check(reference, current)) == ["kind_changed"]
    assert codes(check(current, reference)) == ["kind_changed"]


def test_unseen_categories_are_named() -> None:
    reference = frame(sector=np.array(["tech", "food"] * 500, dtype=object))
    report = check(reference, frame(sector=np.array(["tech", "food", "coal"] * 50, dtype=object)))
    assert codes(report) == ["unseen_categories"]
    assert report.findings[0].message == "sector: not in the reference: coal"
    assert report.drifted


def test_many_unseen_categories_are_cut_short() -> None:
    current = frame(sector=np.array([f"s{n}" for n in range(120)], dtype=object))
    report = check(frame(sector=np.array(["tech"] * 1_000, dtype=object)), current)
    assert report.findings[0].message == "sector: not in the reference: s0, s1, s10, s100, s101 …"


def test_missing_categories_are_findings_too() -> None:
    full = np.array(["tech", "food"] * 100, dtype=object)
    gaps = full.copy()
    gaps[:120] = None
    none = np.full(200, None, dtype=object)
    assert codes(check(frame(s=full), frame(s=gaps))) == ["missing_share_changed"]
    gone = check(frame(s=full), frame(s=none))
    assert codes(gone) == ["all_missing"]
    assert gone.drifted
    # not by its PSI, which no threshold need exceed
    assert check(frame(s=full), frame(s=none), DriftPolicy(rule="raw", psi_significant=1e9)).drifted


def test_repeated_rows_are_a_finding_of_their_window() -> None:
    report = check(frame(x=noise(N_REFERENCE)), frame(x=noise(N_CURRENT, seed=1), duplicates=3))
    assert [finding.message for finding in report.findings] == ["3 rows of the current window repeat a ticker and date"]


@pytest.mark.parametrize(("n", "m", "window"), [(0, 5, "reference"), (5, 0, "current")])
def test_a_window_without_rows_is_refused_by_name(n: int, m: int, window: str) -> None:
    with pytest.raises(EmptyWindow, match=f"the {window} window of 'growth' holds no rows"):
        check_one(np.zeros(n), np.zeros(m))


def test_windows_without_a_common_feature_are_refused() -> None:
    with pytest.raises(UnusableFeatures, match="no feature that is in both windows"):
        check(frame(x=noise(10)), frame(y=noise(10)))
