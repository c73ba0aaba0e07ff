"""A strategy's history as bands and marks on the days of its data."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from admin.pictures.axes import TimeAxis
from admin.pictures.story import DataClock, axis_of, champion_bands, check_bars, marks
from mlops.domain.promotion.records import Promotion
from mlops.domain.records import Kind, RunState
from mlops.ledger.queries.run_lists import RunLine
from tests.unit.admin.test_heat import check

DAY = date(2020, 3, 16)
AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
"""A sample of years ago is worked through today."""


def decided(number: int, version: str, before: str | None, **changes: Any) -> Promotion:
    return Promotion(
        **{
            "id": number, "run_id": f"run-{number}", "namespace": "live", "strategy": "growth", "model_name": "m",
            "version": version, "decision": "promote", "reasons": ("better",), "evidence": {}, "evidence_digest": "",
            "actor": "policy", "target_stage": "Production", "seq": number, "previous_version": before,
            "created_at": AT + timedelta(minutes=number), "projected_at": None, "as_of": DAY + timedelta(days=number),
            **changes,
        }
    )  # fmt: skip


def run(number: int, **changes: Any) -> RunLine:
    return RunLine(
        **{
            "run_id": f"run-{number}", "strategy": "growth", "kind": Kind.PIPELINE, "state": RunState.SUCCEEDED,
            "as_of": DAY + timedelta(days=number), "reason": "", "requested_by": "beat",
            "created_at": AT + timedelta(minutes=number), "finished_at": None, "version": str(number), "verdict": None,
            "error": None, **changes,
        }
    )  # fmt: skip


def days(*numbers: int) -> list[date]:
    return [DAY + timedelta(days=number) for number in numbers]


CLOCK = DataClock([(AT + timedelta(minutes=number), DAY + timedelta(days=number)) for number in range(10)])


def test_what_has_no_date_stands_at_the_newest_one_that_the_data_had() -> None:
    assert CLOCK.day(AT + timedelta(minutes=3, seconds=30)) == DAY + timedelta(days=3)
    assert CLOCK.day(AT + timedelta(days=400)) == DAY + timedelta(days=9)
    assert DataClock([]).day(AT) == AT.date()


def test_a_champion_lasts_until_the_day_before_the_next_and_the_last_until_now() -> None:
    bands = champion_bands([decided(1, "1", None), decided(5, "2", "1")], "2", CLOCK)
    assert [(band.version, band.first, band.last) for band in bands] == [
        ("1", *days(1, 4)),
        ("2", *days(5), None),
    ]


def test_a_decision_that_leaves_the_champion_in_place_ends_no_band() -> None:
    kept = decided(3, "2", "1", decision="keep", target_stage="Archived")
    (band,) = champion_bands([decided(1, "1", None), kept], "1", CLOCK)
    assert (band.version, band.last, band.run_id) == ("1", None, "run-1")


def test_a_rollback_stands_where_the_data_were_and_not_where_the_old_champion_was_made() -> None:
    back = decided(8, "1", "2", decision="rollback", as_of=DAY + timedelta(days=5))
    bands = champion_bands([decided(1, "1", None), decided(5, "2", "1"), back], "1", CLOCK)
    assert [(band.version, band.first) for band in bands] == [("1", days(1)[0]), ("2", days(5)[0]), ("1", days(8)[0])]


def test_a_champion_that_was_taken_out_leaves_a_gap() -> None:
    out = decided(4, "1", "1", decision="transition", target_stage="Archived")
    (band,) = champion_bands([decided(1, "1", None), out], None, CLOCK)
    assert band.last == DAY + timedelta(days=3)


def test_a_run_is_one_mark_by_what_came_of_it() -> None:
    failed = run(4, version=None, state=RunState.DEAD, error="no rows")
    nothing = run(6, version=None)
    found = marks([run(1), run(2), failed, nothing], [decided(1, "1", None), decided(9, "1", None, run_id=None)], CLOCK)
    assert [(mark.day, mark.outcome, mark.run_id) for mark in found] == [
        (*days(1), "promoted", "run-1"),
        (*days(2), "trained", "run-2"),
        (*days(4), "failed", "run-4"),
        (*days(9), "promoted", None),
    ]
    assert found[2].words == "2020-03-20: failed: no rows"
    assert {mark.look.row for mark in found} == {0, 1, 2}


def test_an_outcome_that_a_later_version_knows_is_still_a_mark() -> None:
    (mark,) = marks([], [decided(1, "1", None, decision="blessed")], CLOCK)
    assert mark.outcome == "transition"


def test_a_bar_is_as_high_as_the_shift_is_rare_and_a_day_has_its_newest_check() -> None:
    rare, usual = check(0.001), check(1.0, id_=2, as_of=DAY)
    bars = check_bars([rare, usual])
    assert [(bar.height, bar.check.id) for bar in bars] == [(1.0, 1), (0.0, 2)]
    assert "90% of the features moved" in bars[0].words


def test_the_axis_ends_with_the_newest_known_day_whatever_the_calendar_says() -> None:
    known = [DAY, DAY - timedelta(days=500)]
    assert axis_of("90", known, AT.date()) == TimeAxis(first=DAY - timedelta(days=89), last=DAY)
    assert axis_of("all", known, AT.date()).first == DAY - timedelta(days=500)
    assert axis_of("365", [DAY, DAY - timedelta(days=100)], AT.date()).first == DAY - timedelta(days=100)
    assert axis_of("all", [], AT.date()) == TimeAxis(first=AT.date() - timedelta(days=13), last=AT.date())
