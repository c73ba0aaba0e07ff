"""Workers' answers to `inspect` whose asker has gone: in the dead letters, and in queues that nobody reads any more.

An asker reads its own queue and takes it away. One that dies, or is cut off, meanwhile leaves it in Redis for ever.
"""

from __future__ import annotations

import json
from typing import Any

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

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


def _is_reply(letter: str | bytes) -> bool:
    try:
        return bool(json.loads(letter)["properties"]["delivery_info"]["exchange"] == _REPLIES)
    except (ValueError, KeyError, TypeError):
        return False
