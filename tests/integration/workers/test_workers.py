"""Runs on real workers: started by name, doubled, lost, killed, and with a Redis that is not there."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group, signature
from celery.exceptions import TimeoutError as NoOutcome
from pydantic import SecretStr

from config.settings import Settings
from devstack.ports import choose_port
from mlops.bootstrap import Services
from mlops.domain.errors import RunNotFound
from mlops.domain.records import Executor, Kind, Publication, RunRequest, RunState, Sent, Stage, StageState
from mlops.runs.request import run_request
from tasks import dispatch
from tasks.outcomes import RunFailed
from tasks.publish import task_id_of
from tasks.services import connect
from tests.integration.workers.conftest import DEADLINE_S, Workers, app_of, eventually
from tests.support.features import features_locked
from worker.reconciler import reconcile

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # by Celery's backend


@pytest.fixture
def without_redis(worker_settings: Settings) -> Iterator[Services]:
    """The same system as a process sees it while Redis is down."""
    nowhere = SecretStr(f"redis://127.0.0.1:{choose_port()}/0")
    settings = worker_settings.model_copy(update={"celery_broker_url": nowhere, "celery_result_backend": nowhere})
    services = connect(settings)
    yield services
    services.ledger.close()


def a_check(services: Services, **asked: Any) -> RunRequest:
    return run_request(services.strategies, "growth", Kind.CHECK, reason="a test", requested_by="test", **asked)


def reconciled(workers: Workers) -> None:
    reconcile(workers.app, workers.services)


# --------------------------------------------------------------------------- by name, with nothing but celery


def test_a_start_by_name_becomes_the_runs_outcome(workers: Workers) -> None:
    result = workers.start(strategy="growth", reason="from another code base")
    outcome = result.get(timeout=DEADLINE_S)
    assert (outcome["run_id"], outcome["strategy"], outcome["kind"]) == (result.id, "growth", "check")
    assert outcome["state"] == "succeeded"
    assert outcome["reason"] == "from another code base"
    assert outcome["stages"]["drift"]["n_current"] == 7 * 8  # 7 days of 8 tickers
    assert workers.run(result.id).state is RunState.SUCCEEDED


def test_flower_sees_the_bell_as_the_starts_child(workers: Workers) -> None:
    result = workers.start(strategy="growth")
    result.get(timeout=DEADLINE_S)
    workers.wait_idle()
    (stage,) = workers.run(result.id).stages
    bell = workers.caller.AsyncResult(str(stage.task_id))
    assert bell.status == "SUCCESS"
    assert bell.parent is None or bell.parent.id == result.id
    assert (bell.get()["run_id"], bell.get()["stage"]) == (result.id, "drift")


def test_the_same_message_twice_is_one_run(workers: Workers) -> None:
    task_id = str(uuid.uuid4())
    for _ in range(2):
        workers.caller.send_task(
            "drift.check", kwargs={"strategy": "growth", "check_only": True}, queue="control", task_id=task_id
        )
    outcome = workers.caller.AsyncResult(task_id).get(timeout=DEADLINE_S)
    workers.wait_idle()
    (stage,) = workers.run(task_id).stages
    assert (outcome["run_id"], stage.token) == (task_id, 1)


def test_a_start_that_comes_again_after_the_end_leaves_the_outcome(workers: Workers) -> None:
    first = workers.start(strategy="growth")
    outcome = first.get(timeout=DEADLINE_S)
    workers.caller.send_task(
        "drift.check", kwargs={"strategy": "growth", "check_only": True}, queue="control", task_id=first.id
    )
    workers.wait_idle()
    assert workers.caller.AsyncResult(first.id).get(timeout=DEADLINE_S) == outcome
    assert workers.run(first.id).stages[0].token == 1


def test_an_unknown_strategy_fails_in_words(workers: Workers) -> None:
    result = workers.start(strategy="growht")
    with pytest.raises(Exception, match="growht") as caught:
        result.get(timeout=DEADLINE_S)
    assert str(caught.value) == "strategy 'growht' is not known; one of: empty, growth"
    assert result.status == "FAILURE"


def test_a_misspelt_argument_fails_in_words(workers: Workers) -> None:
    result = workers.start(strategy="growth", treshold=0.3)
    with pytest.raises(Exception, match=r"drift.check: treshold: Extra inputs are not permitted; its arguments are"):
        result.get(timeout=DEADLINE_S)


def test_a_run_that_failed_raises_its_error_in_words(workers: Workers) -> None:
    result = workers.start(strategy="empty")
    with pytest.raises(RunFailed, match="strategy 'empty' has no rows in the feature view"):
        result.get(timeout=DEADLINE_S)
    assert workers.run(result.id).state is RunState.FAILED


def test_a_second_request_gets_the_run_that_is_active(workers: Workers) -> None:
    with features_locked(workers.features_url):
        first = workers.start(strategy="growth")
        eventually(workers.checking, "the check waits for the features")
        second = workers.start(strategy="growth").get(timeout=DEADLINE_S)
    assert second == {"run_id": first.id, "created": False, "state": "running"}
    assert first.get(timeout=DEADLINE_S)["state"] == "succeeded"


# --------------------------------------------------------------------------- lost and doubled bells


def test_a_message_that_was_never_sent_is_sent_by_the_reconciler(workers: Workers) -> None:
    accepted = workers.services.ledger.accept(a_check(workers.services))
    with pytest.raises(NoOutcome):
        workers.caller.AsyncResult(accepted.run_id).get(timeout=0.2)
    workers.advance(6)  # a publication that nobody confirms for 5 s is handed out again
    reconciled(workers)
    assert workers.caller.AsyncResult(accepted.run_id).get(timeout=DEADLINE_S)["state"] == "succeeded"
    assert workers.run(accepted.run_id).stages[0].publish_no == 2


def test_a_message_that_redis_lost_is_sent_again(workers: Workers) -> None:
    accepted = workers.services.ledger.accept(a_check(workers.services))
    assert accepted.publication is not None
    # It says that it was sent, and the queue is empty.
    sent = Sent(publication=accepted.publication, queue="drift", task_id=task_id_of(accepted.publication))
    workers.services.ledger.published([sent])
    workers.advance(61)  # a message may be missed from its queue after 60 s
    reconciled(workers)
    assert workers.caller.AsyncResult(accepted.run_id).get(timeout=DEADLINE_S)["state"] == "succeeded"


def test_a_bell_that_arrives_twice_does_nothing_the_second_time(workers: Workers) -> None:
    result = workers.start(strategy="growth")
    result.get(timeout=DEADLINE_S)
    workers.wait_idle()
    before = workers.run(result.id)
    (stage,) = before.stages
    bell = workers.caller.AsyncResult(str(stage.task_id))
    told = bell.get(timeout=DEADLINE_S)
    again = Publication(
        run_id=result.id, stage=Stage.DRIFT, publish_no=stage.publish_no, strategy="growth", device="cpu"
    )
    assert workers.services.dispatcher.publish(again)
    workers.wait_idle()
    after = workers.run(result.id)
    assert (after.stages[0].token, after.stages[0].finished_at) == (1, stage.finished_at)
    assert after.outcome == before.outcome
    assert workers.caller.AsyncResult(bell.id).get(timeout=DEADLINE_S) == told


# --------------------------------------------------------------------------- what follows a start


def test_a_chain_behind_a_start_is_refused_for_all_of_it_and_opens_no_run(workers: Workers) -> None:
    first, then = (
        signature("drift.check", kwargs={"strategy": "growth", "check_only": True}, app=workers.caller, queue=queue)
        for queue in ("control", "a queue that nobody serves")
    )
    result = chain(first, then.set(immutable=True)).apply_async()
    with pytest.raises(Exception, match="the rest of a chain cannot follow it; send it alone"):
        result.get(timeout=DEADLINE_S)
    with pytest.raises(RunNotFound):
        workers.run(result.parent.id)
    result.parent.forget()


def test_a_chord_over_starts_is_refused_and_its_body_does_not_start(workers: Workers) -> None:
    checks = [
        signature("drift.check", kwargs={"strategy": name, "check_only": True}, app=workers.caller, queue="control")
        for name in ("growth", "empty")
    ]
    body = signature("drift.check", kwargs={"strategy": "growth"}, app=workers.caller, queue="control", immutable=True)
    result = chord(checks, app=workers.caller)(body)
    with pytest.raises(Exception, match="a chord cannot follow it"):
        result.get(timeout=DEADLINE_S)
    with pytest.raises(RunNotFound):
        workers.run(result.id)
    result.parent.forget()


def test_a_group_of_starts_is_taken(workers: Workers) -> None:
    checks = [
        signature("drift.check", kwargs={"strategy": name, "check_only": True}, app=workers.caller, queue="control")
        for name in ("growth", "empty")
    ]
    result = group(checks, app=workers.caller).apply_async()
    of_growth, of_empty = result.results
    assert of_growth.get(timeout=DEADLINE_S)["state"] == "succeeded"
    with pytest.raises(RunFailed, match="has no rows"):
        of_empty.get(timeout=DEADLINE_S)


@pytest.mark.parametrize("way", ["link", "link_error"])
def test_a_callback_in_a_queue_of_the_callers_own_is_refused_with_the_start(workers: Workers, way: str) -> None:
    callback = signature("mine", app=workers.caller, queue="a queue of mine", immutable=True)
    result = workers.caller.send_task(
        "drift.check", kwargs={"strategy": "growth"}, queue="control", **{way: [callback]}
    )
    with pytest.raises(Exception, match=f"a {way} cannot follow it"):
        result.get(timeout=DEADLINE_S)


# --------------------------------------------------------------------------- death of a child


def test_a_killed_child_gives_its_lease_back_and_the_second_attempt_finishes(workers: Workers) -> None:
    with features_locked(workers.features_url):
        result = workers.start(strategy="growth")
        child = eventually(workers.checking, "the check waits for the features")
        eventually(lambda: workers.run(result.id).stages[0].state is StageState.RUNNING, "the stage is claimed")
        os.kill(child, signal.SIGKILL)
        # The clock stands: the lease has not run out, so the worker itself has told of the death.
        stage = eventually(
            lambda: next((stage for stage in workers.run(result.id).stages if stage.attempt == 2), None),
            "the lease is given back",
        )
        assert "SIGKILL" in str(stage.error)
    outcome = result.get(timeout=DEADLINE_S)
    (stage,) = workers.run(result.id).stages
    assert (outcome["state"], stage.token, stage.attempt) == ("succeeded", 2, 2)


# --------------------------------------------------------------------------- Redis is down


def test_a_run_asked_for_while_redis_is_down_is_accepted_and_starts_later(
    workers: Workers, without_redis: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: without_redis)
    accepted = dispatch.dispatch(a_check(without_redis))
    assert accepted.created
    assert dispatch.run_status(accepted.run_id).state is RunState.QUEUED
    workers.advance(6)
    reconciled(workers)
    assert dispatch.wait(accepted.run_id, timeout_s=DEADLINE_S).state is RunState.SUCCEEDED


def test_without_redis_the_reconciler_still_fails_inline_runs_that_died(
    workers: Workers, without_redis: Services
) -> None:
    accepted = workers.services.ledger.accept(a_check(workers.services, executor=Executor.INLINE))
    workers.services.ledger.claim(accepted.run_id, Stage.DRIFT, worker="inline@here")
    workers.advance(61)  # its lease of 60 s ran out
    reconcile(app_of(without_redis.settings), without_redis)
    view = workers.run(accepted.run_id)
    assert view.state is RunState.FAILED
    assert "stopped; start it again" in str(view.stages[0].error)
    # Its outcome waits for Redis, and is delivered when that answers.
    reconciled(workers)
    with pytest.raises(RunFailed, match="start it again"):
        workers.caller.AsyncResult(accepted.run_id).get(timeout=DEADLINE_S)


def test_the_reconciler_notes_who_is_alive_and_what_they_serve(workers: Workers) -> None:
    reconciled(workers)
    seen = {worker.role: worker.queues for worker in workers.services.ledger.workers(within_s=60.0)}
    assert seen == {"control": ("control",), "drift": ("drift",)}
