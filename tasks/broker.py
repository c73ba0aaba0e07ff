"""What waits in Redis, for a page that shows it; nothing rests on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import Settings
from mlops.errors import ConfigurationError
from mlops.redis_address import redis_client

UNROUTED = "unrouted"
QUEUES = ("control", "drift", "train.cpu", "train.gpu", "promote", UNROUTED)
"""As `worker.routing` has them, which stands above this package."""
TIMEOUT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class BrokerView:
    """One look."""

    depths: Mapping[str, int] | None
    """Messages by queue; None where Redis does not answer, or none is configured."""
    error: str = ""


class Broker:
    """Asks the broker, quickly or not at all. One a process."""

    def __init__(self, settings: Settings) -> None:
        url = settings.celery_broker_url
        self._client: redis.Redis | None = None
        self._error = "no broker is configured; set CELERY_BROKER_URL"
        if url is None:
            return
        try:
            self._client = redis_client(
                url.get_secret_value(),
                socket_connect_timeout=TIMEOUT_S,
                socket_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ConfigurationError as exc:
            self._error = f"CELERY_BROKER_URL: {exc}"

    def look(self) -> BrokerView:
        """How long each queue is."""
        if self._client is None:
            return BrokerView(depths=None, error=self._error)
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for queue in QUEUES:
                    pipe.llen(queue)
                lengths = pipe.execute()
        except redis.RedisError as exc:
            return BrokerView(depths=None, error=f"Redis does not answer: {exc}")
        return BrokerView(depths=dict(zip(QUEUES, map(int, lengths), strict=True)))
