"""What persistence and cooldown read of the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from mlops.domain.policies import DriftPolicy, Strategy
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger
from mlops.stages.drift import earlier_verdicts, last_retrained
from tests.support.ledgers import granted, request_for

PATIENT = Strategy(name="growth", drift=DriftPolicy(persistence_checks=2, persistence_window=3, cooldown_days=10))


def checked(ledger: SqlLedger, day: date, verdict: str, **request: str) -> str:
    run_id = ledger.accept(request_for(kind=Kind.CHECK, as_of=day, **request)).run_id
    report = {"verdict": {"verdict": verdict}}
    outcome = StageOutcome(result={}, run_state=RunState.SUCCEEDED, as_of=day, drift_report=report)
    ledger.finish(granted(ledger, run_id), outcome)
    return run_id


def retrained(ledger: SqlLedger, day: date) -> str:
    run_id = ledger.accept(request_for(as_of=day)).run_id
    ledger.finish(
        granted(ledger, run_id), StageOutcome(result={"x": 1}, run_state=None, next_stage=Stage.TRAIN, as_of=day)
    )
    ledger.finish(
        granted(ledger, run_id, Stage.TRAIN), StageOutcome(result={"version": "1"}, run_state=RunState.SUCCEEDED)
    )
    return run_id


def test_one_verdict_per_earlier_date_newest_first(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 2), "stable")
    checked(ledger, date(2020, 3, 3), "stable")
    checked(ledger, date(2020, 3, 3), "drifted")
    checked(ledger, date(2020, 3, 5), "insufficient")
    found = earlier_verdicts(ledger, PATIENT, namespace="live", before=date(2020, 3, 5))
    assert found == ["drifted", "stable"]


def test_other_namespaces_do_not_count(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 2), "drifted", namespace="backfill")
    assert earlier_verdicts(ledger, PATIENT, namespace="live", before=date(2020, 3, 5)) == []
    assert earlier_verdicts(ledger, PATIENT, namespace="backfill", before=date(2020, 3, 5)) == ["drifted"]


def test_a_retraining_counts_when_it_came_to_its_end(ledger: SqlLedger) -> None:
    checked(ledger, date(2020, 3, 9), "drifted")
    assert last_retrained(ledger, PATIENT, namespace="live", run_id="this", until=date(2020, 3, 9)) is None
    run_id = retrained(ledger, date(2020, 3, 4))
    assert last_retrained(ledger, PATIENT, namespace="live", run_id="this", until=date(2020, 3, 9)) == date(2020, 3, 4)
    assert last_retrained(ledger, PATIENT, namespace="live", run_id=run_id, until=date(2020, 3, 9)) is None


def test_a_retraining_of_a_clock_that_was_ahead_holds_no_cooldown(ledger: SqlLedger) -> None:
    retrained(ledger, date(2020, 3, 4))
    retrained(ledger, date(2021, 3, 4))
    assert last_retrained(ledger, PATIENT, namespace="live", run_id="this", until=date(2020, 3, 9)) == date(2020, 3, 4)


def test_a_policy_without_them_asks_nothing(ledger: SqlLedger) -> None:
    plain = replace(PATIENT, drift=DriftPolicy())
    retrained(ledger, date(2020, 3, 4))
    checked(ledger, date(2020, 3, 4), "drifted")
    assert last_retrained(ledger, plain, namespace="live", run_id="this", until=date(2020, 3, 9)) is None
    assert earlier_verdicts(ledger, plain, namespace="live", before=date(2020, 3, 5)) == []
