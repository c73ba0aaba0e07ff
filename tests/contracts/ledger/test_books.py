"""Timetable, workers, policy edits, and what readers see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from mlops.errors import RunNotFound
from mlops.ledger.ledger import SqlLedger
from mlops.ledger.records import Kind, RunState, ScheduleEntry, Stage, StageOutcome, WorkerBeat
from tests.support.ledgers import TimedLedger, accepted_and_sent, granted, request_for

CHECK = ScheduleEntry(
    key="growth:drift_check", strategy="growth", kind=Kind.PIPELINE, cron="0 3 * * *", offset_s=12.5, grace_s=43200.0
)
MONDAY = datetime(2026, 11, 23, 3, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
BEAT = WorkerBeat(
    name="drift@h", role="drift", queues=("control", "drift"), device="cpu", pid=7, host="h", concurrency=2
)


def test_the_timetable_becomes_what_it_is_told_and_keeps_its_slots(ledger: SqlLedger) -> None:
    ledger.sync_schedule([CHECK, replace(CHECK, key="value:drift_check", strategy="value")])
    ledger.slot_done(CHECK.key, MONDAY, skipped=False)
    ledger.sync_schedule([replace(CHECK, cron="30 3 * * *", enabled=False)])
    assert ledger.schedule() == [replace(CHECK, cron="30 3 * * *", enabled=False, last_slot=MONDAY)]
    ledger.sync_schedule([])
    assert ledger.schedule() == []


def test_the_last_slot_never_goes_back(ledger: SqlLedger) -> None:
    ledger.sync_schedule([CHECK])
    ledger.slot_done(CHECK.key, TUESDAY, skipped=False)
    ledger.slot_done(CHECK.key, MONDAY, skipped=False)
    assert ledger.schedule()[0].last_slot == TUESDAY


def test_a_skipped_slot_is_a_run_that_says_why_and_cannot_be_opened(ledger: SqlLedger) -> None:
    ledger.sync_schedule([replace(CHECK, last_slot=MONDAY)])
    ledger.slot_done(CHECK.key, TUESDAY, skipped=True, note="everything was down")
    ledger.slot_done(CHECK.key, TUESDAY, skipped=True, note="everything was down")
    (run,) = ledger.runs()
    assert (run.state, run.slot, run.reason) == (RunState.SKIPPED, "2026-11-24T03:00:00+00:00", "everything was down")
    accepted = ledger.accept(request_for(slot=run.slot))
    assert (accepted.run_id, accepted.created) == (run.run_id, False)


def test_nothing_was_skipped_before_the_timetable_began(ledger: SqlLedger) -> None:
    ledger.sync_schedule([CHECK])
    ledger.slot_done(CHECK.key, MONDAY, skipped=True)
    assert ledger.runs() == []
    assert ledger.schedule()[0].last_slot == MONDAY


def test_a_slot_of_an_entry_that_is_gone_is_ignored(ledger: SqlLedger) -> None:
    ledger.slot_done("gone:drift_check", MONDAY, skipped=True)
    assert ledger.runs() == []


def test_workers_are_those_seen_lately(timed: TimedLedger) -> None:
    timed.ledger.worker_seen(BEAT)
    timed.advance(40)
    timed.ledger.worker_seen(replace(BEAT, name="train@h", device="gpu"))
    assert [worker.name for worker in timed.ledger.workers()] == ["drift@h", "train@h"]
    timed.advance(40)
    (worker,) = timed.ledger.workers()
    assert replace(worker, seen_at=None) == replace(BEAT, name="train@h", device="gpu")


def test_a_new_process_under_an_old_name_does_not_drain(ledger: SqlLedger) -> None:
    ledger.worker_seen(BEAT)
    assert ledger.set_draining(BEAT.name)
    grant = granted(ledger, accepted_and_sent(ledger).run_id, worker=BEAT.name)
    assert ledger.renew(grant).drain
    ledger.worker_seen(replace(BEAT, pid=8))
    assert not ledger.renew(grant).drain
    assert not ledger.set_draining("nobody")


def test_policy_edits_are_kept_in_order(ledger: SqlLedger) -> None:
    ledger.edit_policy("growth", "drift.alert_share", 0.4, actor="anna", reason="noisy")
    ledger.edit_policy("growth", "drift.alert_share", None, actor="anna", reason="not any more")
    ledger.edit_policy("value", "promotion.min_accuracy", "none", actor="anna", reason="test")
    assert [(edit.path, edit.value) for edit in ledger.policy_edits("growth")] == [
        ("drift.alert_share", 0.4),
        ("drift.alert_share", None),
    ]
    assert len(ledger.policy_edits()) == 3


def test_runs_are_read_newest_first_and_by_what_they_are(timed: TimedLedger) -> None:
    ledger = timed.ledger
    run_ids = []
    for strategy, kind, namespace in (
        ("growth", Kind.PIPELINE, "live"),
        ("value", Kind.CHECK, "live"),
        ("growth", Kind.CHECK, "live"),
        ("growth", Kind.CHECK, "replay-1"),
    ):
        run_ids.append(ledger.accept(request_for(strategy, kind, namespace=namespace)).run_id)
        timed.advance(1)
    pipeline, value, check, replay = run_ids
    ledger.cancel(check, actor="test")

    def ids(**filters: object) -> list[str]:
        return [view.run_id for view in ledger.runs(**filters)]  # type: ignore[arg-type]

    assert ids() == [check, value, pipeline]
    assert ids(namespace=None) == [replay, check, value, pipeline]
    assert ids(strategy="growth") == [check, pipeline]
    assert ids(kinds=[Kind.PIPELINE]) == [pipeline]
    assert ids(states=[RunState.QUEUED]) == [value, pipeline]
    assert ids(limit=1) == [check]


def test_an_unknown_run_is_not_found(ledger: SqlLedger) -> None:
    with pytest.raises(RunNotFound, match="nothing-like-it"):
        ledger.run("nothing-like-it")


def test_the_stages_of_a_run_are_read_in_their_order(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    for stage, following in ((Stage.DRIFT, Stage.TRAIN), (Stage.TRAIN, Stage.PROMOTE)):
        ledger.finish(granted(ledger, run_id, stage), StageOutcome(result={}, run_state=None, next_stage=following))
    assert [view.stage for view in ledger.run(run_id).stages] == [Stage.DRIFT, Stage.TRAIN, Stage.PROMOTE]


def test_drift_reports_are_read_newest_date_first(ledger: SqlLedger) -> None:
    for day in (3, 9, 6):
        run_id = accepted_and_sent(ledger, request_for(as_of=date(2020, 3, day))).run_id
        report = {"summary": {"day": day}}
        ledger.finish(
            granted(ledger, run_id), StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report=report)
        )
    reports = ledger.drift_reports("growth", limit=2)
    assert [(report["as_of"], report["summary"]) for report in reports] == [
        ("2020-03-09", {"day": 9}),
        ("2020-03-06", {"day": 6}),
    ]
    assert reports[1]["run_id"] == run_id
    assert ledger.drift_reports("value") == []


def test_the_clock_is_the_databases(timed: TimedLedger) -> None:
    before = timed.ledger.now()
    timed.advance(3600)
    assert timedelta(seconds=3600) <= timed.ledger.now() - before < timedelta(seconds=3660)
    assert before.tzinfo == UTC
