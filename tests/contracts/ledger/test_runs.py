from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlops.domain.errors import InvalidTransition, RunNotFound
from mlops.domain.records import Executor, Kind, RunState, Stage, StageOutcome, StageState
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import LEASE_S, MAX_ATTEMPTS, TimedLedger, accepted_and_sent, granted, request_for


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        (Kind.PIPELINE, Stage.DRIFT),
        (Kind.CHECK, Stage.DRIFT),
        (Kind.RETRAIN, Stage.TRAIN),
        (Kind.TRAIN, Stage.TRAIN),
        (Kind.PROMOTE, Stage.PROMOTE),
        (Kind.ROLLBACK, Stage.PROMOTE),
    ],
)
def test_an_accepted_run_is_queued_with_its_first_stage_to_be_published(
    ledger: SqlLedger, kind: Kind, stage: Stage
) -> None:
    accepted = ledger.accept(request_for(kind=kind))
    assert accepted.created
    assert accepted.state == RunState.QUEUED
    assert accepted.publication is not None
    assert (accepted.publication.stage, accepted.publication.publish_no) == (stage, 1)
    assert [view.stage for view in ledger.run(accepted.run_id).stages] == [stage]


def test_the_same_id_twice_is_one_run(ledger: SqlLedger) -> None:
    first = accepted_and_sent(ledger, request_for(run_id="r1"))
    again = ledger.accept(request_for(run_id="r1"))
    assert (again.run_id, again.created, again.publication) == (first.run_id, False, None)
    assert len(ledger.runs()) == 1


def test_a_run_that_was_never_published_is_published_by_the_second_request(ledger: SqlLedger) -> None:
    first = ledger.accept(request_for(run_id="r1"))
    again = ledger.accept(request_for(run_id="r1"))
    assert not again.created
    assert again.publication == first.publication


def test_a_claimed_run_is_not_published_by_the_second_request(ledger: SqlLedger) -> None:
    ledger.accept(request_for(run_id="r1"))
    granted(ledger, "r1")
    assert ledger.accept(request_for(run_id="r1")).publication is None


def test_one_slot_is_one_run_also_after_it_ended(ledger: SqlLedger) -> None:
    slot = "2026-11-23T03:00:00+00:00"
    first = ledger.accept(request_for(slot=slot))
    ledger.cancel(first.run_id, actor="test")
    again = ledger.accept(request_for(slot=slot))
    assert (again.run_id, again.created, again.state) == (first.run_id, False, RunState.CANCELLED)


def test_a_second_request_gets_the_active_run(ledger: SqlLedger) -> None:
    first = ledger.accept(request_for())
    again = ledger.accept(request_for(run_id="another", slot="s2"))
    assert (again.run_id, again.created, again.publication) == (first.run_id, False, None)


@pytest.mark.parametrize("change", [{"strategy": "value"}, {"kind": Kind.CHECK}, {"namespace": "replay-1"}])
def test_another_strategy_kind_or_namespace_is_not_in_the_way(ledger: SqlLedger, change: dict[str, Any]) -> None:
    ledger.accept(request_for())
    assert ledger.accept(request_for(**change)).created


def test_a_start_that_comes_again_after_the_run_it_was_answered_with_opens_none(ledger: SqlLedger) -> None:
    active = ledger.accept(request_for())
    first = ledger.accept(request_for(run_id="task-1"))
    assert (first.run_id, first.created) == (active.run_id, False)
    ledger.cancel(active.run_id, actor="test")
    again = ledger.accept(request_for(run_id="task-1"))
    assert (again.run_id, again.created, again.state) == (active.run_id, False, RunState.CANCELLED)
    assert again.publication is None
    assert len(ledger.runs()) == 1
    assert ledger.accept(request_for(run_id="task-2")).created  # another start is another run


def test_what_a_start_was_answered_with_is_forgotten_with_that_run(timed: TimedLedger) -> None:
    ledger = timed.ledger
    active = ledger.accept(request_for())
    ledger.accept(request_for(run_id="task-1"))
    ledger.cancel(active.run_id, actor="test")
    timed.advance(2 * 86_400.0)
    assert ledger.purge_runs(older_than_days=1.0) == 1
    assert ledger.accept(request_for(run_id="task-1")).created


def test_a_new_run_is_accepted_once_the_active_one_has_ended(ledger: SqlLedger) -> None:
    first = ledger.accept(request_for())
    ledger.cancel(first.run_id, actor="test")
    assert ledger.accept(request_for()).created


@pytest.mark.parametrize("kind", [Kind.ROLLBACK, Kind.COMPARE])
def test_a_rollback_or_a_comparison_is_never_blocked_by_another(ledger: SqlLedger, kind: Kind) -> None:
    first = ledger.accept(request_for(kind=kind))
    second = ledger.accept(request_for(kind=kind))
    assert second.created
    assert second.run_id != first.run_id


def test_an_inline_run_has_no_message(ledger: SqlLedger) -> None:
    accepted = ledger.accept(request_for(executor=Executor.INLINE))
    assert accepted.created
    assert accepted.publication is None
    assert granted(ledger, accepted.run_id).executor == Executor.INLINE


