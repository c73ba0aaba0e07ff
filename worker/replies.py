"""What the gone leave in Redis: answers to `inspect` whose asker has gone, and the entries of killed workers.

An asker reads its own queue and takes it away, and a worker its entry. One that dies, or is cut off, leaves it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.transport.redis import Channel
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError

from mlops.domain.ports import Ledger
from mlops.domain.records import place_of
from worker.routing import UNROUTED

# ---- A connection to the broker for whoever has other work too


def impatient_connection(app: Celery) -> Connection:
    """A connection that gives up after a second try: a pass has work that needs no Redis."""
    options = {"socket_timeout": 5, "socket_connect_timeout": 3, "max_retries": 1}
    return app.connection_for_write(transport_options=options)


_REPLIES = "reply.celery.pidbox"
"""Exchange of the answers, and the end of their queues' names."""
_LETTERS_LOOKED_AT = 100
#: An asker waits for some seconds.
KEPT_S = 600


def drop_late_replies(app: Celery) -> int:
    """Take answers that came after their asker had gone out of the dead letters; how many."""
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            letters = channel.client.lrange(UNROUTED, 0, _LETTERS_LOOKED_AT - 1)
            return sum(int(channel.client.lrem(UNROUTED, 1, letter)) for letter in letters if _is_reply(letter))
    except (OperationalError, RedisError, OSError):
        return 0


def let_replies_expire(app: Celery) -> int:
    """Give every queue of answers an end in ten minutes, unless it has one; how many there are. With Redis down: 0."""
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            queues = list(channel.client.scan_iter(match=f"*.{_REPLIES}", count=1000))
            for queue in queues:
                channel.client.expire(queue, KEPT_S, nx=True)
            return len(queues)
    except (OperationalError, RedisError, OSError):
        return 0


_BINDINGS = "_kombu.binding.celery.pidbox"
"""Set in Redis of all who are told what is asked of every worker; a worker enters itself under its name."""
_GONE_AFTER_S = 86_400.0


def drop_bindings_of_the_gone(app: Celery, ledger: Ledger, *, alive: Collection[str]) -> int:
    """Take out the entries of workers that were not seen for a day; how many. With Redis down: 0.

    Nothing is sent by them; but each start of a worker has a name of its own, so that they would become ever more.
    """
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            entries = {_worker_in(one): one for one in map(bytes_to_str, channel.client.smembers(_BINDINGS))}
            silent = {name for name in entries if name not in alive and place_of(name) != name}
            if not silent:
                return 0
            silent -= {worker.name for worker in ledger.workers(within_s=_GONE_AFTER_S)}
            return int(channel.client.srem(_BINDINGS, *(entries[name] for name in silent))) if silent else 0
    except (OperationalError, RedisError, OSError):
        return 0


def _worker_in(entry: str) -> str:
    """Name of the worker in an entry of `_BINDINGS`: `NAME.celery.pidbox`, behind a key and a pattern."""
    return entry.rpartition(Channel.sep)[2].removesuffix(".celery.pidbox")


def _is_reply(letter: str | bytes) -> bool:
    try:
        return bool(json.loads(letter)["properties"]["delivery_info"]["exchange"] == _REPLIES)
    except (ValueError, KeyError, TypeError):
        return False
