"""What a stage's message does: it claims, waits for a ledger that is away, or passes the bell on. No broker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from celery import Task
from celery.exceptions import Reject, Retry
from kombu.exceptions import OperationalError

import tasks.base
from mlops.bootstrap import Services
from mlops.domain.errors import LedgerUnavailable
from mlops.domain.records import Grant, Kind, RunRequest, RunState, Stage, StageOutcome, StageState
from mlops.runs.request import run_request
from tasks.base import CLAIM_PAUSES_S, START_RETRY_S, FollowersRefused, perform, start
from tasks.payloads import StageMessage
from tests.support.ledgers import request_for
from tests.support.services import FakeServices


class FakeApp:
    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.is_down = False
        self.failed_chords: list[tuple[str, str]] = []
        self.backend = SimpleNamespace(
            chord_error_from_stack=lambda body, exc: self.failed_chords.append((body["task"], str(exc)))
        )

    def send_task(self, name: str, **options: Any) -> None:
        if self.is_down:
            raise OperationalError("connection refused")
        self.sent.append((name, options))


class Bell:
    """A message of an accepted run, and the task that got it."""

    def __init__(self, services: FakeServices) -> None:
        self.services, self.app, self.pauses = services, FakeApp(), list[float]()
        accepted = services.ledger.accept(request_for(kind=Kind.CHECK))
        self.run_id = accepted.run_id
        self.message = StageMessage(run_id=accepted.run_id, publish_no=1)
        self.request = SimpleNamespace(
            id="bell-1",
            hostname="drift@host",
            root_id=accepted.run_id,
            parent_id="parent",
            delivery_info={"routing_key": "drift"},
            timelimit=(960, 930),
            ignore_result=False,
        )
        self.is_draining = False

    def ring(self) -> dict[str, Any] | None:
        task = SimpleNamespace(request=self.request, app=self.app, name="drift.check")
        return perform(cast("Task[Any, Any]", task), Stage.DRIFT, self.message)

    @property
    def stage_state(self) -> StageState:
        return self.services.ledger.run(self.run_id).stages[0].state


def ended(_: Grant, __: object) -> StageOutcome:
    return StageOutcome(result={"verdict": "stable"}, run_state=RunState.SUCCEEDED)


@pytest.fixture
def bell(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> Bell:
    bell = Bell(services)
    monkeypatch.setattr(tasks.base, "process_services", lambda: services)
    monkeypatch.setattr(type(services), "stages", {Stage.DRIFT: ended})
    monkeypatch.setattr(tasks.base, "store_outcomes", lambda *_: [])
    monkeypatch.setattr(tasks.base, "is_draining", lambda: bell.is_draining)
    monkeypatch.setattr(tasks.base.time, "sleep", bell.pauses.append)
    return bell


def test_a_bell_is_claimed_worked_and_finished(bell: Bell) -> None:
    answer = bell.ring()
    assert answer is not None
    assert (answer["run_id"], answer["stage_state"], answer["run_state"]) == (bell.run_id, "succeeded", "succeeded")


def test_a_second_bell_finds_nothing_and_stores_nothing(bell: Bell) -> None:
    bell.ring()
    assert bell.ring() is None
    assert bell.request.ignore_result


def test_a_worker_that_drains_claims_nothing_and_rings_the_same_bell_for_another(bell: Bell) -> None:
    bell.is_draining = True
    assert bell.ring() is None
    assert bell.stage_state is StageState.QUEUED
    ((name, options),) = bell.app.sent
    assert (name, options["task_id"], options["queue"]) == ("drift.check", "bell-1", "drift")
    assert options["kwargs"] == {"run_id": bell.run_id, "publish_no": 1}
    assert (options["time_limit"], options["soft_time_limit"]) == (960, 930)
    assert bell.request.ignore_result


def test_a_bell_that_cannot_be_passed_on_is_left_to_the_reconciler(bell: Bell) -> None:
    bell.is_draining = bell.app.is_down = True
    assert bell.ring() is None
    assert bell.stage_state is StageState.QUEUED


def away(bell: Bell, monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    claim, tried = bell.services.ledger.claim, []

    def claimed(*arguments: Any, **options: Any) -> Grant | None:
        tried.append(1)
        if len(tried) <= times:
            raise LedgerUnavailable
        return claim(*arguments, **options)

    monkeypatch.setattr(bell.services.ledger, "claim", claimed)


def test_a_ledger_that_is_away_for_a_moment_is_waited_for(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    away(bell, monkeypatch, times=len(CLAIM_PAUSES_S))
    assert bell.ring() is not None
    assert bell.pauses == list(CLAIM_PAUSES_S)


def test_a_ledger_that_stays_away_is_given_up_and_the_bell_is_rung_again_later(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    away(bell, monkeypatch, times=len(CLAIM_PAUSES_S) + 1)
    with pytest.raises(LedgerUnavailable):
        bell.ring()
    assert bell.stage_state is StageState.QUEUED


def test_claims_whose_answers_are_lost_cost_neither_a_lease_nor_an_attempt(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, tried = bell.services.ledger.claim, list[Grant | None]()

    def claimed(*arguments: Any, **options: Any) -> Grant | None:
        tried.append(claim(*arguments, **options))
        if len(tried) <= 3:  # it is committed, and nobody hears of it
            raise LedgerUnavailable
        return tried[-1]

    monkeypatch.setattr(bell.services.ledger, "claim", claimed)
    answer = bell.ring()
    assert answer is not None
    assert answer["stage_state"] == "succeeded"
    assert [grant and grant.attempt for grant in tried] == [1, 1, 1, 1]


def test_a_worker_that_is_asked_to_end_does_not_wait_for_the_ledger(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, True])  # before the claim, and after it failed
    monkeypatch.setattr(tasks.base, "is_draining", lambda: next(asked))
    away(bell, monkeypatch, times=1)
    with pytest.raises(LedgerUnavailable):
        bell.ring()
    assert bell.pauses == []


def test_a_start_that_comes_again_after_its_runs_end_stores_the_outcome_again(
    bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Celery has stored STARTED over it.
    stored: list[str] = []
    monkeypatch.setattr(
        tasks.base, "store_outcomes", lambda _, messages: [stored.append(m.run_id) or m.run_id for m in messages]
    )
    task = cast("Task[Any, Any]", SimpleNamespace(request=bell.request, app=bell.app, name="drift.check"))
    request = request_for("value", run_id="bell-1")
    assert start(task, lambda _: request) is None
    assert stored == []
    bell.services.ledger.cancel("bell-1", actor="test")
    assert start(task, lambda _: request) is None
    assert stored == ["bell-1"]
    assert bell.request.ignore_result


# --------------------------------------------------------------------------- starts by name


class Caller:
    """A message that names a strategy, and the task that got it."""

    def __init__(self, services: FakeServices, **of_the_message: Any) -> None:
        self.services, self.error = services, cast("Exception", Retry())
        self.request = SimpleNamespace(id="start-1", ignore_result=False, **of_the_message)
        self.retried: list[tuple[Exception, int]] = []
        self.app, self.name = FakeApp(), "drift.check"

    def retry(self, *, exc: Exception, countdown: int) -> NoReturn:
        self.retried.append((exc, countdown))
        raise self.error

    def ask(self) -> dict[str, Any] | None:
        def asked(services: Services) -> RunRequest:
            return run_request(
                services.policies, "growth", Kind.CHECK, reason="by name", requested_by="test", run_id=self.request.id
            )

        return start(cast("Task[Any, Any]", self), asked)


@pytest.mark.parametrize("called", ["policy_edits", "accept"])
def test_a_start_that_finds_the_ledger_away_anywhere_comes_again(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    monkeypatch.setattr(tasks.base, "process_services", lambda: services)
    caller = Caller(services)

    def away(*_: Any, **__: Any) -> NoReturn:
        raise LedgerUnavailable("the ledger takes no writes now")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(services.ledger, called, away)
        with pytest.raises(Retry):
            caller.ask()
    ((cause, countdown),) = caller.retried
    assert (str(cause), countdown) == ("the ledger takes no writes now", START_RETRY_S)
    assert caller.ask() is None
    assert services.ledger.run("start-1").state is RunState.QUEUED


def test_a_start_that_can_neither_be_kept_nor_sent_again_stays_in_the_queue(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.base, "process_services", lambda: services)
    caller = Caller(services)
    caller.error = Reject("Redis is out of memory", requeue=False)  # Celery's own answer, by which it would be lost

    def away(*_: Any, **__: Any) -> NoReturn:
        raise LedgerUnavailable

    monkeypatch.setattr(services.ledger, "accept", away)
    with pytest.raises(Reject) as refused:
        caller.ask()
    assert refused.value.requeue


@pytest.mark.parametrize(
    ("follower", "words"),
    [
        ({"chain": [{"task": "model.train"}]}, "the rest of a chain cannot follow it"),
        ({"chord": {"task": "model.train"}}, "a chord cannot follow it"),
        ({"callbacks": [{"task": "mine"}]}, "a link cannot follow it"),
        ({"errbacks": [{"task": "mine"}]}, "a link_error cannot follow it"),
    ],
)
def test_what_would_follow_before_the_run_has_ended_is_refused_with_the_way_out(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, follower: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(tasks.base, "process_services", lambda: services)
    caller = Caller(services, **follower)
    with pytest.raises(FollowersRefused, match=f"{words}; send it alone, wait for its result") as refused:
        caller.ask()
    assert services.ledger.runs() == []
    # Whoever waits for a chord's body is told so without Celery's script.
    assert caller.app.failed_chords == ([("model.train", str(refused.value))] if "chord" in follower else [])
