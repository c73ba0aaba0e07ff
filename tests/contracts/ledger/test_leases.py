from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from mlops.domain.errors import LeaseLost
from mlops.domain.records import RunState, Stage, StageOutcome, StageState, WorkerBeat
from mlops.ledger.leases import new_key
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import (
    DEADLINE_S,
    LEASE_S,
    MAX_ATTEMPTS,
    POLICY,
    TimedLedger,
    accepted_and_sent,
    granted,
    request_for,
)


def test_a_claim_grants_the_stage_with_all_that_it_needs(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger, request_for(params={"version": "7"}, requested_by="anna")).run_id
    before = ledger.now()
    grant = granted(ledger, run_id, task_id="t1")
    assert (grant.token, grant.attempt, grant.publish_no) == (1, 1, 1)
    assert (grant.policy, grant.params, grant.inputs) == (POLICY, {"version": "7"}, {})
    assert timedelta(0) <= grant.lease_until - before - timedelta(seconds=LEASE_S) < timedelta(seconds=10)
    assert timedelta(0) <= grant.deadline - before - timedelta(seconds=DEADLINE_S) < timedelta(seconds=10)
    view = ledger.run(run_id)
    assert (view.state, view.stages[0].state) == (RunState.RUNNING, StageState.RUNNING)
    assert (view.stages[0].worker, view.stages[0].task_id) == ("w1", "t1")


