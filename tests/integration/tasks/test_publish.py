"""Bells: their ids, their queues, and a broker or ledger that does not answer. Nothing is sent anywhere."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError

from mlops.domain.errors import LedgerUnavailable
from mlops.domain.policies import ExecutionPolicy
from mlops.domain.records import Kind, Publication, Stage, WorkerBeat
from mlops.runs.request import run_request
from tasks.publish import (
    BROKER_PAUSE_S,
    GPU_KNOWN_S,
    TASK_OF_STAGE,
    CeleryDispatcher,
    publisher,
    queue_of,
    task_id_of,
    time_limits_of,
)
from tests.support.ledgers import request_for
from tests.support.services import FakeServices
from tests.support.waiting import wait_for

BELL = Publication(run_id="run-1", stage=Stage.TRAIN, publish_no=2, strategy="growth", device="auto")
bells = st.builds(
    Publication,
    run_id=st.text(min_size=1, max_size=36),
    stage=st.sampled_from(Stage),
    publish_no=st.integers(0, 1000),
    strategy=st.just("growth"),
    device=st.just("cpu"),
)


class FakeCelery:
    """Keeps what is sent, or fails as a broker that is down."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.tried = 0
        self.is_down = False

    def send_task(self, name: str, **options: Any) -> None:
        self.tried += 1
        if self.is_down:
            raise OperationalError("connection refused")
        self.sent.append((name, options))


class Bench:
    """A dispatcher on a fake client, with the test's time."""

    def __init__(self, services: FakeServices) -> None:
        self.services, self.celery, self.time = services, FakeCelery(), 0.0
        self.dispatcher = CeleryDispatcher(
            cast("Celery", self.celery), services, monotonic=lambda: self.time, note_after_s=0
        )

    def publication(self) -> Publication:
        """Of an accepted run."""
        publication = self.services.ledger.accept(request_for()).publication
        assert publication is not None
        return publication


@pytest.fixture
def bench(services: FakeServices) -> Iterator[Bench]:
    return Bench(services)


# --------------------------------------------------------------------------- ids and queues


@given(bells, bells)
def test_one_publication_has_one_id_and_another_another(one: Publication, other: Publication) -> None:
    assert task_id_of(one) == task_id_of(replace(one))
    same = (one.run_id, one.stage, one.publish_no) == (other.run_id, other.stage, other.publish_no)
    assert (task_id_of(one) == task_id_of(other)) is same


def test_the_id_is_on_the_wire_and_never_changes() -> None:
    namespace = uuid.UUID("5b7c6c1e-6f0e-4a53-9d0e-6a5c1f0d7a11")
    assert task_id_of(BELL) == str(uuid.uuid5(namespace, "run-1/train/2"))


def test_the_tasks_names_are_on_the_wire_and_never_change() -> None:
    assert TASK_OF_STAGE == {
        Stage.DRIFT: "drift.check",
        Stage.TRAIN: "model.train",
        Stage.PROMOTE: "model.promote",
        Stage.PREDICT: "predict.batch",
        Stage.SCORE: "live.score",
    }


@pytest.mark.parametrize(
    ("stage", "device", "gpu_alive", "queue"),
    [
        (Stage.DRIFT, "gpu", True, "drift"),
        (Stage.PROMOTE, "gpu", True, "promote"),
        (Stage.TRAIN, "cpu", True, "train.cpu"),
        (Stage.TRAIN, "auto", False, "train.cpu"),
        (Stage.TRAIN, "auto", True, "train.gpu"),
        (Stage.TRAIN, "gpu", False, "train.gpu"),
        (Stage.TRAIN, "gpu", True, "train.gpu"),
    ],
)
def test_a_stage_goes_to_the_queue_of_its_device(stage: Stage, device: str, queue: str, *, gpu_alive: bool) -> None:
    assert queue_of(stage, device, gpu_alive=gpu_alive) == queue


# --------------------------------------------------------------------------- sending


def test_a_stage_that_comes_back_goes_before_those_that_wait_for_their_first_turn(bench: Bench) -> None:
    assert bench.dispatcher.publish(replace(bench.publication(), keeps_its_place=True))
    assert bench.celery.sent[0][1]["priority"] == 0


def test_a_bell_carries_ids_alone_and_flowers_chain(bench: Bench) -> None:
    publication = replace(bench.publication(), previous_task_id="parent")
    assert bench.dispatcher.publish(publication)
    assert bench.celery.sent == [
        (
            "drift.check",
            {
                "kwargs": {"run_id": publication.run_id, "publish_no": publication.publish_no},
                "task_id": task_id_of(publication),
                "root_id": publication.run_id,
                "parent_id": "parent",
                "queue": "drift",
                "priority": 3,  # one of Celery's default steps on Redis, behind 0
                "retry": False,
                "soft_time_limit": 930,  # DEADLINE_S, 900 s, and 30
                "time_limit": 960,
            },
        )
    ]


