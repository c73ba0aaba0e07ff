"""Trends from stored reports, and `acis drift-history` on a ledger that holds some."""

from __future__ import annotations

import json
import math
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from cli.app import app
from cli.history import GAP, spark_line
from mlops.domain.drift_history import check_record, feature_trends, series
from mlops.domain.errors import LedgerUnavailable
from mlops.domain.records import Kind, Stage
from mlops.stages.drift import check_drift
from tasks import services as task_services
from tests.support.services import LAST, FakeServices, panel

#: A report as the first version wrote it: no calibration, no distances, no verdict per rule.
FIRST_REPORT: dict[str, Any] = {
    "timestamp": "2026-01-05T03:00:00+00:00",
    "n_samples_reference": 500,
    "n_samples_current": 40,
    "summary": {"drift_detected": True, "drift_ratio": 0.5, "alert_threshold": 0.3},
    "ks_test": {"value": {"statistic": 0.4, "p_value": 0.01, "drifted": True}},
    "psi": {"value": {"psi_value": 0.31, "drifted": True}},
    "calibration": None,
    "run_id": "r1",
    "as_of": "2026-01-05",
}


def report(day: str, psi: float | None, *, n_missing: int = 0) -> dict[str, Any]:
    return {
        "as_of": day,
        "psi": {"value": {"psi_value": psi, "drifted": psi is not None and psi >= 0.2}},
        "ks_test": {"value": {"statistic": 0.1}},
        "distances": {"value": {"wasserstein": 0.2}},
        "feature_statistics": {"value": {"reference": None, "current": {"n": 40, "n_missing": n_missing}}},
    }


def test_a_report_of_the_first_version_is_read_without_the_keys_it_lacks() -> None:
    record = check_record(FIRST_REPORT)
    assert (record.as_of, record.verdict, record.share) == (date(2026, 1, 5), "drifted", 0.5)
    assert (record.rule, record.p_value, record.statistic, record.raw_verdict) == (None, None, None, None)
    (point,) = feature_trends([FIRST_REPORT])["value"]
    assert (point.psi, point.ks_statistic, point.drifted) == (0.31, 0.4, True)
    assert (point.wasserstein, point.distance, point.missing_share) == (None, None, None)


@pytest.mark.parametrize("document", [{}, {"psi": None, "verdict": "drifted", "summary": 3}])
def test_a_report_that_says_nothing_is_a_line_without_values(document: dict[str, Any]) -> None:
    record = check_record(document)
    assert (record.as_of, record.verdict, record.share) == (None, None, None)
    assert feature_trends([document]) == {}


def test_a_trend_runs_from_old_to_new_and_a_date_counts_once_by_its_newest_check() -> None:
    newest_first = [
        report("2026-01-03", 0.3),
        report("2026-01-02", 0.2),
        report("2026-01-02", 9.0),
        report("2026-01-01", None),
    ]
    trend = feature_trends(newest_first)["value"]
    assert [point.as_of.day for point in trend] == [1, 2, 3]
    assert series(trend, "psi") == [None, 0.2, 0.3]


def test_the_missing_share_is_of_all_current_rows() -> None:
    (point,) = feature_trends([report("2026-01-01", 0.1, n_missing=10)])["value"]
    assert point.missing_share == 10 / 40


def test_a_feature_that_came_later_has_points_from_then_on() -> None:
    later = report("2026-01-02", 0.1)
    later["psi"]["young"] = {"psi_value": 0.5}
    trends = feature_trends([later, report("2026-01-01", 0.1)])
    assert [len(trends[name]) for name in ("value", "young")] == [2, 1]


@given(st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True)))
def test_a_spark_line_has_a_character_per_value_and_a_gap_where_there_is_none(values: list[float | None]) -> None:
    line = spark_line(values)
    assert len(line) == len(values)
    missing = [value is None or not math.isfinite(value) for value in values]
    assert [character == GAP for character in line] == missing


def test_a_spark_line_runs_from_the_lowest_to_the_highest() -> None:
    assert spark_line([float(step) for step in range(8)]) == "▁▂▃▄▅▆▇█"


# --------------------------------------------------------------------------- the command


@pytest.fixture
def connected(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    monkeypatch.setattr(task_services, "connect", lambda: services)
    return services


def history(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["drift-history", "growth", *arguments])


def check(services: FakeServices, as_of: date, **asked: Any) -> str:
    grant = services.granted(Kind.CHECK, Stage.DRIFT, as_of=as_of, **asked)
    services.ledger.finish(grant, check_drift(grant, services, services.keeper(grant)))
    return grant.run_id


def test_the_checks_are_listed_with_the_newest_date_first(connected: FakeServices) -> None:
    connected.with_source(panel(shift=3.0))
    runs = [check(connected, LAST - timedelta(days=days)) for days in (20, 0)]
    answer = json.loads(history("--json").stdout)
    assert [one["run_id"] for one in answer["checks"]] == runs[::-1]
    newest, oldest = answer["checks"]
    assert (newest["verdict"], newest["share"]) == ("drifted", 1.0)
    assert oldest["share"] < 1.0
    assert runs[1][:8] in history().stdout
    assert json.loads(history("--json", "--last", "1").stdout)["checks"][0]["as_of"] == LAST.isoformat()


def test_a_feature_s_trend_is_shown_with_its_line(connected: FakeServices) -> None:
    connected.with_source(panel(shift=3.0))
    for days in (20, 0):
        check(connected, LAST - timedelta(days=days))
    trend = json.loads(history("--feature", "value", "--json").stdout)["trend"]
    assert [point["as_of"] for point in trend] == [(LAST - timedelta(days=20)).isoformat(), LAST.isoformat()]
    assert trend[1]["psi"] > trend[0]["psi"]
    assert "▁█" in history("--feature", "value").stdout


def test_a_replay_s_checks_are_in_their_namespace_alone(connected: FakeServices) -> None:
    run_id = check(connected, LAST, namespace="replay-1")
    assert "No drift check of growth in namespace live" in history().stdout
    assert run_id[:8] in history("--namespace", "replay-1").stdout


def test_a_feature_that_no_check_had_is_an_error_that_names_those_that_are(connected: FakeServices) -> None:
    check(connected, LAST)
    ended = history("--feature", "momentun")
    assert ended.exit_code == 2
    assert "'momentun' is in none of the 1 checks; one of: momentum, noise, value" in " ".join(ended.stderr.split())


def test_a_strategy_that_never_was_is_an_error(connected: FakeServices) -> None:
    ended = CliRunner().invoke(app, ["drift-history", "growht"])
    assert (ended.exit_code, "'growht' is not known; one of: growth" in ended.stderr) == (2, True)


def test_a_strategy_that_was_taken_out_of_the_file_keeps_its_history(connected: FakeServices) -> None:
    run_id = check(connected, LAST)
    vars(connected)["strategies"] = type(connected.strategies)({})
    assert run_id[:8] in history().stdout


def test_a_ledger_that_does_not_answer_is_an_error_in_words(
    connected: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise LedgerUnavailable

    monkeypatch.setattr(type(connected.ledger), "drift_reports", silent)
    ended = history()
    assert (ended.exit_code, "PostgreSQL does not answer" in ended.stderr) == (2, True)
