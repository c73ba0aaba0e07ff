from __future__ import annotations

import pytest

from mlops.domain.errors import LeaseLost
from mlops.domain.records import Executor, RunState, Sent, Stage, StageOutcome, StageState
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import (
    DEADLINE_S,
    LEASE_S,
    MAX_ATTEMPTS,
    TimedLedger,
    accepted_and_sent,
    granted,
    request_for,
)


def numbers(ledger: SqlLedger, queue_lengths: dict[str, int] | None = None) -> dict[str, int]:
    return {due.run_id: due.publish_no for due in ledger.due_publications(queue_lengths)}


def sent_again(ledger: SqlLedger, queue_lengths: dict[str, int], *, queue: str = "drift") -> list[str]:
    """Run ids in the order they were handed out, each confirmed."""
    due = ledger.due_publications(queue_lengths)
    for publication in due:
        task_id = f"task-{publication.run_id}-{publication.publish_no}"
        ledger.published([Sent(publication=publication, queue=queue, task_id=task_id)])
    return [publication.run_id for publication in due]


def test_an_unconfirmed_message_is_handed_out_again_after_5_s_with_the_next_number(timed: TimedLedger) -> None:
    run_id = timed.ledger.accept(request_for()).run_id
    assert numbers(timed.ledger) == {}
    timed.advance(6)
    assert numbers(timed.ledger) == {run_id: 2}
    assert numbers(timed.ledger) == {}, "the second reconciler of the same moment sends nothing"
    timed.advance(6)
    assert numbers(timed.ledger) == {run_id: 3}


def test_a_confirmed_message_is_left_alone_while_the_broker_says_nothing(timed: TimedLedger) -> None:
    accepted_and_sent(timed.ledger)
    timed.advance(3600)
    assert numbers(timed.ledger, None) == {}


def test_a_late_confirmation_of_an_old_number_does_not_count(timed: TimedLedger) -> None:
    accepted = timed.ledger.accept(request_for())
    assert accepted.publication is not None
    timed.advance(6)
    assert numbers(timed.ledger) == {accepted.run_id: 2}
    timed.ledger.published([Sent(publication=accepted.publication, queue="drift", task_id="old")])
    timed.advance(6)
    assert numbers(timed.ledger) == {accepted.run_id: 3}


