"""What a plan of retrainings reads of the ledger."""

from __future__ import annotations

from datetime import date

from sqlalchemy import update

from mlops.domain.drift.episodes import CheckedDay
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.ledger import tables
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import granted, request_for


def checked(ledger: SqlLedger, day: date, verdict: str, **request: str) -> str:
    run_id = ledger.accept(request_for(kind=Kind.CHECK, as_of=day, **request)).run_id
    report = {"verdict": {"verdict": verdict}}
    outcome = StageOutcome(result={}, run_state=RunState.SUCCEEDED, as_of=day, drift_report=report)
    ledger.finish(granted(ledger, run_id), outcome)
    return run_id


def retrained(ledger: SqlLedger, day: date, **drift: str) -> str:
    run_id = ledger.accept(request_for(as_of=day)).run_id
    ledger.finish(
        granted(ledger, run_id),
        StageOutcome(result={"x": 1, **drift}, run_state=None, next_stage=Stage.TRAIN, as_of=day),
    )
    ledger.finish(
        granted(ledger, run_id, Stage.TRAIN), StageOutcome(result={"version": "1"}, run_state=RunState.SUCCEEDED)
    )
    return run_id


def test_trainings_that_labels_opened_are_found_however_many_runs_came_after(ledger: SqlLedger) -> None:
    first, second = (retrained(ledger, date(2020, 3, day), retrain_reason="labels") for day in (2, 4))
    last = retrained(ledger, date(2020, 3, 5), retrain_reason="drift")
    for day in (6, 7):
        checked(ledger, date(2020, 3, day), "stable")

    def found(*, until: date, without_run: str) -> list[str]:
        runs = ledger.trained_for_labels("growth", until=until, without_run=without_run)
        return [run.run_id for run in runs]

    assert found(until=date(2020, 3, 8), without_run=last) == [second, first]
    assert found(until=date(2020, 3, 3), without_run=last) == [first]
    assert found(until=date(2020, 3, 8), without_run=second) == [first]


def verdicts(ledger: SqlLedger, *, before: date, **namespace: str) -> list[tuple[date, str]]:
    found = ledger.checked_days("growth", since=date(2020, 3, 2), before=before, **namespace)
    return [(one.as_of, one.verdict) for one in found]


def last_retrained(ledger: SqlLedger, run_id: str, until: date) -> date | None:
    return max(ledger.retrained_days("growth", until=until, without_run=run_id), default=None)


def test_checks_of_these_dates_come_oldest_first_and_the_newest_of_one_date_last(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 1), "drifted")
    checked(ledger, date(2020, 3, 4), "drifted")
    checked(ledger, date(2020, 3, 2), "stable")
    checked(ledger, date(2020, 3, 3), "stable")
    checked(ledger, date(2020, 3, 3), "drifted")
    checked(ledger, date(2020, 3, 5), "insufficient")
    assert verdicts(ledger, before=date(2020, 3, 5)) == [
        (date(2020, 3, 2), "stable"),
        (date(2020, 3, 3), "stable"),
        (date(2020, 3, 3), "drifted"),
        (date(2020, 3, 4), "drifted"),
    ]


def test_a_report_whose_columns_an_older_version_left_empty_has_its_verdict(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 2), "drifted")
    with ledger.database.transaction() as connection:
        connection.execute(update(tables.drift_report).values(verdict=None))
    assert ledger.checked_days("growth", since=date(2020, 3, 1), before=date(2020, 3, 3)) == [
        CheckedDay(as_of=date(2020, 3, 2), verdict="drifted")
    ]


def test_other_namespaces_do_not_count(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 2), "drifted", namespace="backfill")
    assert verdicts(ledger, before=date(2020, 3, 5)) == []
    assert verdicts(ledger, before=date(2020, 3, 5), namespace="backfill") == [(date(2020, 3, 2), "drifted")]


def test_a_retraining_counts_when_it_came_to_its_end(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 9), "drifted")
    assert last_retrained(ledger, "this", date(2020, 3, 9)) is None
    run_id = retrained(ledger, date(2020, 3, 4))
    assert last_retrained(ledger, "this", date(2020, 3, 9)) == date(2020, 3, 4)
    assert last_retrained(ledger, run_id, date(2020, 3, 9)) is None


def test_a_retraining_of_a_clock_that_was_ahead_holds_no_cooldown(ledger: SqlLedger) -> None:
    retrained(ledger, date(2020, 3, 4))
    retrained(ledger, date(2021, 3, 4))
    assert last_retrained(ledger, "this", date(2020, 3, 9)) == date(2020, 3, 4)
