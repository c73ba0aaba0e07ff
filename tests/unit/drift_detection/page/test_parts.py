"""What the pictures and tables of the page state; expected values are counted or computed by hand."""

from __future__ import annotations

import re
from datetime import date
from typing import Any, Literal

import pytest

from mlops.domain.drift.calibration import Calibration
from mlops.domain.drift.verdict import FeatureVerdict, calibrated_verdict, raw_verdict
from mlops.reporting.page import shapes
from mlops.reporting.page.features import feature_views
from mlops.reporting.page.render import alternatives, findings, standing
from mlops.reporting.page.shapes import Scale, history
from tests.unit.drift_detection.checks import N_CURRENT, N_REFERENCE, noise
from tests.unit.drift_detection.page.documents import calibrated_document, dated, document, of_features

Verdict = Literal["drifted", "stable", "insufficient"]


def test_an_outline_has_one_column_per_bin_as_high_as_its_share() -> None:
    path = shapes.steps([0.5, 0.25, 0.0, 1.0], top=1.0)
    assert path == "M0 200V100h100V150h100V200h100V0h100V200z"


def test_a_value_beyond_the_scale_stays_at_its_border() -> None:
    scale = Scale(low=0.0, high=2.0)
    assert [scale.share(value) for value in (-1.0, 0.5, 3.0)] == [0.0, 0.25, 1.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]), (0.0, 3.3, [0.0, 1.0, 2.0, 3.0]), (-0.04, 0.05, [-0.025, 0.0, 0.025, 0.05])],
)  # fmt: skip
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert Scale(low=low, high=high).ticks() == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (0.0, float("inf")), (-1.7e308, 1.7e308)])
def test_a_scale_without_a_width_has_a_middle(low: float, high: float) -> None:
    scale = Scale(low=low, high=high)
    assert scale.share(low) == 0.5
    assert len(scale.ticks()) == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (shapes.figure(-0.01234), "−0.0123"),
        (shapes.figure(None), "–"),
        (shapes.probability(0.0), "< 0.0001"),
        (shapes.probability(0.00237), "0.0024"),
        (shapes.percent(0.0), "0 %"),
        (shapes.percent(0.012), "1.2 %"),
        (shapes.percent(0.955), "96 %"),
        (shapes.signed(1.234), "+1.23"),
        (shapes.signed(-0.5), "−0.5"),
        (shapes.count(1234567), "1,234,567"),
        (shapes.day("2020-03-16"), "16 March 2020"),
        (shapes.window({"after": "2020-03-15", "to": "2020-03-16"}), "16 March 2020 to 16 March 2020 (1 day)"),
    ],
)
def test_numbers_are_written_for_readers(said: str, expected: str) -> None:
    assert said == expected


def test_features_are_in_the_order_of_their_psi() -> None:
    report = document(
        little=(noise(N_REFERENCE), noise(N_CURRENT, seed=1, shift=0.3)),
        much=(noise(N_REFERENCE), noise(N_CURRENT, seed=1, shift=3.0)),
        none=(noise(N_REFERENCE), noise(N_CURRENT, seed=1)),
        gone=(noise(N_REFERENCE), noise(N_CURRENT) * float("nan")),
        never=(noise(N_REFERENCE) * float("nan"), noise(N_CURRENT) * float("nan")),
    )
    views = feature_views(report)
    assert [view.name for view in views] == ["gone", "much", "little", "none", "never"]
    assert [view.verdict for view in views][:2] == ["moved", "moved"]
    assert views[-1].verdict == "undefined"


def test_the_histograms_are_shares_of_each_window() -> None:
    view = feature_views(document(x=(noise(5_000), noise(600, seed=1))))[0]
    assert view.picture is not None
    shape = document(x=(noise(5_000), noise(600, seed=1)))["distributions"]["features"]["x"]
    top = max(*(n / 5_000 for n in shape["reference"][1:-1]), *(n / 600 for n in shape["current"][1:-1]))
    expected = [round(200 * (1 - n / 600 / top)) for n in shape["current"][1:-1]]
    drawn = [int(height) for height in re.findall(r"V(\d+)h", view.picture.current)]
    assert drawn == pytest.approx(expected, abs=1)


