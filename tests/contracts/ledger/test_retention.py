"""What is taken out of the ledger when it is old, and what stays."""

from __future__ import annotations

from mlops.domain.records import Kind, RunState, Stage, StageOutcome, WorkerBeat
from tests.support.ledgers import TimedLedger, accepted_and_sent, decision_for, granted, promoting, request_for

DAY_S = 86_400.0
BEAT = WorkerBeat(name="drift@h", role="drift", queues=("drift",), device="cpu", pid=7, host="h", concurrency=2)


def ended(timed: TimedLedger, strategy: str, *, with_report: bool = False) -> str:
    run_id = accepted_and_sent(timed.ledger, request_for(strategy, Kind.CHECK)).run_id
    report = {"verdict": {"verdict": "stable"}} if with_report else None
    outcome = StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report=report)
    timed.ledger.finish(granted(timed.ledger, run_id), outcome)
    return run_id


def known(timed: TimedLedger) -> set[str]:
    return {run.run_id for run in timed.ledger.runs(limit=100)}


def test_old_runs_go_with_their_stages_and_outcomes(timed: TimedLedger) -> None:
    old = ended(timed, "growth")
    timed.advance(10 * DAY_S)
    young = ended(timed, "value")
    assert timed.ledger.purge_runs(older_than_days=9) == 1
    assert known(timed) == {young}
    assert [message.run_id for message in timed.ledger.pending_outcomes()] == [young]
    assert timed.ledger.never_resumed([old, young], dead_for_days=7) == sorted([old, young])


def test_a_batch_takes_the_oldest(timed: TimedLedger) -> None:
    runs = []
    for name in ("a", "b", "c"):
        runs.append(ended(timed, name))
        timed.advance(1)
    timed.advance(DAY_S)
    assert timed.ledger.purge_runs(older_than_days=0.5, limit=2) == 2
    assert known(timed) == {runs[2]}


def test_an_active_run_stays_however_old(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    timed.advance(1000 * DAY_S)
    assert timed.ledger.purge_runs(older_than_days=1) == 0
    assert timed.ledger.never_resumed([run_id, "nobody's"], dead_for_days=7) == ["nobody's"]


def test_a_report_and_a_promotion_keep_their_runs(timed: TimedLedger) -> None:
    checked = ended(timed, "growth", with_report=True)
    grant = promoting(timed.ledger, "value")
    timed.ledger.decide(grant, decision_for("1"))
    timed.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    timed.advance(1000 * DAY_S)
    assert timed.ledger.purge_runs(older_than_days=1) == 0
    assert timed.ledger.purge_reports(older_than_days=2000) == 0
    assert timed.ledger.purge_reports(older_than_days=1) == 1
    assert timed.ledger.purge_runs(older_than_days=1) == 1
    assert known(timed) == {grant.run_id}
    assert checked not in known(timed)
    assert timed.ledger.champion("value").version == "1"


def test_a_dead_run_can_be_taken_up_for_some_days(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    for _ in range(3):
        timed.ledger.fail(granted(timed.ledger, run_id), error="it crashes", retry=True)
    assert timed.ledger.run(run_id).state is RunState.DEAD
    assert timed.ledger.never_resumed([run_id], dead_for_days=7) == []
    timed.advance(8 * DAY_S)
    assert timed.ledger.never_resumed([run_id], dead_for_days=7) == [run_id]
    assert timed.ledger.requeue(run_id, actor="somebody").stage is Stage.DRIFT


def test_workers_that_nobody_has_seen_are_forgotten(timed: TimedLedger) -> None:
    timed.ledger.worker_seen(BEAT)
    timed.advance(8 * DAY_S)
    assert timed.ledger.purge_workers(unseen_days=9) == 0
    assert timed.ledger.purge_workers(unseen_days=7) == 1


def test_nothing_is_asked_about_no_runs(timed: TimedLedger) -> None:
    assert timed.ledger.never_resumed([], dead_for_days=7) == []
