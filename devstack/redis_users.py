"""What each role may do in Redis: its own user, with the commands, keys and channels that were measured.

With these ACL LOG shows no refusal over `make run ONCE=1` and the workers' tests on Valkey 9.1, and over
tests/security/test_redis_holder.py on Redis 7.0 (docs/decisions/0052). Rules of Redis 7 and later: `%W~` may write a
key and not read it, and a pair of brackets is a second set of rules of which a command must meet all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

import redis

from config.roles import REDIS_USERS, RedisUser
from mlops.domain.errors import ConfigurationError
from mlops.redis_address import redis_client
from tasks.broker import HOOK_QUEUE, QUEUES

SET_UP_USER = "setup"
"""May do everything; used to set the server up, and given to no role."""

_PIDBOX, _REPLIES, _EVENTS = "/[0-9]*.celery.pidbox", "*.reply.celery.pidbox*", "/[0-9]*.celeryev/*"
_RESULTS = "celery-task-meta-*"
#: Queues of workers, by user.
_QUEUES_OF: Mapping[RedisUser, tuple[str, ...]] = {
    "control": ("control",),
    "drift": ("drift",),
    "train": ("train.cpu", "train.gpu"),
    "promote": ("promote",),
}

#: By category: `client|setinfo`, which clients send, is unknown to Redis 7.0. Tracking would tell all keys' names.
_CONNECTION = (
    "+@connection -@admin -@dangerous -client|tracking -client|caching +multi +exec +discard +watch +unwatch +info"
)
#: Sending to every queue and looking how long it is; nothing is taken out of one.
_SENDING = "+lpush +rpush +llen +smembers +exists +sadd"
#: Outcomes and progress of runs.
_STORING = f"(+get +mget +set +setex +del +expire +watch +publish ~{_RESULTS} &{_RESULTS})"
#: What was taken out and is not done yet, of all workers: whoever receives anything gives it back in its time.
_UNACKED = "(+hset +hget +hdel +zadd +zrem +zrange +watch +set +get +del ~unacked ~unacked_index ~unacked_mutex)"
_SUBSCRIBING = "+subscribe +psubscribe +unsubscribe +punsubscribe"


def rules(user: RedisUser, *, databases: Iterable[int] = (0,)) -> str:
    """What the user may do, in the words of Redis' ACL file, beside its password.

    databases : numbers that may hold the queues; a subscription by pattern is allowed in the very same words alone
    """
    if user == "operator":
        return "~* &* +@all -@admin -@dangerous -@scripting +info +keys"
    if user == "backend":
        keys = " ".join(f"%W~{one}" for one in _lists("control"))
        return (
            f"{_CONNECTION} {_SENDING} ~_kombu.binding.control ~_kombu.binding_permanent.control {keys} "
            f"(+get +mget ~{_RESULTS}) ({_SUBSCRIBING} &{_RESULTS})"
        )
    asked = [
        _CONNECTION,
        _SENDING,
        "~_kombu.binding*",
        *(f"%W~{one}" for queue in QUEUES for one in _lists(queue)),
        _STORING,
    ]
    if user == "drift":
        # It asks a task of the user's before the champion is switched.
        asked += [f"%W~{one}" for one in _lists(HOOK_QUEUE)]
    if user in _QUEUES_OF:
        asked += _consuming(_QUEUES_OF[user], databases)
    if user in ("flower", "reconciler"):
        asked += [
            f"(+publish &{_PIDBOX})",
            _UNACKED,
            f"(+brpop +lpush +del +pexpire +expire +exists +llen ~{_REPLIES})",
            "(+srem ~_kombu.binding*celery.pidbox* ~_kombu.binding*celeryev*)",
        ]
    if user == "flower":
        asked += [
            f"({_SUBSCRIBING} {' '.join(f'&/{n}.celeryev/*' for n in databases)} &{_RESULTS})",
            "(+llen +exists +pexpire +del ~celeryev.*)",
        ]
    if user == "reconciler":
        # SCAN tells the names of all keys; of other keyspaces, their values stay closed.
        asked += ["+scan", "(+get +set ~acis:*)", "(+lrange +lrem +ltrim ~unrouted)", f"(+publish &{_EVENTS})"]
        # What somebody put in the place of a queue is taken away.
        places = " ".join(f"~{one}" for queue in QUEUES for one in _lists(queue))
        asked += [f"(+type +ttl +del {places} ~_kombu.binding* ~unacked ~unacked_index ~unacked_mutex)"]
    if user == "admin":
        asked += [f"({_SUBSCRIBING} &{_RESULTS})"]
    if user in ("admin", "beat"):
        asked += [f"(+publish &{_EVENTS})"]
    return " ".join(asked)


def _lists(queue: str) -> tuple[str, str]:
    """Keys of a queue's lists: one of each priority beside the first; two characters stand between name and number."""
    return queue, f"{queue}??[0-9]"


def _consuming(queues: tuple[str, ...], databases: Iterable[int]) -> list[str]:
    own = " ".join(f"~{one}" for queue in queues for one in _lists(queue))
    return [
        f"(+brpop +lpush +rpush +llen {own})",
        _UNACKED,
        # Told what to do, and not telling others.
        f"({_SUBSCRIBING} {' '.join(f'&/{n}.celery.pidbox' for n in databases)})",
        "(+llen +exists +pexpire +del ~*@*.celery.pidbox*)",
        f"(+lpush +pexpire %W~{_REPLIES})",
        "(+srem ~_kombu.binding*celery.pidbox*)",
        f"(+publish &{_EVENTS})",
    ]


def acl_lines(password: str, passwords: Mapping[str, str], *, databases: Iterable[int] = (0,)) -> str:
    """The file of users that the server reads at its start; of passwords it holds digests.

    password : of SET_UP_USER
    passwords : of each of `config.roles.REDIS_USERS`
    """
    lines = ["user default off resetchannels -@all", f"user {SET_UP_USER} on #{_digest(password)} ~* &* +@all"]
    lines += [
        f"user {user} on #{_digest(passwords[user])} resetchannels -@all {rules(user, databases=databases)}"
        for user in REDIS_USERS
    ]
    return "\n".join(lines) + "\n"


def set_up_users(server_url: str, passwords: Mapping[str, str]) -> None:
    """Give a running Redis the users of the roles, and keep them in its file; safe to repeat.

    server_url : of a user that may do everything
    Raises ConfigurationError.
    """
    client = redis_client(server_url)
    try:
        with client:
            for user in REDIS_USERS:
                client.execute_command(
                    *("ACL", "SETUSER", user, "reset", "on", f"#{_digest(passwords[user])}", "-@all"),
                    # A pair of brackets is one argument.
                    *re.findall(r"\([^)]*\)|\S+", rules(user)),
                )
            client.acl_save()
    except redis.RedisError as exc:
        raise ConfigurationError(f"Redis does not take the users of the roles: {exc}") from exc


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