def test_a_strategy_name_is_data_and_never_sql(ledger: SqlLedger) -> None:
    name = "growth'; DROP TABLE mlops_run; --"
    run_id = ledger.accept(request_for(name)).run_id
    assert ledger.run(run_id).strategy == name


def test_cancelling_a_queued_run_ends_it_at_once(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    assert ledger.cancel(run_id, actor="anna") == RunState.CANCELLED
    view = ledger.run(run_id)
    assert (view.state, view.stages[0].state) == (RunState.CANCELLED, StageState.CANCELLED)
    assert view.outcome is not None
    assert "anna" in view.outcome["error"]
    assert ledger.claim(run_id, Stage.DRIFT, worker="w") is None


def test_cancelling_a_running_run_asks_its_worker_to_stop(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    grant = granted(ledger, run_id)
    assert not ledger.renew(grant).cancel
    assert ledger.cancel(run_id, actor="anna") == RunState.RUNNING
    assert ledger.renew(grant).cancel
    ended = ledger.finish(grant, StageOutcome(result={}, run_state=RunState.CANCELLED))
    assert (ended.run_state, ended.stage_state) == (RunState.CANCELLED, StageState.CANCELLED)


def test_a_run_that_waits_for_its_retry_is_cancelled_at_once(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    ledger.fail(granted(ledger, run_id), error="MLflow is away", retry=True, delay_s=600)
    assert ledger.cancel(run_id, actor="anna") == RunState.CANCELLED


def test_what_has_ended_cannot_be_cancelled(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    ledger.finish(granted(ledger, run_id), StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    with pytest.raises(InvalidTransition, match="succeeded cannot cancel"):
        ledger.cancel(run_id, actor="anna")


def test_cancelling_or_requeueing_an_unknown_run_says_so(ledger: SqlLedger) -> None:
    with pytest.raises(RunNotFound, match="nothing-like-it"):
        ledger.cancel("nothing-like-it", actor="anna")
    with pytest.raises(RunNotFound, match="nothing-like-it"):
        ledger.requeue("nothing-like-it", actor="anna")


def dead_run(timed: TimedLedger) -> str:
    run_id = accepted_and_sent(timed.ledger).run_id
    for _ in range(MAX_ATTEMPTS):
        granted(timed.ledger, run_id)
        timed.advance(LEASE_S + 1)
    assert timed.ledger.claim(run_id, Stage.DRIFT, worker="w") is None
    assert timed.ledger.run(run_id).state == RunState.DEAD
    return run_id


def test_a_dead_run_comes_back_with_fresh_attempts_and_a_new_number(timed: TimedLedger) -> None:
    run_id = dead_run(timed)
    publication = timed.ledger.requeue(run_id, actor="anna")
    assert (publication.run_id, publication.publish_no) == (run_id, 2)
    assert timed.ledger.run(run_id).state == RunState.QUEUED
    assert timed.ledger.pending_outcomes() == []
    grant = granted(timed.ledger, run_id)
    assert (grant.attempt, grant.token) == (1, MAX_ATTEMPTS + 1)
    timed.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    assert [message.state for message in timed.ledger.pending_outcomes()] == ["SUCCESS"]


def test_a_dead_run_stays_dead_while_another_of_its_kind_is_active(timed: TimedLedger) -> None:
    run_id = dead_run(timed)
    timed.ledger.accept(request_for())
    with pytest.raises(InvalidTransition, match="another run of its kind"):
        timed.ledger.requeue(run_id, actor="anna")
    assert timed.ledger.run(run_id).state == RunState.DEAD


def test_only_a_dead_run_can_be_requeued(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    with pytest.raises(InvalidTransition, match="is queued; only a dead run"):
        ledger.requeue(run_id, actor="anna")


def test_a_second_request_gets_the_active_run_and_not_one_that_ended(ledger: SqlLedger) -> None:
    for _ in range(5):
        ledger.cancel(ledger.accept(request_for()).run_id, actor="test")
    active = ledger.accept(request_for())
    assert ledger.accept(request_for()).run_id == active.run_id


def test_a_run_is_found_by_the_beginning_of_its_id(timed: TimedLedger) -> None:
    ledger = timed.ledger
    for run_id, strategy in (("ab12-1", "growth"), ("ab12-10", "value"), ("ab_%3", "momentum")):
        ledger.accept(replace(request_for(strategy), run_id=run_id))
    assert ledger.full_run_id("ab12-1") == "ab12-1"  # whole, although another one begins so
    assert ledger.full_run_id("ab12-10") == "ab12-10"
    assert ledger.full_run_id("ab_") == "ab_%3"  # no wildcards
    with pytest.raises(RunNotFound, match=r"'ab12' is the beginning of several runs' ids; give more of it: .*ab12-1"):
        ledger.full_run_id("ab12")
    for unknown in ("zz", "%", ""):
        with pytest.raises(RunNotFound, match="no run's id is or begins with"):
            ledger.full_run_id(unknown)