def test_a_held_stage_is_granted_to_nobody_else(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    granted(ledger, run_id)
    assert ledger.claim(run_id, Stage.DRIFT, worker="w2") is None


def test_a_stage_that_does_not_exist_is_not_granted(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    assert ledger.claim(run_id, Stage.TRAIN, worker="w") is None
    assert ledger.claim("no such run", Stage.DRIFT, worker="w") is None


def test_a_stage_is_not_granted_before_it_is_due(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    timed.ledger.fail(granted(timed.ledger, run_id), error="away", retry=True, delay_s=120, counts=False)
    assert timed.ledger.claim(run_id, Stage.DRIFT, worker="w") is None
    timed.advance(121)
    assert granted(timed.ledger, run_id).attempt == 1


def test_an_expired_lease_is_claimed_as_the_next_attempt_with_a_higher_token(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    stale = granted(timed.ledger, run_id)
    timed.advance(LEASE_S + 1)
    fresh = granted(timed.ledger, run_id, worker="w2")
    assert (fresh.token, fresh.attempt) == (stale.token + 1, 2)


def test_a_stale_worker_writes_nothing(timed: TimedLedger) -> None:
    ledger = timed.ledger
    run_id = accepted_and_sent(ledger).run_id
    stale = granted(ledger, run_id)
    timed.advance(LEASE_S + 1)
    granted(ledger, run_id, worker="w2")
    before = ledger.run(run_id)
    with pytest.raises(LeaseLost, match="token 1"):
        ledger.renew(stale, progress={"done": 1})
    with pytest.raises(LeaseLost):
        ledger.finish(stale, StageOutcome(result={"x": 1}, run_state=RunState.SUCCEEDED, drift_report={"y": 1}))
    with pytest.raises(LeaseLost):
        ledger.fail(stale, error="late", retry=False)
    with pytest.raises(LeaseLost):
        ledger.fail(stale, error="late", retry=True)
    with pytest.raises(LeaseLost):
        ledger.release(stale, cause="late")
    with pytest.raises(LeaseLost):
        ledger.save_checkpoint(stale, {"round": 50})
    assert ledger.run(run_id) == before
    assert ledger.drift_reports("growth") == []
    assert ledger.pending_outcomes() == []


def test_renewing_keeps_the_stage_and_its_progress(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    grant = granted(timed.ledger, run_id)
    for done in range(3):
        timed.advance(LEASE_S - 10)
        renewal = timed.ledger.renew(grant, progress={"done": done, "total": 3})
        assert not renewal.cancel
        assert not renewal.drain
    assert timed.ledger.renew(grant).lease_until > timed.ledger.now()
    assert timed.ledger.claim(run_id, Stage.DRIFT, worker="w2") is None
    assert timed.ledger.run(run_id).stages[0].progress == {"done": 2, "total": 3}


def test_an_expired_lease_that_nobody_claimed_revives(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    grant = granted(timed.ledger, run_id)
    timed.advance(LEASE_S * 3)
    assert timed.ledger.renew(grant).lease_until > timed.ledger.now()
    timed.advance(LEASE_S * 3)
    assert timed.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED)).run_state == "succeeded"


def test_renewal_stops_at_the_deadline_so_that_a_hung_stage_frees_itself(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    grant = granted(timed.ledger, run_id)
    timed.advance(DEADLINE_S - 5)
    assert timed.ledger.renew(grant).lease_until == grant.deadline
    timed.advance(6)
    with pytest.raises(LeaseLost):
        timed.ledger.renew(grant)
    assert granted(timed.ledger, run_id, worker="w2").attempt == 2


def test_the_last_attempt_lost_makes_stage_and_run_dead_with_the_reason(timed: TimedLedger) -> None:
    ledger = timed.ledger
    run_id = accepted_and_sent(ledger).run_id
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert granted(ledger, run_id, worker="w-lost").attempt == attempt
        timed.advance(LEASE_S + 1)
    assert ledger.claim(run_id, Stage.DRIFT, worker="w") is None
    view = ledger.run(run_id)
    assert (view.state, view.stages[0].state) == (RunState.DEAD, StageState.DEAD)
    (message,) = ledger.pending_outcomes()
    assert (message.run_id, message.state, message.body["state"]) == (run_id, "FAILURE", "dead")
    assert "w-lost" in message.body["error"]


def test_a_worker_told_to_drain_hears_it_with_its_renewal(ledger: SqlLedger) -> None:
    beat = WorkerBeat(name="w1", role="drift", queues=("drift",), device="cpu", pid=1, host="h", concurrency=2)
    run_id = accepted_and_sent(ledger).run_id
    grant = granted(ledger, run_id, worker="w1")
    ledger.worker_seen(beat)
    assert not ledger.renew(grant).drain
    assert ledger.set_draining("w1")
    ledger.worker_seen(beat)
    assert ledger.renew(grant).drain
    assert not ledger.renew(grant, worker="another").drain


def test_a_checkpoint_reaches_the_next_grant(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    timed.ledger.save_checkpoint(granted(timed.ledger, run_id), {"round": 50, "digest": "sha256:1"})
    timed.advance(LEASE_S + 1)
    assert granted(timed.ledger, run_id).checkpoint == {"round": 50, "digest": "sha256:1"}


def test_an_expired_stage_of_a_run_asked_to_stop_is_not_granted_again(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    granted(timed.ledger, run_id)
    timed.ledger.cancel(run_id, actor="anna")
    timed.advance(LEASE_S + 1)
    assert timed.ledger.claim(run_id, Stage.DRIFT, worker="w2") is None
    view = timed.ledger.run(run_id)
    assert (view.state, view.stages[0].state, view.stages[0].token) == (RunState.CANCELLED, StageState.CANCELLED, 1)


def test_a_number_that_is_granted_a_second_time_fences_its_first_holder(timed: TimedLedger) -> None:
    ledger = timed.ledger
    run_id = accepted_and_sent(ledger).run_id
    forgotten = granted(ledger, run_id, worker="w1")
    with ledger.database.transaction() as connection:  # what a restore, or a failover, does to the ledger
        connection.execute(text("UPDATE mlops_stage SET token = 0, state = 'queued', lease_until = NULL"))
    anew = granted(ledger, run_id, worker="w2")
    assert anew.token == forgotten.token
    with pytest.raises(LeaseLost):
        ledger.renew(forgotten)
    with pytest.raises(LeaseLost):
        ledger.finish(forgotten, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    with pytest.raises(LeaseLost):
        ledger.save_checkpoint(forgotten, {})
    ledger.renew(anew)


def test_a_claim_whose_answer_was_lost_is_granted_to_its_own_next_try_without_an_attempt(timed: TimedLedger) -> None:
    ledger, key = timed.ledger, new_key()
    run_id = accepted_and_sent(ledger).run_id
    lost = granted(ledger, run_id, key=key)
    assert ledger.claim(run_id, Stage.DRIFT, worker="w2") is None
    found = granted(ledger, run_id, key=key)
    assert (found.token, found.attempt, found.key) == (lost.token + 1, 1, key)
    with pytest.raises(LeaseLost):
        ledger.renew(lost)
    assert ledger.finish(found, StageOutcome(result={}, run_state=RunState.SUCCEEDED)).run_state == "succeeded"
    assert ledger.claim(run_id, Stage.DRIFT, worker="w1", key=key) is None


def test_a_late_try_of_a_claim_does_not_take_the_stage_from_who_got_it_meanwhile(timed: TimedLedger) -> None:
    ledger, key = timed.ledger, new_key()
    run_id = accepted_and_sent(ledger).run_id
    granted(ledger, run_id, key=key)
    timed.advance(LEASE_S + 1)
    theirs = granted(ledger, run_id, worker="w2")
    assert ledger.claim(run_id, Stage.DRIFT, worker="w1", key=key) is None
    ledger.renew(theirs)


def test_a_claim_whose_answer_was_lost_is_not_granted_again_once_its_run_is_to_stop(timed: TimedLedger) -> None:
    ledger, key = timed.ledger, new_key()
    run_id = accepted_and_sent(ledger).run_id
    granted(ledger, run_id, key=key)
    ledger.cancel(run_id, actor="anna")
    assert ledger.claim(run_id, Stage.DRIFT, worker="w1", key=key) is None
