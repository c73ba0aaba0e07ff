"""Messages that nobody can read: each is set aside once, and the queue and its worker go on."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection
from kombu.transport import redis as transport

from tests.integration.workers.conftest import N_WORKERS, Workers, eventually
from worker.routing import UNROUTED
from worker.unreadable import install, why_unreadable

LONG = "x" * 300_000


def body(call: Any) -> str:
    return base64.b64encode(json.dumps(call).encode()).decode()


def message(**changed: Any) -> dict[str, Any]:
    """As Celery sends it; `headers` and `properties` are merged."""
    whole: dict[str, Any] = {
        "body": body([[], {"strategy": "growth"}, {}]),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "drift.check", "id": "an-id", "retries": 0, "timelimit": [None, None]},
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "a-tag",
            "delivery_info": {"exchange": "", "routing_key": "control"},
        },
    }
    for key, value in changed.items():
        merges = key in ("headers", "properties") and isinstance(value, dict)
        whole[key.replace("_", "-") if key.startswith("content") else key] = (
            {**whole[key], **value} if merges else value
        )
    return whole


UNREADABLE: dict[str, Any] = {
    "no JSON": "no json at all",
    "null": None,
    "a list": [1, 2],
    "a number": 7,
    "cut off": json.dumps(message())[:-30],
    "deeply nested": "[" * 30_000,
    "too long": message(body=LONG),
    "no properties": {"body": ""},
    "properties of another type": message(properties=[]),
    "no delivery tag": message(properties={"delivery_tag": None}),
    "a tag that is an object": message(properties={"delivery_tag": {"a": 1}}),
    "no delivery info": message(properties={"delivery_info": None}),
    "headers of another type": message(headers=[]),
    "no headers": message(headers=None),
    "an id that is a number": message(headers={"id": 7}),
    "a task that is a list": message(headers={"task": ["drift.check"]}),
    "retries that are text": message(headers={"retries": "many"}),
    "a time limit that is text": message(headers={"timelimit": "soon"}),
    "an eta that is a number": message(headers={"eta": 12}),
    "an eta that is no time": message(headers={"eta": "tomorrow, perhaps"}),
    "an expiry that is no time": message(headers={"expires": "never"}),
    "a body that is no base64": message(body="%%%"),
    "a body that is no JSON": message(body=base64.b64encode(b"{").decode()),
    "a body that is no text": message(body={"a": 1}),
    "a body that is null": message(body=None),
    "a body that is no triple": message(body=body([1, 2])),
    "arguments of another type": message(body=body([{}, [], None])),
    "a body that is compressed": message(headers={"compression": "a-codec"}),
    "a task of Celery's own": message(headers={"task": "celery.map"}),
    "stamps that are text": message(headers={"stamps": "a"}),
    "an id with a line's end": message(headers={"id": "an-id\n"}),
    "another content type": message(content_type="application/x-python-serialize"),
}


def main_processes(workers: Workers) -> dict[str, int]:
    stats = workers.app.control.inspect(timeout=5.0, limit=N_WORKERS).stats() or {}
    return {name: found["pid"] for name, found in stats.items()}


def raw(what: Any) -> str:
    return what if isinstance(what, str) else json.dumps(what)


def test_messages_that_cannot_be_read_are_set_aside_once_and_the_queue_goes_on(workers: Workers) -> None:
    with workers.app.connection_for_write() as connection:
        client = connection.default_channel.client
        client.delete(UNROUTED)
        pids = main_processes(workers)
        client.rpush("control", *(raw(one) for one in UNREADABLE.values()))
        try:
            after = workers.start(strategy="growth", check_only=True, as_of=None)
            eventually(lambda: client.llen(UNROUTED) >= len(UNREADABLE), "all are set aside")
            assert after.get(timeout=30)["state"] == "succeeded"
            letters = [json.loads(one) for one in client.lrange(UNROUTED, 0, -1)]
            assert len(letters) == len(UNREADABLE)
            assert {letter["queue"] for letter in letters} == {"control"}
            assert all(letter["fault"] and len(letter["unreadable"]) <= 4096 for letter in letters)
            assert client.hlen("unacked") == 0
            assert main_processes(workers) == pids, "no worker ended"
        finally:
            client.delete(UNROUTED)


@pytest.mark.parametrize(
    "name", [name for name, what in UNREADABLE.items() if isinstance(what, dict) and name != "too long"]
)
def test_a_fault_is_said_in_words(name: str) -> None:
    assert why_unreadable(UNREADABLE[name]).startswith("its ")


def test_a_message_as_celery_sends_it_has_no_fault() -> None:
    assert why_unreadable(message()) == ""


def test_a_message_that_is_given_back_is_read_again_though_its_escapes_are_long(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "loads", transport.loads)  # as they are now again, after the test
    monkeypatch.setattr(transport.Transport, "Channel", transport.Transport.Channel)
    install()
    long = message(headers={"argsrepr": "\N{GREEK SMALL LETTER MU}" * 200_000})
    sent = json.dumps(long, ensure_ascii=False)
    assert len(sent) < 262_144 < len(json.dumps(long))
    with Connection(redis_url) as connection:
        channel: Any = connection.default_channel
        client = channel.client
        for restore in ("a-tag", "another"):
            given_out = json.dumps([long, "", "waiting"])
            client.hset("unacked", restore, given_out)
            client.zadd("unacked_index", {restore: 1.0})
        channel.qos.restore_by_tag("a-tag")
        channel._restore(SimpleNamespace(delivery_tag="another"))
        restored = [channel._get("waiting") for _ in range(2)]
        assert [why_unreadable(one) for one in restored] == ["", ""]
        assert restored[0]["headers"] == {**long["headers"], "redelivered": True}
        assert client.hlen("unacked") == 0
        client.rpush("waiting", json.dumps(message(headers={"argsrepr": "x" * 262_144})))
        assert why_unreadable(channel._get("waiting")).endswith("at most 262,144 are read")
