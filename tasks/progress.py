"""Progress of running stages, shown as the Celery state of the run and told to whoever listens on Redis.

`AsyncResult(run_id).info` is then `{"stage", "done", "total", "unit", "left_s"}`. A copy for whoever waits; the
ledger has the same. A thread sends it, since a Redis that does not answer must not hold a training up.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import redis
import structlog
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendError
from celery.states import READY_STATES
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from config.settings import Settings
from mlops.domain.errors import ConfigurationError
from mlops.domain.records import KEPT_ID_LENGTH
from mlops.redis_address import redis_client

if TYPE_CHECKING:
    from celery import Celery

    from mlops.domain.ports import Progress
    from mlops.domain.records import Stage

log = structlog.get_logger(__name__)

PROGRESS = "PROGRESS"
EVERY_S = 1.0
_JOIN_S = 2.0


class ProgressTeller:
    """Context manager around a stage; sends the newest progress at most once in `every_s`."""

    def __init__(self, app: Celery, run_id: str, stage: Stage, *, every_s: float = EVERY_S) -> None:
        self._app, self._run_id, self._stage, self._every_s = app, run_id, stage, every_s
        self._newest: Progress | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The outcome is stored after this, so that progress is never the last word.
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=_JOIN_S)

    def report(self, progress: Progress) -> None:
        """Cheap: called once per boosting round. A stage that tells nothing needs no thread."""
        self._newest = progress
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name=f"progress-{self._run_id[:8]}", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        sent: Progress | None = None
        while not self._closed.wait(self._every_s):
            newest = self._newest
            if newest is not None and newest != sent:
                sent = newest
                store_progress(self._app, self._run_id, self._stage, newest, is_over=self._closed.is_set)


def store_progress(
    app: Celery, run_id: str, stage: Stage, progress: Progress, *, is_over: Callable[[], bool] = lambda: False
) -> None:
    """Write it, unless the run's outcome is there already or the stage is over. What cannot be stored is dropped."""
    body = {"stage": stage.value, **asdict(progress)}
    try:
        if isinstance(app.backend, RedisBackend):
            _store_in_redis(app.backend, run_id, body, is_over)
        elif app.backend.get_state(run_id) not in READY_STATES and not is_over():
            app.backend.store_result(run_id, body, PROGRESS)
    except (OperationalError, RedisError, BackendError) as exc:
        log.info("progress.not_shown", run_id=run_id, error=str(exc))


def _store_in_redis(backend: RedisBackend, run_id: str, body: dict[str, Any], is_over: Callable[[], bool]) -> None:
    """As Celery stores a state, but in one step with the look: an outcome that comes in between stays.

    Raises WatchError then: a worker that lost its lease may report beside the one that ends the run.
    """
    key = backend.get_key_for_task(run_id)
    with backend.client.pipeline() as pipe:
        pipe.watch(key)
        stored = pipe.get(key)
        if (stored is not None and backend.decode(stored)["status"] in READY_STATES) or is_over():
            return
        meta: dict[str, Any] = {
            "status": PROGRESS,
            "result": body,
            "traceback": None,
            "children": [],
            "date_done": None,
        }
        value = backend.encode(meta | {"task_id": run_id})
        pipe.multi()
        pipe.set(key, value, ex=backend.expires or None)  # type: ignore[attr-defined]  # the stubs lack it
        pipe.publish(key, value)
        pipe.execute()


# ---- Progress and ends of runs as the workers tell them, the moment they do: Redis' channel of each result
#
# A hint for who looks on; the ledger is the truth, and has the same some seconds later.


_CHANNELS = "celery-task-meta-*"
"""Where Celery publishes each result that it stores."""
_TOLD = ("stage", "done", "total", "unit", "left_s")
_LONGEST = 500
"""Characters of one progress; whoever may publish to Redis may tell of any."""
PAUSE_S = 2.0
"""After Redis was not there."""
LOOK_S = 0.5
"""How often it is looked whether to stop."""


@dataclass(frozen=True, kw_only=True)
class RunUpdate:
    """What was told of a run."""

    run_id: str
    progress: dict[str, Any] | None
    """`stage`, `done`, `total`, `unit`, `left_s`; None where the run has ended."""


class ProgressFeed(threading.Thread):
    """Calls `on_told` from a thread of its own until `stop`."""

    def __init__(self, settings: Settings, on_told: Callable[[RunUpdate], None]) -> None:
        super().__init__(name="progress-feed", daemon=True)
        self._url = settings.result_backend_url
        self._on_told = on_told
        self._stop_asked = threading.Event()
        self.is_connected = False

    def stop(self) -> None:
        """Within half a second."""
        self._stop_asked.set()

    def run(self) -> None:
        """Listen, and listen again after an outage."""
        if self._url is None:
            return
        while not self._stop_asked.is_set():
            try:
                self._listen(self._url.get_secret_value())
            except ConfigurationError as exc:
                log.warning("progress.feed_ended", error=str(exc), action="correct CELERY_RESULT_BACKEND")
                return
            except (redis.RedisError, OSError) as exc:
                if self.is_connected:
                    log.warning("progress.feed_lost", error=str(exc), next="it is tried again")
            self.is_connected = False
            self._stop_asked.wait(PAUSE_S)

    def _listen(self, url: str) -> None:
        client = redis_client(url, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0))
        with client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.psubscribe(_CHANNELS)
            self.is_connected = True
            while not self._stop_asked.is_set():
                message = pubsub.get_message(timeout=LOOK_S)
                told = _told(message) if message else None
                if told is not None:
                    self._on_told(told)


def _told(message: dict[str, Any]) -> RunUpdate | None:
    """None for what is no result of ours."""
    try:
        body = json.loads(message["data"])
        run_id, status, result = str(body["task_id"]), str(body["status"]), body.get("result")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None
    if len(run_id) > KEPT_ID_LENGTH:
        return None
    if status == PROGRESS and isinstance(result, dict):
        told = {name: result.get(name) for name in _TOLD}
        is_progress = all(value is None or isinstance(value, (str, int, float)) for value in told.values())
        return RunUpdate(run_id=run_id, progress=told) if is_progress and len(str(told)) < _LONGEST else None
    return RunUpdate(run_id=run_id, progress=None) if status in {"SUCCESS", "FAILURE"} else None
