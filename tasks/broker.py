"""What waits in Redis, for a page that shows it, and the mark by which the reconciler sees that Redis was emptied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import redis
from kombu.transport.redis import Channel
from redis._parsers.base import BaseParser
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import Settings
from mlops.domain.errors import ConfigurationError
from mlops.redis_address import redis_client

UNROUTED = "unrouted"
QUEUES = ("control", "drift", "train.cpu", "train.gpu", "promote", UNROUTED)
"""As `worker.routing` has them, which stands above this package."""
HOOK_QUEUE = "hooks"
"""Of tasks of the user's that are asked something (`experiments.switch_hook`); a worker of the user's reads it."""
TIMEOUT_S = 1.0
COMES_BACK, FIRST_TURN = 0, 3
"""Celery's priorities of a stage's message; on Redis the least is served first. A stage that comes back keeps its
place: it goes before all that wait for their first turn. Two of Celery's default steps: every worker reads both."""


_PASSES = ("MISCONF", "READONLY", "UNBLOCKED", "MASTERDOWN", "NOREPLICAS", "BUSY", "TRYAGAIN", "CLUSTERDOWN")
"""Refusals of a Redis that is full, was the primary until a failover, or waits for its own; LOADING is known as one."""


def wait_while_redis_cannot_serve() -> None:
    """Have Redis' clients of this process take a Redis that refuses for a while for one that is away.

    One whose volume is full, or that became a replica, refuses every write, the read of a queue among them, which the
    library knows only as a refusal of the command: a worker ends by it. Like LOADING, it is over by itself, and a new
    connection finds the new primary.
    """
    for word in _PASSES:
        BaseParser.EXCEPTION_CLASSES[word] = redis.exceptions.BusyLoadingError


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
                    for one in lists_of(queue):
                        pipe.llen(one)
                lengths = iter(pipe.execute())
        except redis.RedisError as exc:
            return BrokerView(depths=None, error=f"Redis does not answer: {exc}")
        return BrokerView(depths={queue: sum(int(next(lengths)) for _ in lists_of(queue)) for queue in QUEUES})


def lists_of(queue: str) -> tuple[str, ...]:
    """Keys in Redis of the lists that a queue is made of, one a priority; kombu's names."""
    return (queue, f"{queue}{Channel.sep}{FIRST_TURN}")


# ---- Keys of the queues that somebody replaced by something else
#
# Redis refuses to read a queue from a key that is no list, and a worker ends by that refusal, again after each start.

_KINDS = {
    **{one: "list" for queue in QUEUES for one in lists_of(queue)},
    **{f"_kombu.binding.{queue}": "set" for queue in QUEUES},
    "unacked": "hash",
    "unacked_index": "zset",
}
_MUTEX = "unacked_mutex"
_ENDLESS = -1


def clear_replaced_keys(client: Any) -> list[str]:  # noqa: ANN401 -- a redis client of either decoding
    """Delete what stands in the place of a queue and is none; which. What is missing then is sent again.

    Raises RedisError.
    """
    replaced = [key for key, kind in _KINDS.items() if _text(client.type(key)) not in (kind, "none")]
    if client.ttl(_MUTEX) == _ENDLESS:  # kombu's own ends; while this one stands, nobody gives messages back
        replaced.append(_MUTEX)
    for key in replaced:
        client.delete(key)
    return replaced


def is_of_another_type(exc: redis.ResponseError) -> bool:
    """Whether Redis refused a command because of the type of its key."""
    return str(exc).startswith("WRONGTYPE") or ": WRONGTYPE " in str(exc)


# ---- A mark in Redis by which one sees that the server was emptied, or is another process than before
#
# It holds the server's `run_id`, which is new at each start, and the ledger's time at which it was set. It has no
# expiry: where it is gone, everything beside it is gone too; where it names another process, what was written since
# its time may be, whether the server lost a second of its append-only file or the hours since its last snapshot.

Change = Literal["none", "restarted", "emptied"]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A look at the server."""

    server: str
    """The process that answered."""
    change: Change
    """Since the mark was set."""
    marked_at: datetime | None
    """When it was set; None where it is gone."""


def look(client: Any, key: str) -> Seen:  # noqa: ANN401 -- a redis client of either decoding
    """What happened since `set_mark`. Raises RedisError."""
    server = _text(client.info("server")["run_id"])
    try:
        found = client.get(key)
        mark = None if found is None else json.loads(_text(found))
        marked_by, marked_at = (None, None) if mark is None else (mark["server"], datetime.fromisoformat(mark["at"]))
        if marked_at is not None and marked_at.tzinfo is None:
            marked_by = None
    except (ValueError, TypeError, KeyError, RecursionError, redis.ResponseError):
        marked_by = None  # nothing of ours
    if marked_by is None:
        return Seen(server=server, change="emptied", marked_at=None)
    return Seen(server=server, change="none" if marked_by == server else "restarted", marked_at=marked_at)


def set_mark(client: Any, key: str, seen: Seen, *, at: datetime) -> None:  # noqa: ANN401 -- as above
    """All that followed from what was seen has been done; `at`: the ledger's time before it was. Raises RedisError.

    It names the process that was seen: one that was restarted since shows at the next look.
    """
    client.set(key, json.dumps({"server": seen.server, "at": at.isoformat()}))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
