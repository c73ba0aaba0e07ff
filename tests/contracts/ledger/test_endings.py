from __future__ import annotations

from datetime import date

import pytest

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import Executor, Kind, RunState, Stage, StageOutcome, StageState
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import (
    LEASE_S,
    MAX_ATTEMPTS,
    TimedLedger,
    accepted_and_sent,
    decision_for,
    granted,
    request_for,
)


def through(ledger: SqlLedger, run_id: str) -> None:
    """Drift and train, so that promote waits."""
    drift = granted(ledger, run_id, task_id="t-drift")
    ledger.finish(
        drift,
        StageOutcome(
            result={"verdict": "drifted"},
            run_state=None,
            next_stage=Stage.TRAIN,
            as_of=date(2020, 3, 16),
            drift_report={"summary": {"drift_detected": True}},
        ),
    )
    train = granted(ledger, run_id, Stage.TRAIN)
    ledger.finish(train, StageOutcome(result={"version": "7"}, run_state=None, next_stage=Stage.PROMOTE))


def test_a_finished_stage_opens_the_next_with_its_result_and_date(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    outcome = StageOutcome(
        result={"verdict": "drifted"}, run_state=None, next_stage=Stage.TRAIN, as_of=date(2020, 3, 16)
    )
    finished = ledger.finish(granted(ledger, run_id, task_id="t-drift"), outcome)
    assert (finished.run_state, finished.stage_state) == (RunState.RUNNING, StageState.SUCCEEDED)
    assert finished.publication is not None
    assert (finished.publication.stage, finished.publication.publish_no) == (Stage.TRAIN, 1)
    assert finished.publication.previous_task_id == "t-drift"
    train = granted(ledger, run_id, Stage.TRAIN)
    assert (train.inputs, train.as_of) == ({"drift": {"verdict": "drifted"}}, date(2020, 3, 16))


def test_an_as_of_date_that_was_asked_for_is_not_overwritten(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger, request_for(as_of=date(2019, 12, 13))).run_id
    ledger.finish(
        granted(ledger, run_id), StageOutcome(result={}, run_state=RunState.SUCCEEDED, as_of=date(2020, 3, 16))
    )
    assert ledger.run(run_id).as_of == date(2019, 12, 13)


def test_the_outcome_tells_the_whole_run(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    through(ledger, run_id)
    promote = granted(ledger, run_id, Stage.PROMOTE)
    assert promote.inputs == {"drift": {"verdict": "drifted"}, "train": {"version": "7"}}
    ledger.decide(promote, decision_for("7"))
    ledger.finish(promote, StageOutcome(result={"decision": "promote"}, run_state=RunState.SUCCEEDED))
    (message,) = ledger.pending_outcomes()
    assert (message.run_id, message.state) == (run_id, "SUCCESS")
    assert message.body == {
        "run_id": run_id,
        "strategy": "growth",
        "kind": "pipeline",
        "state": "succeeded",
        "reason": "schedule",
        "stages": {
            "drift": {"verdict": "drifted"},
            "train": {"version": "7"},
            "promote": {"decision": "promote"},
        },
        "version": "7",
        "promoted": True,
        "reasons": ["better"],
        "error": None,
    }
    assert ledger.run(run_id).outcome == message.body


def test_a_refusal_is_a_success_with_reasons(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    through(ledger, run_id)
    promote = granted(ledger, run_id, Stage.PROMOTE)
    refusal = decision_for("7", decision="refuse", target_stage="Archived", reasons=("accuracy 0.51 < 0.70",))
    ledger.decide(promote, refusal)
    ledger.finish(promote, StageOutcome(result={}, run_state=RunState.REFUSED))
    (message,) = ledger.pending_outcomes()
    assert (message.state, message.body["state"], message.body["promoted"]) == ("SUCCESS", "refused", False)
    assert (message.body["version"], message.body["reasons"]) == ("7", ["accuracy 0.51 < 0.70"])


def test_a_permanent_error_fails_the_run_in_words(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    failed = ledger.fail(granted(ledger, run_id), error="the view lacks\x00 `date`", retry=False)
    assert (failed.run_state, failed.stage_state, failed.publication) == ("failed", "failed", None)
    (message,) = ledger.pending_outcomes()
    assert (message.state, message.body["error"]) == ("FAILURE", "the view lacks\ufffd `date`")


def test_a_retry_without_delay_is_published_at_once_with_the_next_number(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    back = ledger.fail(granted(ledger, run_id, task_id="t1"), error="crash", retry=True)
    assert (back.run_state, back.stage_state) == (RunState.RUNNING, StageState.QUEUED)
    assert back.publication is not None
    assert (back.publication.publish_no, back.publication.previous_task_id) == (2, "t1")
    assert granted(ledger, run_id).attempt == 2


def test_a_retry_with_delay_leaves_the_bell_to_the_reconciler(timed: TimedLedger) -> None:
    run_id = accepted_and_sent(timed.ledger).run_id
    back = timed.ledger.fail(granted(timed.ledger, run_id), error="away", retry=True, delay_s=60, counts=False)
    assert back.publication is None
    assert timed.ledger.due_publications({}) == []
    timed.advance(61)
    (publication,) = timed.ledger.due_publications({})
    assert publication.publish_no == 2


def test_an_outage_uses_up_no_attempt_and_an_error_does(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    for _ in range(MAX_ATTEMPTS + 2):
        grant = granted(ledger, run_id)
        assert grant.attempt == 1
        ledger.fail(grant, error="MLflow is away", retry=True, counts=False)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        grant = granted(ledger, run_id)
        assert grant.attempt == attempt
        last = ledger.fail(grant, error="out of memory", retry=True)
    assert (last.run_state, last.stage_state, last.publication) == ("dead", "dead", None)
    assert ledger.run(run_id).stages[0].error == "out of memory"


def test_a_drained_stage_goes_to_another_worker_in_the_same_attempt(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    released = ledger.release(granted(ledger, run_id), cause="drain")
    assert released.publication is not None
    again = granted(ledger, run_id, worker="w2")
    assert (again.attempt, again.token) == (1, 2)


def test_a_lost_pool_process_gives_back_only_what_its_message_held(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    granted(ledger, run_id, task_id="t1")
    assert ledger.worker_lost(run_id, Stage.DRIFT, task_id="another", cause="SIGKILL") is None
    back = ledger.worker_lost(run_id, Stage.DRIFT, task_id="t1", cause="SIGKILL")
    assert back is not None
    assert back.publication is not None
    assert ledger.worker_lost(run_id, Stage.DRIFT, task_id="t1", cause="SIGKILL") is None
    assert (granted(ledger, run_id).attempt, ledger.run(run_id).stages[0].error) == (2, "SIGKILL")


def test_the_last_lost_pool_process_makes_the_run_dead(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    for number in range(MAX_ATTEMPTS):
        granted(ledger, run_id, task_id=f"t{number}")
        back = ledger.worker_lost(run_id, Stage.DRIFT, task_id=f"t{number}", cause="SIGKILL")
    assert back is not None
    assert back.run_state == RunState.DEAD
    assert [message.body["error"] for message in ledger.pending_outcomes()] == ["SIGKILL"]


@pytest.mark.parametrize("retry", [True, False])
def test_a_run_asked_to_stop_ends_cancelled_whatever_its_stage_says(ledger: SqlLedger, *, retry: bool) -> None:
    run_id = accepted_and_sent(ledger).run_id
    grant = granted(ledger, run_id)
    ledger.cancel(run_id, actor="anna")
    ended = ledger.fail(grant, error="stopped", retry=retry)
    assert (ended.run_state, ended.stage_state, ended.publication) == ("cancelled", "cancelled", None)


def test_a_run_asked_to_stop_opens_no_next_stage(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    grant = granted(ledger, run_id)
    ledger.cancel(run_id, actor="anna")
    ended = ledger.finish(grant, StageOutcome(result={}, run_state=None, next_stage=Stage.TRAIN))
    assert (ended.run_state, ended.publication) == (RunState.CANCELLED, None)
    assert [stage.stage for stage in ledger.run(run_id).stages] == [Stage.DRIFT]


@pytest.mark.parametrize(
    "outcome",
    [
        StageOutcome(result={}, run_state=None),
        StageOutcome(result={}, run_state=RunState.SUCCEEDED, next_stage=Stage.TRAIN),
        StageOutcome(result={}, run_state=RunState.DEAD),
        StageOutcome(result={}, run_state=RunState.QUEUED),
    ],
)
def test_an_ending_that_is_none_is_refused_and_changes_nothing(ledger: SqlLedger, outcome: StageOutcome) -> None:
    run_id = accepted_and_sent(ledger).run_id
    grant = granted(ledger, run_id)
    with pytest.raises(InvalidTransition):
        ledger.finish(grant, outcome)
    assert ledger.run(run_id).stages[0].state == StageState.RUNNING


def test_nan_is_stored_as_null(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    outcome = StageOutcome(
        result={"psi": float("nan")}, run_state=RunState.SUCCEEDED, drift_report={"psi": float("inf")}
    )
    ledger.finish(granted(ledger, run_id), outcome)
    assert ledger.run(run_id).stages[0].result == {"psi": None}
    assert ledger.drift_reports("growth")[0]["psi"] is None


def test_an_inline_run_goes_on_without_messages(ledger: SqlLedger) -> None:
    run_id = ledger.accept(request_for(executor=Executor.INLINE)).run_id
    drift = granted(ledger, run_id)
    finished = ledger.finish(drift, StageOutcome(result={}, run_state=None, next_stage=Stage.TRAIN))
    assert finished.publication is None
    assert granted(ledger, run_id, Stage.TRAIN).executor == Executor.INLINE


def test_a_delivered_outcome_is_pending_no_more_until_it_is_lost(timed: TimedLedger) -> None:
    ledger = timed.ledger
    run_id = accepted_and_sent(ledger, request_for(kind=Kind.CHECK)).run_id
    ledger.finish(granted(ledger, run_id), StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    assert [message.run_id for message in ledger.pending_outcomes()] == [run_id]
    ledger.outcomes_delivered([run_id])
    assert ledger.pending_outcomes() == []
    assert ledger.redeliver_outcomes(within_s=LEASE_S) == 1
    assert [message.run_id for message in ledger.pending_outcomes()] == [run_id]
    ledger.outcomes_delivered([run_id])
    timed.advance(LEASE_S * 2)
    assert ledger.redeliver_outcomes(within_s=LEASE_S) == 0