def test_an_expired_lease_goes_back_to_the_queue_with_the_attempt_counted(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    granted(timed.ledger, run_id, worker="w-lost")
    assert numbers(timed.ledger) == {}
    timed.advance(LEASE_S + 1)
    assert numbers(timed.ledger) == {run_id: 2}
    stage = timed.ledger.run(run_id).stages[0]
    assert (stage.state, stage.attempt) == (StageState.QUEUED, 2)
    assert stage.error is not None
    assert "w-lost" in stage.error
    assert granted(timed.ledger, run_id).attempt == 2


def test_the_last_expired_lease_makes_the_run_dead(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    for _ in range(MAX_ATTEMPTS):
        granted(timed.ledger, run_id)
        timed.advance(LEASE_S + 1)
        published = numbers(timed.ledger)
    assert published == {}
    assert timed.ledger.run(run_id).state == RunState.DEAD
    assert [message.state for message in timed.ledger.pending_outcomes()] == ["FAILURE"]


def test_an_expired_stage_of_a_run_asked_to_stop_is_cancelled(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    granted(timed.ledger, run_id)
    timed.ledger.cancel(run_id, actor="anna")
    timed.advance(LEASE_S + 1)
    assert numbers(timed.ledger) == {}
    assert timed.ledger.run(run_id).state == RunState.CANCELLED


def test_a_message_missing_from_a_short_queue_is_sent_again_after_60_s(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    timed.advance(59)
    assert numbers(timed.ledger, {"drift": 0}) == {}
    timed.advance(2)
    assert numbers(timed.ledger, {"drift": 1}) == {}, "the queue is as long as the ledger says"
    assert numbers(timed.ledger, {"drift": 0}) == {run_id: 2}


def test_repetitions_of_a_lost_message_double_their_distance_up_to_15_min(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    for wait in (60, 120, 240, 480, 900, 900):
        timed.advance(wait - 2)
        assert sent_again(timed.ledger, {"drift": 0}) == []
        timed.advance(4)
        assert sent_again(timed.ledger, {"drift": 0}) == [run_id]


def test_a_queue_gets_back_at_most_what_it_lacks_oldest_first(timed: TimedLedger) -> None:
    run_ids = []
    for name in ("a", "b", "c", "d"):
        run_ids.append(accepted_and_sent(timed.ledger, request_for(name)).run_id)
        timed.advance(1)
    timed.advance(60)
    assert sent_again(timed.ledger, {"drift": 2}) == run_ids[:2]
    assert sent_again(timed.ledger, {"drift": 4}) == []
    assert sent_again(timed.ledger, {"drift": 0}) == run_ids[2:]


def test_a_stage_that_comes_back_keeps_its_place_and_one_that_was_never_sent_has_none(timed: TimedLedger) -> None:
    ledger = timed.ledger
    first = ledger.accept(request_for("never sent")).publication
    assert first is not None
    assert not first.keeps_its_place
    timed.advance(6)
    assert [due.keeps_its_place for due in ledger.due_publications()] == [False]

    drained = granted(ledger, accepted_and_sent(ledger, request_for("drained")).run_id)
    retried = granted(ledger, accepted_and_sent(ledger, request_for("retried")).run_id)
    lost_child = granted(ledger, accepted_and_sent(ledger, request_for("lost child")).run_id, task_id="t")
    back = [
        ledger.release(drained, cause="drained"),
        ledger.fail(retried, error="crash", retry=True),
        ledger.worker_lost(lost_child.run_id, Stage.DRIFT, task_id="t", cause="killed"),
    ]
    assert [one.publication.keeps_its_place for one in back if one and one.publication] == [True, True, True]
    going_on = ledger.finish(
        granted(ledger, drained.run_id), StageOutcome(result={}, run_state=None, next_stage=Stage.TRAIN)
    )
    assert going_on.publication is not None
    assert not going_on.publication.keeps_its_place


def test_what_comes_back_is_handed_out_in_the_order_of_age_with_its_place(timed: TimedLedger) -> None:
    ledger = timed.ledger
    grants = []
    for name in ("oldest", "older", "old"):
        grants.append(granted(ledger, accepted_and_sent(ledger, request_for(name)).run_id))
        timed.advance(1)
    # The youngest is due first.
    for grant, delay_s in zip(grants, (30, 20, 10), strict=True):
        ledger.fail(grant, error="away", retry=True, delay_s=delay_s, counts=False)
    timed.advance(31)
    due = ledger.due_publications()
    assert [one.run_id for one in due] == [grant.run_id for grant in grants]
    assert all(one.keeps_its_place for one in due)


def test_a_lost_message_of_what_came_back_is_missed_before_those_that_wait_for_their_first_turn(
    timed: TimedLedger,
) -> None:
    ledger = timed.ledger
    waiting = accepted_and_sent(ledger, request_for("waits")).run_id
    timed.advance(1)
    back = ledger.release(granted(ledger, accepted_and_sent(ledger, request_for("back")).run_id), cause="drained")
    assert back.publication is not None
    ledger.published([Sent(publication=back.publication, queue="drift", task_id="again")])
    timed.advance(61)
    # One of the two is not in the queue: the first that a worker would have got.
    (again,) = ledger.due_publications({"drift": 1})
    assert (again.run_id, again.keeps_its_place) == (back.publication.run_id, True)
    (lost,) = [one for one in ledger.due_publications({"drift": 0}) if one.run_id == waiting]
    assert lost.keeps_its_place


def test_queues_are_counted_apart(timed: TimedLedger) -> None:
    one = accepted_and_sent(timed.ledger, request_for("a"), queue="drift").run_id
    accepted_and_sent(timed.ledger, request_for("b"), queue="train.cpu")
    timed.advance(61)
    assert numbers(timed.ledger, {"drift": 0, "train.cpu": 5}) == {one: 2}


def test_messages_of_a_deserted_queue_are_taken_back(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger, queue="train.gpu").run_id
    assert timed.ledger.reroute("train.cpu") == 0
    assert timed.ledger.reroute("train.gpu") == 1
    assert [(due.run_id, due.publish_no, due.keeps_its_place) for due in timed.ledger.due_publications()] == [
        (run_id, 2, True)
    ]


def test_a_lost_inline_run_is_failed_and_never_published(timed: TimedLedger) -> None:
    run_id = timed.ledger.accept(request_for(executor=Executor.INLINE)).run_id
    granted(timed.ledger, run_id)
    assert timed.ledger.fail_lost_inline() == 0
    timed.advance(LEASE_S + 1)
    assert numbers(timed.ledger, {}) == {}
    assert timed.ledger.fail_lost_inline() == 1
    view = timed.ledger.run(run_id)
    assert (view.state, view.stages[0].state) == (RunState.FAILED, StageState.FAILED)
    assert timed.ledger.fail_lost_inline() == 0


def test_an_inline_run_that_died_between_two_stages_is_failed_too(timed: TimedLedger) -> None:
    run_id = timed.ledger.accept(request_for(executor=Executor.INLINE)).run_id
    timed.ledger.finish(granted(timed.ledger, run_id), StageOutcome(result={}, run_state=None, next_stage=Stage.TRAIN))
    timed.advance(LEASE_S * 2)
    assert timed.ledger.fail_lost_inline() == 1
    assert timed.ledger.run(run_id).state == RunState.FAILED


def test_an_inline_run_that_waits_for_its_retry_is_left_alone(timed: TimedLedger) -> None:
    run_id = timed.ledger.accept(request_for(executor=Executor.INLINE)).run_id
    timed.ledger.fail(granted(timed.ledger, run_id), error="away", retry=True, delay_s=300)
    timed.advance(LEASE_S * 2)
    assert timed.ledger.fail_lost_inline() == 0


def test_a_pass_is_due_when_a_lease_falls_silent_or_runs_out_or_a_pause_ends(timed: TimedLedger) -> None:
    ledger = timed.ledger
    accepted_and_sent(ledger, request_for("waits"))
    assert ledger.due_after_s() == float("inf")
    held = granted(ledger, accepted_and_sent(ledger, request_for("held")).run_id)
    assert ledger.due_after_s() == pytest.approx(LEASE_S / 3, abs=2)
    timed.advance(LEASE_S / 3 + 1)
    assert ledger.due_after_s() == pytest.approx(LEASE_S * 2 / 3 - 1, abs=2)
    ledger.renew(held)
    assert ledger.due_after_s() == pytest.approx(LEASE_S / 3, abs=2)
    ledger.fail(held, error="away", retry=True, delay_s=9.0, counts=False)
    assert ledger.due_after_s() == pytest.approx(9.0, abs=2)


def test_one_reconciler_works_at_a_time(ledger: SqlLedger) -> None:
    with ledger.try_reconcile_lock() as mine:
        assert mine
        with ledger.try_reconcile_lock() as other:
            assert not other
    with ledger.try_reconcile_lock() as again:
        assert again


# --------------------------------------------------------------------------- a clock that goes back

HOUR_S = 3600.0


def test_a_dead_workers_lease_of_a_clock_that_was_ahead_runs_out_a_lease_after_it_is_back(timed: TimedLedger) -> None:
    timed.advance(2 * HOUR_S)
    run_id = accepted_and_sent(timed.ledger).run_id
    granted(timed.ledger, run_id)
    timed.advance(-2 * HOUR_S)
    assert timed.ledger.set_leases_back() == 1
    assert timed.ledger.set_leases_back() == 0
    assert numbers(timed.ledger) == {}
    timed.advance(LEASE_S + 1)
    assert numbers(timed.ledger) == {run_id: 2}


def test_a_stage_that_hangs_meets_its_deadline_by_the_clock_that_is_right(timed: TimedLedger) -> None:
    timed.advance(2 * HOUR_S)
    grant = granted(timed.ledger, accepted_and_sent(timed.ledger).run_id)
    timed.advance(-2 * HOUR_S)
    timed.ledger.renew(grant)  # the worker lives
    assert timed.ledger.set_leases_back() == 1
    timed.ledger.renew(grant)
    timed.advance(DEADLINE_S + 1)
    with pytest.raises(LeaseLost):
        timed.ledger.renew(grant)


def test_a_pause_of_a_clock_that_was_ahead_ends_with_it(timed: TimedLedger) -> None:
    timed.advance(2 * HOUR_S)
    grant = granted(timed.ledger, accepted_and_sent(timed.ledger).run_id)
    timed.ledger.fail(grant, error="MLflow is away", retry=True, delay_s=15.0, counts=False)
    timed.advance(-2 * HOUR_S)
    assert numbers(timed.ledger) == {}
    assert timed.ledger.set_leases_back() == 1
    assert numbers(timed.ledger) == {grant.run_id: 2}


def test_what_a_clock_that_is_right_gave_is_left_alone(timed: TimedLedger) -> None:
    ledger = timed.ledger
    held, waiting = granted(ledger, accepted_and_sent(ledger).run_id), accepted_and_sent(ledger, request_for("value"))
    for _ in range(6):  # its message is missed after 15 min, the longest pause
        timed.advance(901)
        sent_again(ledger, {})
    assert ledger.set_leases_back() == 0
    assert {held.run_id, waiting.run_id} == {view.run_id for view in ledger.runs()}