def test_few_values_are_drawn_with_fewer_bins() -> None:
    view = feature_views(document(x=(noise(5_000), noise(100, seed=1))))[0]
    assert view.picture is not None
    assert view.picture.current.count("h") == view.picture.reference.count("h") == 20


def test_the_words_beside_a_picture_are_the_medians_and_their_distance() -> None:
    report = document(x=(noise(N_REFERENCE), noise(N_CURRENT, seed=1, shift=2.0)))
    statistics = report["feature_statistics"]["x"]
    statistics["reference"].update(std=0.5, quantiles={"0.5": 1.0})
    statistics["current"].update(quantiles={"0.5": 2.5})
    assert feature_views(report)[0].in_words == "median 1 → 2.5 (+3 sd)"


def test_todays_place_is_counted_among_the_earlier_ones() -> None:
    report = calibrated_document(shift=0.2)
    calibration = report["calibration"]
    found = standing(report)
    assert found is not None
    earlier = calibration["placements"]["statistics"]
    assert found.n_placements == len(earlier)
    assert found.n_at_or_above == sum(value >= round(calibration["statistic"], 6) for value in earlier)
    bars = [200 - int(height) for height in re.findall(r"V(\d+)h", found.histogram)]
    assert max(bars) == 200


def of_shares(share: float, p: float | None, *, n_placements: int = 400, n_current: int = 500) -> dict[str, Any]:
    report = document()
    report["verdict"] |= {"rule": "calibrated"}
    raw = raw_verdict(
        [FeatureVerdict(name=str(i), drifted_ks=False, drifted_psi=i < round(share * 20)) for i in range(20)],
        alert_share=0.3,
        n_current=n_current,
        min_current_rows=100,
    )
    report["verdict"]["raw"] = {"verdict": raw.verdict, "share": raw.share, "alert_share": 0.3, "reason": raw.reason}
    report["verdict"]["calibrated"] |= {"alpha": 0.05, "p_value": p, "share": raw.share}
    report["calibration"] |= {"p_value": p, "n_placements": n_placements}
    return report


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.3, 0.45, 1.0])
@pytest.mark.parametrize("p", [None, 0.0025, 0.01, 0.03, 0.05, 0.08, 0.5])
@pytest.mark.parametrize("n_current", [99, 500])
def test_the_other_rules_say_what_the_check_itself_would_have_said(share: float, p: float | None, n_current: int) -> None:  # fmt: skip
    found = alternatives(of_shares(share, p, n_current=n_current))
    assert found.alphas == (0.01, 0.05, 0.1)
    assert [row for row, _ in found.rows] == [0.1, 0.2, 0.3, 0.4, 0.5]
    features = [FeatureVerdict(name=str(i), drifted_ks=False, drifted_psi=i < round(share * 20)) for i in range(20)]
    for alert_share, cells in found.rows:
        raw = raw_verdict(features, alert_share=alert_share, n_current=n_current, min_current_rows=100)
        expected: list[Verdict] = [raw.verdict]
        for alpha in found.alphas:
            calibration = Calibration(
                statistic=1.0, p_value=p, critical=1.0, alpha=alpha, n_dates=500, n_placements=400, n_blocks=20,
                first_date=None, distances={}, placements=None, missing="a history" if p is None else None,
            )  # fmt: skip
            expected.append(calibrated_verdict(raw, calibration, alert_share=alert_share).verdict)
        assert [cell.verdict for cell in cells] == expected