def test_a_stage_with_a_longer_deadline_is_not_killed_before_it(bench: Bench) -> None:
    bench.services.with_policy(execution=ExecutionPolicy(train_deadline_s=7200.5))
    request = run_request(bench.services.strategies, "growth", Kind.TRAIN, reason="r", requested_by="t")
    publication = bench.services.ledger.accept(request).publication
    assert publication is not None
    bench.services.timed.advance(6)  # nobody confirms it, so it is handed out again
    (again,) = bench.services.ledger.due_publications()
    assert bench.dispatcher.publish(publication)
    assert bench.dispatcher.publish(again)
    limits = [(options["soft_time_limit"], options["time_limit"]) for _, options in bench.celery.sent]
    assert limits == [(7231, 7261), (7231, 7261)]


@pytest.mark.parametrize("policy", [ExecutionPolicy(), ExecutionPolicy(train_deadline_s=30.0)])
def test_the_lease_ends_before_the_exception_and_the_exception_before_the_kill(policy: ExecutionPolicy) -> None:
    soft_s, kill_s = time_limits_of(replace(BELL, deadline_s=policy.train_deadline_s))
    assert soft_s is not None
    assert kill_s is not None
    assert policy.train_deadline_s < soft_s < kill_s


def test_the_first_bells_parent_is_its_run(bench: Bench) -> None:
    publication = bench.publication()
    bench.dispatcher.publish(publication)
    assert bench.celery.sent[0][1]["parent_id"] == publication.run_id


def test_what_was_sent_is_noted_and_not_handed_out_again(bench: Bench) -> None:
    publication = bench.publication()
    bench.dispatcher.publish(publication)
    bench.services.timed.advance(6)
    assert bench.services.ledger.due_publications() == []
    (stage,) = bench.services.ledger.run(publication.run_id).stages
    assert stage.task_id == task_id_of(publication)


def test_a_broker_that_is_down_loses_nothing(bench: Bench) -> None:
    bench.celery.is_down = True
    publication = bench.publication()
    assert not bench.dispatcher.publish(publication)
    bench.services.timed.advance(6)
    assert [item.run_id for item in bench.services.ledger.due_publications()] == [publication.run_id]


def test_after_a_failure_nothing_is_tried_for_a_while(bench: Bench) -> None:
    bench.celery.is_down = True
    publication = bench.publication()
    for _ in range(100):
        assert not bench.dispatcher.publish(publication)
    assert bench.celery.tried == 1
    bench.celery.is_down = False
    bench.time = BROKER_PAUSE_S
    assert bench.dispatcher.publish(publication)


def test_a_ledger_that_cannot_note_it_leaves_a_message_that_was_sent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise LedgerUnavailable

    publication = bench.publication()
    monkeypatch.setattr(bench.services.ledger, "published", unavailable)
    assert bench.dispatcher.publish(publication)
    assert len(bench.celery.sent) == 1


def test_an_auto_training_goes_to_a_gpu_worker_seen_in_the_last_minute(bench: Bench) -> None:
    beat = WorkerBeat(
        name="train.gpu@host", role="train.gpu", queues=("train.gpu",), device="gpu", pid=1, host="host", concurrency=1
    )
    bench.services.ledger.worker_seen(beat)
    bench.dispatcher.publish(BELL)
    bench.services.timed.advance(61)
    bench.dispatcher.publish(BELL)
    bench.time = GPU_KNOWN_S  # looked up again
    bench.dispatcher.publish(BELL)
    assert [options["queue"] for _, options in bench.celery.sent] == ["train.gpu", "train.gpu", "train.cpu"]


def test_what_was_sent_is_noted_a_moment_later_and_together(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []
    published = services.ledger.published
    monkeypatch.setattr(services.ledger, "published", lambda sent: (published(sent), noted.append(len(sent))))
    dispatcher = CeleryDispatcher(cast("Celery", FakeCelery()), services, note_after_s=0.05)
    for name in ("growth", "value"):
        publication = services.ledger.accept(request_for(name)).publication
        assert publication is not None
        assert dispatcher.publish(publication)
    wait_for(lambda: sum(noted) == 2, "both are noted", every_s=0.01)
    assert noted == [2]
    services.timed.advance(6)  # what is not noted after 5 s is sent again
    assert services.ledger.due_publications({"drift": 2}) == []


def test_a_publisher_asks_for_no_results(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    # Celery reads this variable by itself; a backend would make every publication subscribe to its result.
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://elsewhere/1")
    app = publisher(services)
    assert type(app.backend).__name__ == "DisabledBackend"
    assert (app.conf.task_serializer, app.conf.accept_content) == ("json", ["json"])
