"""A worker tells of itself and ends when it is asked; whoever may publish to Redis can keep none from its queue."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker.control import Panel
from kombu.transport import redis as transport
from structlog.testing import capture_logs

from worker import app
from worker.remote_control import SHUTDOWN, TOLD, faults_of, restrict
from worker.unreadable import CheckedChannel

CONTROL = "control-a@host.celery.pidbox"
REPLIES = "5e5d0c36-0000-3000-8000-000000000000.reply.celery.pidbox"
ORDER: dict[str, Any] = {"method": "ping", "arguments": {}, "destination": None}


def test_all_but_what_the_product_needs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Panel, "data", dict(Panel.data))
    before = dict(Panel.data)
    restrict()
    assert {"cancel_consumer", "pool_shrink", "time_limit", "revoke", "terminate"} <= before.keys() - TOLD
    for name, command in Panel.data.items():
        if name in TOLD | {SHUTDOWN}:
            assert command is before[name]
            continue
        with capture_logs() as logs:
            assert "is not for these workers" in command(object(), queue="control", anything=1)["error"]
        assert [(line["event"], line["command"]) for line in logs] == [("control.refused", name)]


def test_what_is_needed_is_there() -> None:
    assert TOLD | {SHUTDOWN} <= Panel.data.keys()


@pytest.mark.parametrize(
    ("queue", "headers", "body", "words"),
    [
        (CONTROL, {}, [], "its body is no object"),
        (CONTROL, {}, {"method": 7}, "names no command"),
        (CONTROL, {}, ORDER | {"arguments": []}, "arguments are no object"),
        (CONTROL, {}, ORDER | {"destination": "control"}, "destination is no list"),
        (CONTROL, {}, ORDER | {"pattern": "control*", "matcher": "glob"}, "by a pattern"),
        (CONTROL, {}, ORDER | {"reply_to": {}}, "no address"),
        (CONTROL, {}, ORDER | {"reply_to": {"exchange": "", "routing_key": "control"}}, "another exchange"),
        (CONTROL, {"clock": "7"}, ORDER, "clock is no count"),
        (CONTROL, {"clock": 2**60}, ORDER, "clock is no count"),
        (REPLIES, {}, None, "its body is no object"),
        ("celeryev.x", {}, {"type": 1}, "no event"),
        ("celeryev.x", {}, [{"type": "worker-online", "clock": "x"}], "no event"),
    ],
)
def test_what_cannot_be_acted_on_is_said_in_words(queue: str, headers: Any, body: Any, words: str) -> None:
    assert words in next(iter(faults_of(queue, headers, body)))


@pytest.mark.parametrize(
    ("queue", "body"),
    [
        (CONTROL, ORDER),
        (CONTROL, ORDER | {"destination": ["control-a@host"]}),
        (CONTROL, ORDER | {"reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "x"}, "ticket": "t"}),
        (REPLIES, {"control-a@host": {"ok": "pong"}}),
        ("celeryev.x", {"type": "worker-online", "hostname": "h", "timestamp": 1.5, "utcoffset": 0, "clock": 3}),
        ("celeryev.x", [{"type": "task-sent", "uuid": "u", "hostname": "h", "timestamp": 1.5}]),
    ],
)
def test_what_celery_sends_is_let_through(queue: str, body: Any) -> None:
    assert list(faults_of(queue, {"clock": 7}, body)) == []


def test_the_channels_of_the_application_check_messages_and_acknowledge_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "loads", transport.loads)  # as they are now again, after the test
    monkeypatch.setattr(transport.Transport, "Channel", transport.Transport.Channel)
    monkeypatch.setattr(transport.Channel, "QoS", transport.Channel.QoS)
    monkeypatch.setattr(transport, "Mutex", transport.Mutex)
    app.install()
    channel: Any = transport.Transport.Channel
    assert issubclass(channel, CheckedChannel)
    assert channel.QoS is app.Acknowledgements