def test_exactly_one_rule_is_in_force_also_where_the_policy_has_values_of_its_own() -> None:
    report = of_shares(0.5, 0.03)
    report["verdict"]["raw"]["alert_share"], report["verdict"]["calibrated"]["alpha"] = 0.35, 0.02
    found = alternatives(report)
    assert found.alphas == (0.01, 0.02, 0.05, 0.1)
    in_force = [(share, place) for share, cells in found.rows for place, cell in enumerate(cells) if cell.is_in_force]
    assert in_force == [(0.35, 2)]
    report["verdict"]["rule"] = "raw"
    assert [cells[0].is_in_force for share, cells in alternatives(report).rows if share == 0.35] == [True]


def test_a_level_that_the_history_cannot_resolve_gives_no_verdict() -> None:
    cells = dict(alternatives(of_shares(0.5, 0.02, n_placements=50)).rows)[0.3]
    # One in a hundred needs 99 earlier places.
    assert [cell.verdict for cell in cells] == ["drifted", "insufficient", "drifted", "drifted"]


def test_the_calibrated_rule_under_another_threshold_has_its_own_weighted_share() -> None:
    report = of_shares(0.5, 0.02)
    report["verdict"]["calibrated"]["share"] = 0.15
    cells = {share: [cell.verdict for cell in row] for share, row in alternatives(report).rows}
    assert (cells[0.1], cells[0.2]) == (
        ["drifted", "stable", "drifted", "drifted"], ["drifted", "stable", "stable", "stable"],
    )  # fmt: skip
    del report["verdict"]["calibrated"]["share"]
    assert [cell.verdict for cell in dict(alternatives(report).rows)[0.2]] == cells[0.1]


def test_the_heat_map_has_one_column_per_day_and_the_newest_report_of_each() -> None:
    report = dated(of_features("a", "b"), date(2020, 3, 20), psi=0.15)
    earlier = [
        dated(report, date(2020, 3, 21), psi=9.0),  # later than the report
        dated(report, date(2020, 3, 20), psi=8.0),  # an earlier look at the same day
        dated(report, date(2020, 3, 19), psi=0.25),
        dated(report, date(2020, 3, 19), psi=7.0),
        dated(report, date(2020, 2, 28), psi=None),
    ]
    found = history(report, earlier, ["b", "a"])
    assert found is not None
    assert found.days == (date(2020, 2, 28), date(2020, 3, 19), date(2020, 3, 20))
    assert found.months == (("Feb", 1), ("Mar", 2))
    assert [name for name, _ in found.rows] == ["b", "a"]
    assert [(cell.level, cell.label) for cell in found.rows[0][1]] == [(None, "·"), (None, ".25"), (None, ".15")]


@pytest.mark.parametrize(
    ("distance", "level"), [(0.0, 0), (0.39, 0), (0.4, 1), (0.79, 1), (0.8, 2), (1.3, 3), (1.7, 4)]
)
def test_a_cell_is_coloured_by_the_distance_over_the_critical_value_whatever_its_psi(
    distance: float, level: int
) -> None:
    report = dated(of_features("a"), date(2020, 3, 20), psi=3.0)
    report["calibration"] = {"distances": {"a": distance}, "critical": 0.8}
    found = history(report, [dated(report, date(2020, 3, 19), psi=0.01)], ["a"])
    assert found is not None
    assert [(cell.level, cell.label) for cell in found.rows[0][1]] == [(level, ".01"), (level, "3.0")]


def test_a_feature_that_an_earlier_check_lacked_is_a_gap() -> None:
    report = dated(of_features("new"), date(2020, 3, 20))
    found = history(report, [dated(of_features("old"), date(2020, 3, 19))], ["new"])
    assert found is not None
    assert found.rows[0][1][0].level is None


def test_findings_that_count_as_drift_come_first() -> None:
    report = document()
    report["findings"] = [
        {"code": "new_column", "column": "a", "message": "a", "is_drift": False},
        {"code": "new_column", "column": "b", "message": "b", "is_drift": False},
        {"code": "all_missing", "column": "c", "message": "c", "is_drift": True},
    ]
    found = [(group.heading, group.counts_as_drift, group.messages) for group in findings(report)]
    assert found == [("All missing", True, ("c",)), ("New column", False, ("a", "b"))]
