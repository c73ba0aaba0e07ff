"""Progress and ends of runs as the workers tell them, the moment they do: Redis' channel of each result.

A hint for who looks on; the ledger is the truth, and has the same some seconds later.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import Settings
from mlops.domain.errors import ConfigurationError
from mlops.redis_address import redis_client
from tasks.progress import PROGRESS

log = structlog.get_logger(__name__)

CHANNELS = "celery-task-meta-*"
"""Where Celery publishes each result that it stores."""
PAUSE_S = 2.0
"""After Redis was not there."""
LOOK_S = 0.5
"""How often it is looked whether to stop."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What was told of a run."""

    run_id: str
    progress: dict[str, Any] | None
    """`stage`, `done`, `total`, `unit`, `left_s`; None where the run has ended."""


class ProgressFeed(threading.Thread):
    """Calls `on_told` from a thread of its own until `stop`."""

    def __init__(self, settings: Settings, on_told: Callable[[Told], None]) -> None:
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
            pubsub.psubscribe(CHANNELS)
            self.is_connected = True
            while not self._stop_asked.is_set():
                message = pubsub.get_message(timeout=LOOK_S)
                told = _told(message) if message else None
                if told is not None:
                    self._on_told(told)


def _told(message: dict[str, Any]) -> Told | None:
    """None for what is no result of ours."""
    try:
        body = json.loads(message["data"])
        run_id, status = str(body["task_id"]), body["status"]
    except (KeyError, TypeError, ValueError):
        return None
    if status == PROGRESS and isinstance(body.get("result"), dict):
        return Told(run_id=run_id, progress=body["result"])
    return Told(run_id=run_id, progress=None) if status in {"SUCCESS", "FAILURE"} else None
