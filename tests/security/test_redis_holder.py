"""What the holder of one role's Redis password can do, on the real server and against real workers.

The rules are asked of the server itself (ACL DRYRUN), and of Redis as well as of Valkey: `redis_server` takes the
machine's server where there is one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from redis.exceptions import NoPermissionError

from config.roles import ACCESS, REDIS_USERS
from devstack.redis_users import rules
from tests.integration.workers.conftest import Workers, worker_settings, workers
from tests.support.servers import as_redis_user

__all__ = ["worker_settings", "workers"]

ROLES = tuple(user for user in REDIS_USERS if user != "operator")
CONSUMERS = {"control": "control", "drift": "drift", "train": "train.cpu", "promote": "promote"}
FOREIGN = "shop:orders"


@pytest.fixture(scope="module")
def admin(redis_server: str) -> Iterator[redis.Redis]:
    """The user who may do everything, and a key of somebody else."""
    with redis.Redis.from_url(f"{redis_server}/0", decode_responses=True) as client:
        client.set(FOREIGN, "42")
        yield client
        client.delete(FOREIGN)


def refuses(admin: redis.Redis, user: str, *command: str) -> bool:
    """What the server would answer the user."""
    answer = admin.execute_command("ACL", "DRYRUN", user, *command)
    return answer not in (True, "OK", b"OK")


def test_each_role_has_a_user_of_its_own() -> None:
    # `tools` is the operator's; a backend is a program of somebody else's.
    assert {access.redis for access in ACCESS.values() if access.redis} == {*ROLES, "operator"} - {"backend"}


@pytest.mark.parametrize("user", ROLES)
def test_a_holder_reads_and_changes_no_other_keyspace(admin: redis.Redis, user: str) -> None:
    commands = [
        ("GET", FOREIGN),
        ("MGET", FOREIGN, "celery-task-meta-1"),
        ("SET", FOREIGN, "0"),
        ("DEL", FOREIGN),
        ("EXPIRE", FOREIGN, "1"),
        ("LPUSH", FOREIGN, "x"),
        ("DUMP", FOREIGN),
        ("RENAME", FOREIGN, "drift"),
        ("COPY", FOREIGN, "celery-task-meta-1"),
        ("SORT", "drift", "BY", "shop:*", "GET", "shop:*"),
        ("PUBLISH", "shop", "x"),
        ("SUBSCRIBE", "shop"),
        ("PSUBSCRIBE", "*"),
        ("KEYS", "*"),
        ("RANDOMKEY",),
        ("DBSIZE",),
        ("MOVE", "drift", "3"),
    ]
    assert [command for command in commands if not refuses(admin, user, *command)] == []


@pytest.mark.parametrize("user", ROLES)
def test_a_holder_has_no_command_over_the_server(admin: redis.Redis, user: str) -> None:
    commands = [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("SWAPDB", "0", "1"),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "dir", "/tmp"),
        ("CONFIG", "REWRITE"),
        ("EVAL", "return 1", "0"),
        ("EVALSHA", "0" * 40, "0"),
        ("SCRIPT", "LOAD", "return 1"),
        ("FCALL", "f", "0"),
        ("FUNCTION", "LIST"),
        ("MODULE", "LIST"),
        ("ACL", "LIST"),
        ("ACL", "WHOAMI"),
        ("CLIENT", "LIST"),
        ("CLIENT", "KILL", "TYPE", "normal"),
        ("CLIENT", "TRACKING", "ON", "BCAST"),
        ("CLIENT", "PAUSE", "60000"),
        ("MONITOR",),
        ("DEBUG", "SLEEP", "1"),
        ("SHUTDOWN",),
        ("REPLICAOF", "localhost", "1"),
        ("SAVE",),
        ("BGREWRITEAOF",),
        ("SLOWLOG", "GET"),
    ]
    assert [command for command in commands if not refuses(admin, user, *command)] == []


@pytest.mark.parametrize("user", ROLES)
def test_a_holder_takes_no_message_of_another_role_and_removes_no_queue(admin: redis.Redis, user: str) -> None:
    for consumer, queue in CONSUMERS.items():
        removing = [("EXPIRE", queue, "1"), ("LTRIM", queue, "1", "0"), ("RENAME", queue, "x")]
        if user != "reconciler":  # it takes away what is no list, and stands in the place of one
            removing += [("DEL", queue), ("UNLINK", queue)]
        assert [command for command in removing if not refuses(admin, user, *command)] == []
        if user != consumer:
            taking = [
                ("BRPOP", queue, "1"),
                ("RPOP", queue),
                ("LRANGE", queue, "0", "-1"),
                ("LMOVE", queue, "x", "LEFT", "LEFT"),
            ]
            assert [command for command in taking if not refuses(admin, user, *command)] == []


@pytest.mark.parametrize("user", ROLES)
def test_workers_are_asked_by_flower_and_the_reconciler_alone(admin: redis.Redis, user: str) -> None:
    asked = not refuses(admin, user, "PUBLISH", "/0.celery.pidbox", "{}")
    assert asked == (user in ("flower", "reconciler"))


def test_a_worker_may_take_from_its_own_queue_and_send_to_all(admin: redis.Redis) -> None:
    for user, queue in CONSUMERS.items():
        assert not refuses(admin, user, "BRPOP", queue, f"{queue}\x06\x163", "1")
        for other in CONSUMERS.values():
            assert not refuses(admin, user, "LPUSH", other, "{}")


def test_nobody_signs_in_without_a_name(admin: redis.Redis) -> None:
    made = [line for line in admin.execute_command("ACL", "LIST") if line.startswith("user ")]
    assert all(" #" in line for line in made)
    assert all("nopass" not in line for line in made)


def test_the_default_user_is_off_where_a_stack_starts_the_server() -> None:
    from devstack.redis_users import acl_lines

    lines = acl_lines("a password", dict.fromkeys(REDIS_USERS, "another")).splitlines()
    assert lines[0] == "user default off resetchannels -@all"
    assert not [line for line in lines if "a password" in line or "another" in line]


def test_no_role_may_run_a_script() -> None:
    for user in ROLES:
        assert not [one for one in rules(user) if "eval" in one or "script" in one]


def test_not_even_the_operator_may_run_a_script(admin: redis.Redis) -> None:
    for command in (("EVAL", "return 1", "0"), ("SCRIPT", "LOAD", "return 1"), ("FCALL", "f", "0")):
        assert refuses(admin, "operator", *command)


def test_a_backend_sends_to_control_and_reads_results_and_no_more(admin: redis.Redis) -> None:
    refused = [
        ("LPUSH", "drift", "{}"),
        ("LPUSH", "promote", "{}"),
        ("SADD", "_kombu.binding.drift", "x"),
        ("LRANGE", "control", "0", "-1"),
        ("BRPOP", "control", "1"),
        ("SET", "celery-task-meta-1", "{}"),
        ("DEL", "celery-task-meta-1"),
        ("PUBLISH", "celery-task-meta-1", "{}"),
        ("HGET", "unacked", "x"),
        ("SUBSCRIBE", "/0.celeryev/worker.heartbeat"),
        ("PUBLISH", "/0.celeryev/worker.heartbeat", "{}"),
    ]
    assert [command for command in refused if not refuses(admin, "backend", *command)] == []


def test_a_backend_starts_a_run_and_waits_for_its_outcome(workers: Workers) -> None:
    settings = workers.services.settings
    assert settings.celery_broker_url is not None
    assert settings.celery_result_backend is not None
    broker, results = (
        as_redis_user(url.get_secret_value(), "backend")
        for url in (settings.celery_broker_url, settings.celery_result_backend)
    )
    with Celery("backend", broker=broker, backend=results, set_as_current=False) as app:
        sent = app.send_task("drift.check", kwargs={"strategy": "growth", "check_only": True}, queue="control")
        assert sent.get(timeout=60)["run_id"] == sent.id


# ---- Against real workers


@pytest.fixture
def holder(workers: Workers) -> Iterator[redis.Redis]:
    """Whoever holds beat's password, at the workers' broker."""
    broker = workers.services.settings.celery_broker_url
    assert broker is not None
    with redis.Redis.from_url(as_redis_user(broker.get_secret_value(), "beat")) as client:
        yield client


def letter(task: str, kwargs: dict[str, Any]) -> str:
    """A message as Celery sends it."""
    import base64

    body = base64.b64encode(json.dumps([[], kwargs, {}]).encode()).decode()
    return json.dumps({
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": str(uuid.uuid4()), "retries": 0, "timelimit": [None, None]},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": "drift"},
        },
    })  # fmt: skip


def test_messages_of_a_holder_run_nothing_and_stop_nothing(workers: Workers, holder: redis.Redis) -> None:
    """Who may send can ask for what a caller can ask for: runs of known strategies. Everything else does nothing."""
    known = {run.run_id for run in workers.services.ledger.runs()}
    for one in (
        letter("drift.check", {"run_id": "no-such-run", "publish_no": 1}),
        letter("model.promote", {"run_id": "no-such-run", "publish_no": 1}),
        letter("os.system", {"command": "true"}),
        letter("celery.backend_cleanup", {}),
        "not a message",
    ):
        holder.lpush("drift", one)
    result = workers.start(strategy="growth")
    assert result.get(timeout=60)["state"] == "succeeded"
    workers.wait_idle()
    assert {run.run_id for run in workers.services.ledger.runs()} == known | {result.id}


def test_a_holder_reads_no_message_and_gives_no_order(holder: redis.Redis) -> None:
    for refused in (
        lambda: holder.lrange("drift", 0, -1),
        lambda: holder.brpop(["drift"], timeout=1),
        lambda: holder.delete("drift"),
        lambda: holder.publish("/0.celery.pidbox", "{}"),
        lambda: holder.eval("return 1", 0),
    ):
        with pytest.raises(NoPermissionError):
            refused()


def test_a_worker_takes_no_order_that_stops_its_queue(workers: Workers) -> None:
    """Not even from who may ask: Flower's page has buttons for it."""
    control: Any = workers.app.control
    for order in (
        lambda: control.cancel_consumer("drift", reply=True, timeout=2),
        lambda: control.rate_limit("drift.check", "1/h", reply=True, timeout=2),
        lambda: control.pool_shrink(1, reply=True, timeout=2),
        lambda: control.time_limit("drift.check", soft=1, hard=1, reply=True, timeout=2),
    ):
        answers = [answer for worker in order() for answer in worker.values()]
        assert answers
        assert all("error" in answer for answer in answers)
    assert workers.start(strategy="growth").get(timeout=60)["state"] == "succeeded"


def test_what_the_workers_did_needed_no_more_than_they_may(workers: Workers, admin: redis.Redis) -> None:
    """Last: the server's own log of refusals, over everything that the workers of this file did."""
    assert workers.start(strategy="growth").get(timeout=60)["state"] == "succeeded"
    workers.wait_idle()
    refused = [
        (entry["username"], entry["reason"], entry["object"])
        for entry in admin.acl_log(128)
        if entry["username"] in CONSUMERS
    ]
    assert refused == []


def test_a_client_of_a_role_is_celerys_own(workers: Workers) -> None:
    """The publisher of a page needs what `admin` may, and no more."""
    broker = workers.services.settings.celery_broker_url
    assert broker is not None
    url = as_redis_user(broker.get_secret_value(), "admin")
    app = Celery("page", broker=url, backend=url, set_as_current=False)
    try:
        result = app.send_task("drift.check", kwargs={"strategy": "growth", "check_only": True}, queue="control")
        assert result.get(timeout=60)["state"] == "succeeded"
    finally:
        app.close()
