"""Turns a publication into a message on the right queue."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
from celery import Celery
from celery.states import READY_STATES, SUCCESS
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops import tracing
from mlops.domain.errors import TemporaryError
from mlops.domain.records import Publication, Sent, Stage
from mlops.failpoints import external_write
from mlops.runs.switching import NoAnswer
from tasks.broker import COMES_BACK, FIRST_TURN, HOOK_QUEUE, wait_while_redis_cannot_serve
from tasks.write_behind import AFTER_S, WriteBehind

if TYPE_CHECKING:
    from mlops.bootstrap import Services

log = structlog.get_logger(__name__)

TASK_OF_STAGE = {
    Stage.DRIFT: "drift.check",
    Stage.TRAIN: "model.train",
    Stage.PROMOTE: "model.promote",
    Stage.PREDICT: "predict.batch",
    Stage.SCORE: "live.score",
}
#: Short stages that read features, and load a model in a child at most.
_OF_DRIFT_QUEUE = (Stage.DRIFT, Stage.PREDICT, Stage.SCORE)
#: After a failure nothing is tried for so long: a pass over thousands of messages must not wait 3 s for each.
BROKER_PAUSE_S = 5.0
#: Whether a GPU worker lives is looked up this often; a message on the wrong queue is taken back by the reconciler.
GPU_KNOWN_S = 5.0
#: A stage that its lease did not end at the deadline is stopped so many seconds later, and killed so many.
SOFT_AFTER_S = 30
KILL_AFTER_S = 60
_LOOK_S = 0.05
"""Between two looks for the result of a task of the user's."""
_NAMESPACE = uuid.UUID("5b7c6c1e-6f0e-4a53-9d0e-6a5c1f0d7a11")


def task_id_of(publication: Publication) -> str:
    """Task id of a message: the same publication always gives the same id, another one another id."""
    return str(uuid.uuid5(_NAMESPACE, f"{publication.run_id}/{publication.stage}/{publication.publish_no}"))


def queue_of(stage: Stage, device: str, *, gpu_alive: bool) -> str:
    """Queue of a stage. `auto` trains on a GPU worker only while one is alive."""
    if stage in _OF_DRIFT_QUEUE:
        return "drift"
    if stage is Stage.PROMOTE:
        return "promote"
    wants_gpu = device == "gpu" or (device == "auto" and gpu_alive)
    return "train.gpu" if wants_gpu else "train.cpu"


def time_limits_of(publication: Publication) -> tuple[int | None, int | None]:
    """Celery's soft and hard limit: the stage's own deadline comes first, then the exception, then the kill.

    None where the publication has no deadline: then the task's own hold.
    """
    if publication.deadline_s is None:
        return None, None
    deadline_s = math.ceil(publication.deadline_s)
    return deadline_s + SOFT_AFTER_S, deadline_s + KILL_AFTER_S


class _SendingClient(Celery):
    """A client with a result backend subscribes to the result of everything it sends, so it fails with the backend
    and never forgets a subscription. Only this attribute keeps Celery from reading CELERY_RESULT_BACKEND itself.
    """

    backend_cls = "disabled://"


def publisher(services: Services) -> Celery:
    """A Celery client that only sends; it knows no tasks, only names."""
    wait_while_redis_cannot_serve()
    broker = services.settings.celery_broker_url
    return _SendingClient(
        "acis-publisher",
        broker=broker.get_secret_value() if broker else None,
        set_as_current=False,
        changes={
            "task_serializer": "json",
            "accept_content": ["json"],
            "broker_transport_options": {"socket_connect_timeout": 3, "socket_timeout": 10, "max_retries": 1},
            "broker_connection_retry": False,
            "task_send_sent_event": True,
            "task_create_missing_queues": True,
        },
    )


