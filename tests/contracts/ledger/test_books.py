"""Timetable, workers, policy edits, and what readers see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import update

from mlops.domain.errors import ReportNotFound, RunNotFound
from mlops.domain.records import Kind, RunState, ScheduleEntry, Stage, StageOutcome, WorkerBeat
from mlops.ledger import tables
from mlops.ledger.ledger import SqlLedger
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
    ledger.slot_opened(CHECK.key, MONDAY)
    ledger.sync_schedule([replace(CHECK, cron="30 3 * * *", enabled=False)])
    assert ledger.schedule() == [replace(CHECK, cron="30 3 * * *", enabled=False, last_slot=MONDAY)]
    ledger.sync_schedule([])
    assert ledger.schedule() == []


def test_the_last_slot_never_goes_back(ledger: SqlLedger) -> None:
    ledger.sync_schedule([CHECK])
    ledger.slot_opened(CHECK.key, TUESDAY)
    ledger.slot_opened(CHECK.key, MONDAY)
    assert ledger.schedule()[0].last_slot == TUESDAY


def test_a_skipped_slot_is_a_run_that_says_why_and_cannot_be_opened(ledger: SqlLedger) -> None:
    ledger.sync_schedule([replace(CHECK, last_slot=MONDAY)])
    ledger.slots_skipped(CHECK.key, [TUESDAY], note="everything was down")
    ledger.slots_skipped(CHECK.key, [TUESDAY], note="everything was down")
    (run,) = ledger.runs()
    assert (run.state, run.slot, run.reason) == (RunState.SKIPPED, "2026-11-24T03:00:00+00:00", "everything was down")
    accepted = ledger.accept(request_for(slot=run.slot))
    assert (accepted.run_id, accepted.created) == (run.run_id, False)


def test_a_timetable_begins_once_whoever_says_so(ledger: SqlLedger) -> None:
    ledger.sync_schedule([CHECK])
    ledger.timetable_begins(CHECK.key, MONDAY)
    ledger.timetable_begins(CHECK.key, TUESDAY)
    ledger.timetable_begins("gone:drift_check", MONDAY)
    assert ledger.runs() == []
    assert ledger.schedule()[0].last_slot == MONDAY


def test_a_slot_of_an_entry_that_is_gone_is_ignored(ledger: SqlLedger) -> None:
    ledger.slots_skipped("gone:drift_check", [MONDAY], note="missed")
    assert ledger.runs() == []


def test_workers_are_those_seen_lately(timed: TimedLedger) -> None:
    timed.ledger.worker_seen(BEAT)
    timed.advance(40)
    timed.ledger.worker_seen(replace(BEAT, name="train@h", device="gpu"))
    assert [worker.name for worker in timed.ledger.workers()] == ["drift@h", "train@h"]
    timed.advance(40)
    (worker,) = timed.ledger.workers()
    assert replace(worker, seen_at=None) == replace(BEAT, name="train@h", device="gpu")


def test_a_worker_that_was_started_anew_ends_the_leases_of_the_process_before(timed: TimedLedger) -> None:
    ledger = timed.ledger
    held = granted(ledger, accepted_and_sent(ledger).run_id, worker=BEAT.name)
    granted(ledger, accepted_and_sent(ledger, request_for("value")).run_id, worker="drift-b@h")
    timed.advance(15)
    ledger.worker_seen(replace(BEAT, uptime_s=5.0))
    assert ledger.due_publications() == [], "it may have missed a renewal and live"
    timed.advance(10)
    fresh = granted(ledger, accepted_and_sent(ledger, request_for("fresh")).run_id, worker=BEAT.name)
    timed.advance(10)
    ledger.worker_seen(replace(BEAT, uptime_s=25.0))
    (back,) = ledger.due_publications()
    assert (back.run_id, back.keeps_its_place) == (held.run_id, True)
    error = ledger.run(held.run_id).stages[0].error
    assert error is not None
    assert "stopped renewing" in error
    timed.advance(15)
    ledger.worker_seen(replace(BEAT, uptime_s=40.0))
    assert fresh.run_id not in {due.run_id for due in ledger.due_publications()}, "it took that itself"
    assert ledger.renew(fresh).lease_until


def test_a_worker_takes_the_place_of_the_one_before_it_and_not_of_one_that_shares_its_hosts_name(
    timed: TimedLedger,
) -> None:
    ledger = timed.ledger
    first, second, again = (replace(BEAT, name=f"drift@h.{one * 8}") for one in "abc")
    dead = granted(ledger, accepted_and_sent(ledger).run_id, worker=first.name)
    lives = granted(ledger, accepted_and_sent(ledger, request_for("value")).run_id, worker=second.name)
    elsewhere = granted(ledger, accepted_and_sent(ledger, request_for("third")).run_id, worker="drift@h2.dddddddd")
    for beat in (first, second):
        ledger.worker_seen(beat)
    timed.advance(20)
    for beat in (second, replace(again, uptime_s=5.0)):
        ledger.worker_seen(beat)
    assert [worker.name for worker in ledger.workers()] == [second.name, again.name], "one was replaced"
    timed.advance(5)
    ledger.worker_seen(replace(again, uptime_s=10.0))
    assert [worker.name for worker in ledger.workers()] == [second.name, again.name], "one look missed hides nobody"
    (back,) = ledger.due_publications()
    assert back.run_id == dead.run_id, "nobody has seen that one since"
    timed.advance(10)
    assert ledger.renew(lives).lease_until
    assert ledger.renew(elsewhere).lease_until


def test_the_first_of_this_version_takes_the_place_of_one_of_before(timed: TimedLedger) -> None:
    ledger = timed.ledger
    held = granted(ledger, accepted_and_sent(ledger).run_id, worker=BEAT.name)
    ledger.worker_seen(BEAT)
    timed.advance(25)
    ledger.worker_seen(replace(BEAT, name=f"{BEAT.name}.0123abcd", uptime_s=5.0))
    assert [due.run_id for due in ledger.due_publications()] == [held.run_id]


def test_a_stage_that_is_renewed_stays_with_its_worker_whatever_its_hosts_clock_says(timed: TimedLedger) -> None:
    ledger = timed.ledger
    grant = granted(ledger, accepted_and_sent(ledger).run_id, worker=BEAT.name)
    for _ in range(6):
        timed.advance(10)
        ledger.renew(grant)
        ledger.worker_seen(replace(BEAT, uptime_s=0.0))
    assert ledger.due_publications() == []


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


def reported(ledger: SqlLedger, day: int, psi: float, **asked: object) -> str:
    """A finished check."""
    run_id = accepted_and_sent(ledger, request_for(as_of=date(2020, 3, day), **asked)).run_id
    report = {
        "windows": {"as_of": f"2020-03-{day:02}"},
        "psi": {'odd "name" [1].x': {"psi_value": psi}},
        "verdict": {"verdict": "stable"},
        "feature_statistics": {"long": "and heavy"},
    }
    ledger.finish(granted(ledger, run_id), StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report=report))
    return run_id


def test_a_run_s_report_is_read_as_it_was_stored(ledger: SqlLedger) -> None:
    run_id = reported(ledger, 9, 0.5)
    stored = ledger.stored_report(run_id)
    assert (stored.run_id, stored.strategy, stored.namespace, stored.as_of) == (
        run_id, "growth", "live", date(2020, 3, 9)
    )  # fmt: skip
    assert stored.document["feature_statistics"] == {"long": "and heavy"}


def test_a_run_without_a_report_is_said_to_have_none(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    with pytest.raises(ReportNotFound, match=f"run {run_id} has no drift report"):
        ledger.stored_report(run_id)


def test_of_earlier_checks_only_what_a_heat_map_needs_is_read_newest_first(ledger: SqlLedger) -> None:
    for day, psi in ((3, 0.1), (9, 0.9), (6, 0.6), (12, 1.2)):
        reported(ledger, day, psi)
    reported(ledger, 4, 0.4, namespace="replay")
    earlier = ledger.earlier_checks("growth", before=date(2020, 3, 12), limit=2)
    assert earlier == [
        {
            "windows": {"as_of": f"2020-03-{day:02}"},
            "psi": {'odd "name" [1].x': {"psi_value": psi}},
            "verdict": {"verdict": "stable"},
        }
        for day, psi in ((9, 0.9), (6, 0.6))
    ]
    assert len(ledger.earlier_checks("growth", before=date(2020, 3, 12), namespace="replay")) == 1
    assert ledger.earlier_checks("value", before=date(2020, 3, 12)) == []


def test_a_report_of_a_version_that_lacked_a_part_is_no_earlier_check(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger, request_for(as_of=date(2020, 3, 2))).run_id
    old = StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report={"psi": {"x": {"psi_value": 1.0}}})
    ledger.finish(granted(ledger, run_id), old)
    assert ledger.earlier_checks("growth", before=date(2020, 3, 12)) == []


def test_reports_wait_for_the_registry_newest_first_and_a_replay_s_never_do(ledger: SqlLedger) -> None:
    first, second = reported(ledger, 3, 0.1), reported(ledger, 2, 0.1)
    reported(ledger, 4, 0.4, namespace="replay")
    assert ledger.unlogged_reports() == [second, first]
    assert ledger.unlogged_reports(limit=1) == [second]


def test_where_the_registry_shows_a_report_is_noted_once_and_stands_in_the_runs_result(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    outcome = StageOutcome(result={"verdict": "stable"}, run_state=RunState.SUCCEEDED, drift_report={"x": 1})
    ledger.finish(granted(ledger, run_id), outcome)
    assert ledger.stored_report(run_id).registry_run_id is None
    assert ledger.report_logged(run_id, registry_run_id="m1", url="http://mlflow/#/m1") is True
    assert ledger.report_logged(run_id, registry_run_id="m2", url=None) is False
    assert ledger.named_in_registry([run_id, "nothing-like-it"]) == {(run_id, "report"): "m1"}
    assert ledger.stored_report(run_id).registry_run_id == "m1"
    assert ledger.unlogged_reports() == []
    assert ledger.run(run_id).stages[0].result == {
        "verdict": "stable", "mlflow_report_run_id": "m1", "mlflow_report_url": "http://mlflow/#/m1",
    }  # fmt: skip


def test_what_a_report_of_an_older_version_says_in_short_is_filled_in(timed: TimedLedger) -> None:
    ledger = timed.ledger
    run_id = accepted_and_sent(ledger).run_id
    document = {"summary": {"drift_detected": True, "drift_ratio": 0.4}, "verdict": {"rule": "raw"}}
    ledger.finish(granted(ledger, run_id), StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report=document))
    lame = accepted_and_sent(ledger, request_for("value")).run_id
    ledger.finish(granted(ledger, lame), StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report={"x": 1}))
    written = ledger.check_of(run_id)
    empty = dict.fromkeys(("verdict", "rule", "raw_verdict", "share", "alert_share"))
    with ledger.database.transaction() as connection:
        connection.execute(update(tables.drift_report).values(empty))  # as a worker that does not know them
    assert ledger.sorted_checks(verdict="drifted") == []
    assert ledger.fill_check_columns(among_newest=1) == 0
    assert ledger.fill_check_columns(among_newest=2) == 1
    assert ledger.check_of(run_id) == written
    assert [check.share for check in ledger.sorted_checks(verdict="drifted")] == [0.4]
    assert ledger.fill_check_columns() == 0


def test_a_report_that_is_not_there_cannot_be_noted(ledger: SqlLedger) -> None:
    assert ledger.report_logged("nothing-like-it", registry_run_id="m1", url=None) is False


def test_the_clock_is_the_databases(timed: TimedLedger) -> None:
    before = timed.ledger.now()
    timed.advance(3600)
    assert timedelta(seconds=3600) <= timed.ledger.now() - before < timedelta(seconds=3660)
    assert before.tzinfo == UTC


def test_a_resumed_line_begins_at_that_moment(ledger: SqlLedger) -> None:
    ledger.sync_schedule([replace(CHECK, enabled=False, last_slot=MONDAY)])
    before = ledger.now()
    ledger.sync_schedule([CHECK])
    (entry,) = ledger.schedule()
    assert entry.last_slot is not None
    assert entry.last_slot >= before


def test_a_line_with_another_time_begins_at_that_moment(ledger: SqlLedger) -> None:
    ledger.sync_schedule([replace(CHECK, last_slot=MONDAY)])
    before = ledger.now()
    ledger.sync_schedule([replace(CHECK, cron="30 5 * * *")])
    assert (ledger.schedule()[0].last_slot or MONDAY) >= before


def test_the_edition_of_the_policies_grows_with_every_edit(ledger: SqlLedger) -> None:
    before = ledger.newest_policy_edit()
    ledger.edit_policy("growth", "drift.alert_share", 0.4, actor="anna", reason="fewer alarms")
    assert ledger.newest_policy_edit() > before


def test_slots_of_a_clock_that_was_ahead_are_given_back_and_opened_at_their_time(timed: TimedLedger) -> None:
    ledger = timed.ledger
    now = ledger.now()
    past, to_come, later = (now.replace(microsecond=0) + timedelta(hours=hours) for hours in (-1, 1, 2))
    ledger.sync_schedule([replace(CHECK, last_slot=past)])
    done = ledger.accept(request_for(kind=Kind.PIPELINE, slot=past.isoformat()))
    ledger.cancel(done.run_id, actor="test")
    ledger.slots_skipped(CHECK.key, [to_come], note="missed, and a newer one is due")
    early = ledger.accept(request_for(kind=Kind.PIPELINE, slot=later.isoformat()))
    demo = ledger.accept(request_for("value", Kind.PIPELINE, slot="demo 2019-12-13"))
    ledger.slot_opened(CHECK.key, later)
    assert ledger.set_back(CHECK.key, to_come) is None, "somebody else has moved it meanwhile"
    assert ledger.set_back(CHECK.key, later) == past
    assert ledger.schedule()[0].last_slot == past
    assert ledger.run(early.run_id).slot is None
    assert f"for slot {later.isoformat()} of a clock that was ahead" in ledger.run(early.run_id).reason
    assert {view.slot for view in ledger.runs()} == {past.isoformat(), None, "demo 2019-12-13"}
    ledger.cancel(early.run_id, actor="test")
    assert ledger.accept(request_for(kind=Kind.PIPELINE, slot=later.isoformat())).created
    assert ledger.run(demo.run_id).slot == "demo 2019-12-13"


def test_a_timetable_that_began_while_the_clock_was_ahead_begins_now(timed: TimedLedger) -> None:
    ahead = timed.ledger.now() + timedelta(days=365)
    timed.ledger.sync_schedule([replace(CHECK, last_slot=ahead)])
    assert timed.ledger.schedule()[0].is_ahead(timed.ledger.now())
    last = timed.ledger.set_back(CHECK.key, ahead)
    assert last is not None
    assert abs((last - timed.ledger.now()).total_seconds()) < 60


def test_a_worker_that_was_seen_by_a_clock_that_was_ahead_is_not_alive_for_as_long(timed: TimedLedger) -> None:
    timed.advance(7200)
    timed.ledger.worker_seen(BEAT)
    timed.advance(-7200)
    assert timed.ledger.workers(within_s=60.0) == []
    timed.ledger.worker_seen(BEAT)
    assert [worker.name for worker in timed.ledger.workers(within_s=60.0)] == [BEAT.name]


def test_what_the_registry_has_of_a_training_is_named_by_its_result(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger, request_for(kind=Kind.TRAIN)).run_id
    grant = granted(ledger, run_id, Stage.TRAIN)
    assert ledger.named_in_registry([run_id]) == {}
    ledger.finish(grant, StageOutcome(result={"version": "7", "mlflow_run_id": "m7"}, run_state=RunState.SUCCEEDED))
    assert ledger.named_in_registry([run_id]) == {(run_id, "training"): "m7", (run_id, "version"): "7"}
    assert ledger.named_in_registry([]) == {}