class CeleryDispatcher:
    """`mlops.domain.ports.Dispatcher` over Celery; one a process, `Services.dispatcher`."""

    def __init__(
        self,
        app: Celery,
        services: Services,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        note_after_s: float = AFTER_S,
    ) -> None:
        """`note_after_s`: how long the note that a message was sent may wait, with others.

        A stage that was claimed by then needs none. A process that dies before costs a second message, which finds
        nothing to claim.
        """
        self._app = app
        self._ledger = services.ledger
        self._settings = services.settings
        self._monotonic = monotonic
        self._silent_until = monotonic()
        self._gpu_seen, self._gpu_looked_at = False, float("-inf")
        self._notes = WriteBehind(self._note, after_s=note_after_s)

    def publish(self, publication: Publication) -> bool:
        """Send the message and note it; False where the broker does not answer (the reconciler sends it)."""
        if self._monotonic() < self._silent_until:
            return False
        task_id = task_id_of(publication)
        try:
            gpu_alive = publication.device == "auto" and publication.stage is Stage.TRAIN and self._gpu_alive()
            queue = queue_of(publication.stage, publication.device, gpu_alive=gpu_alive)
            self._send(publication, queue=queue, task_id=task_id)
        except OperationalError as exc:
            self._silent_until = self._monotonic() + BROKER_PAUSE_S
            log.warning(
                "stage.not_published", run_id=publication.run_id, error=str(exc), next="the reconciler sends it"
            )
            return False
        except TemporaryError as exc:
            log.warning(
                "stage.not_published", run_id=publication.run_id, error=str(exc), next="the reconciler sends it"
            )
            return False
        self._notes.add(Sent(publication=publication, queue=queue, task_id=task_id))
        return True

    def ask(self, name: str, arguments: Mapping[str, Any], timeout_s: float) -> object:
        """Result of a task of the user's, which a worker of the user's takes from `HOOK_QUEUE`. Raises NoAnswer."""
        task_id = str(uuid.uuid4())
        until = self._monotonic() + timeout_s
        results: Any = self._results.backend  # a key-value store, whatever the stubs say
        key = results.get_key_for_task(task_id)
        try:
            self._app.send_task(
                name, kwargs=dict(arguments), task_id=task_id, queue=HOOK_QUEUE, retry=False, expires=timeout_s
            )
            while self._monotonic() < until:
                answer = results.get(key)
                if answer is not None and (state := json.loads(answer))["status"] in READY_STATES:
                    results.delete(key)
                    if state["status"] != SUCCESS:
                        raise NoAnswer(f"the task ended as {state['status']}")
                    return state["result"]
                time.sleep(_LOOK_S)
        except (OperationalError, RedisError, TemporaryError, ValueError, KeyError, TypeError) as exc:
            raise NoAnswer(f"the broker or its results: {type(exc).__name__}: {exc}") from exc
        raise NoAnswer(f"none within {timeout_s:g} s; a worker of yours takes it from queue {HOOK_QUEUE!r}")

    @cached_property
    def _results(self) -> Celery:
        """A client that reads results, and subscribes to none: it looks for the one that it waits for."""
        backend = self._settings.result_backend_url
        if backend is None:
            raise NoAnswer("no result backend is configured; set CELERY_RESULT_BACKEND")
        return Celery("acis-hooks", backend=backend.get_secret_value(), set_as_current=False)

    def flush(self) -> None:
        """Note now what was sent."""
        self._notes.flush()

    def _send(self, publication: Publication, *, queue: str, task_id: str) -> None:
        soft_s, kill_s = time_limits_of(publication)
        name, parent = f"enqueue {TASK_OF_STAGE[publication.stage]}", publication.traceparent
        sending = tracing.traced(name, kind="PRODUCER", parent=parent, run_id=publication.run_id, queue=queue)
        with external_write("publish.send"), sending:
            self._app.send_task(
                TASK_OF_STAGE[publication.stage],
                kwargs={"run_id": publication.run_id, "publish_no": publication.publish_no},
                task_id=task_id,
                # Flower's chain: the run is the root, the earlier stage's message the parent.
                root_id=publication.run_id,
                parent_id=publication.previous_task_id or publication.run_id,
                queue=queue,
                priority=COMES_BACK if publication.keeps_its_place else FIRST_TURN,
                retry=False,
                soft_time_limit=soft_s,
                time_limit=kill_s,
                **tracing.carried(parent),
            )

    def _note(self, sent: list[Sent]) -> None:
        try:
            self._ledger.published(sent)
        except TemporaryError as exc:
            runs = [one.publication.run_id for one in sent]
            log.warning("stage.publication_not_noted", run_ids=runs, error=str(exc), next="they may be sent again")

    def _gpu_alive(self) -> bool:
        now = self._monotonic()
        if now >= self._gpu_looked_at + GPU_KNOWN_S:
            self._gpu_seen = any("train.gpu" in worker.queues for worker in self._ledger.workers(within_s=60.0))
            self._gpu_looked_at = now
        return self._gpu_seen
