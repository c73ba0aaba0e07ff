"""Sets messages aside that no worker can read, so that none of them ends a worker and comes back to end the next.

kombu takes a message out of its list and Celery makes a request of it; neither expects that it is no JSON, or that one
of its parts has another type. Here each is looked at as it arrives. A task's that cannot be read goes to `unrouted`
once, as much of it as a person needs, with a line in the log; the reconciler and the admin page alarm what lies there.
One that carries no task (an order of remote control, an answer, an event) is dropped with a line in the log.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from queue import Empty
from typing import Any

import structlog
from celery.utils.time import maybe_iso8601
from kombu.transport import redis as transport
from kombu.utils import json as kombu_json
from redis.exceptions import ResponseError

from mlops.domain.records import ID_PATTERN, KEPT_ID_LENGTH
from tasks.broker import is_of_another_type
from worker import remote_control
from worker.routing import QUEUES, UNROUTED

log = structlog.get_logger(__name__)

#: Characters of a message that are kept.
_KEPT = 4096
#: A message of ours has some hundred bytes; Celery's own arguments make it a few thousand.
_MOST = 262_144
_LONGEST_ESCAPE = 12  # characters of one beyond the first 65,536, as two halves: \ud83d\ude00
_REDELIVERED = 64  # that kombu adds, twice: "redelivered": true
#: Until a queue whose key has another type is looked at again; longer would keep the worker from its acknowledgements.
_REPLACED_S = 1.0
_came: ContextVar[str] = ContextVar("acis_came", default="")
"""What was read last, as it came: of an object that is no message nothing else is left."""
_is_restored: ContextVar[bool] = ContextVar("acis_is_restored", default=False)
"""What is read now comes from `unacked`: it was read before, and kombu must be able to give it back."""
_NAMES = {queue.name for queue in QUEUES}
#: What Celery raises of a header that has another type or value than it expects.
_NOT_EXPECTED = (TypeError, ValueError, KeyError, AttributeError, LookupError, ArithmeticError, RecursionError)
_CELERYS_OWN = "celery."
_TIMES = ("eta", "expires")
_TEXTS = ("id", "task", "lang", "root_id", "parent_id", "group", "argsrepr", "kwargsrepr", "origin", "shadow", *_TIMES)


class _Unread:
    """What came out of Redis and is no JSON."""

    def __init__(self, text: str, why: str) -> None:
        self.text, self.why = text, why


class CheckedQoS(transport.QoS):
    """Gives messages back to their queue that a worker took and did not finish, however long they are.

    What stands where the unacknowledged should lie and is no hash, or no sorted set, would end every worker that
    receives anything: it is deleted.
    """

    def append(self, *arguments: Any) -> Any:  # noqa: ANN401 -- kombu's signature
        """Note a message as unacknowledged."""
        return self._mended(super().append, *arguments)

    def restore_visible(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 -- kombu's signature
        """Give back what has been unacknowledged for too long."""
        return self._mended(super().restore_visible, *arguments, **more)

    def _mended(self, work: Callable[..., Any], *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 -- what `work` gives
        """What `work` gives, the second time where a key of another type was in its way."""
        try:
            return work(*arguments, **more)
        except ResponseError as exc:
            if not is_of_another_type(exc):
                raise
        channel: Any = self.channel
        with channel.conn_or_acquire() as client:
            for key, look in ((self.unacked_key, "HGET"), (self.unacked_index_key, "ZRANGE")):
                try:
                    client.execute_command(look, key, 0, *([0] if look == "ZRANGE" else []))
                except ResponseError as exc:
                    log.warning("message.key_replaced", key=key, error=str(exc), next="it is deleted")
                    client.delete(key)
        return work(*arguments, **more)

    def restore_by_tag(self, tag: Any, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 -- kombu's signature
        """Move a message from `unacked` to its queue; what is none would keep all after it from being moved."""
        try:
            with _as_restored():
                return super().restore_by_tag(tag, *arguments, **more)
        except _NOT_EXPECTED as exc:
            channel: Any = self.channel
            with channel.conn_or_acquire() as client:
                found = client.hget(self.unacked_key, tag)
            text = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
            channel.set_aside("unacked", _Unread(text, f"it cannot be given back: {type(exc).__name__}: {exc}"))
            self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]  # as above
            return None


class CheckedChannel(transport.Channel):
    """A channel to Redis whose consumers get no message of our queues that they cannot read."""

    QoS = CheckedQoS

    def _restore(self, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 -- kombu's signature
        with _as_restored():
            return super()._restore(*arguments, **more)

    def basic_consume(self, queue: str, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401 -- kombu's signature
        """Consume from a queue; the callback is called with readable messages alone."""
        started = super().basic_consume(queue, *arguments, **more)
        callbacks: Any = self.connection._callbacks  # noqa: SLF001 -- the only place where each message passes
        deliver = callbacks[queue]
        check = self._check if queue in _NAMES else self._check_other
        callbacks[queue] = lambda raw: check(queue, raw, deliver)
        return started

    def _brpop_read(self, **options: Any) -> Any:  # noqa: ANN401 -- kombu's signature
        """Take a message from the queues; where something else stands in the place of one, wait until it is gone."""
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs leave it out
        except ResponseError as exc:
            if not is_of_another_type(exc):
                raise
            log.warning("queue.key_replaced", queues=sorted(self.active_queues), next="the reconciler deletes it")
            time.sleep(_REPLACED_S)
            raise Empty from exc

    def _check(self, queue: str, raw: Any, deliver: Callable[[Any], Any]) -> Any:  # noqa: ANN401 -- kombu's
        fault = why_unreadable(raw)
        if fault:
            return self.set_aside(queue, raw, fault)
        try:
            return deliver(raw)
        except self.connection_errors:  # type: ignore[attr-defined]  # the stubs leave it out
            raise
        except _NOT_EXPECTED as exc:
            # kombu has noted it as unacknowledged, and would give it to the next worker.
            self.qos.ack(raw["properties"]["delivery_tag"])
            return self.set_aside(queue, raw, f"Celery cannot take it: {type(exc).__name__}: {exc}")

    def _check_other(self, queue: str, raw: Any, deliver: Callable[[Any], Any]) -> Any:  # noqa: ANN401 -- kombu's
        fault = why_unreadable_without_task(queue, raw)
        if not fault:
            return deliver(raw)
        log.warning("message.dropped", queue=queue, fault=fault[:500], next="nothing was done")
        return None

    def set_aside(self, queue: str, raw: Any, fault: str = "") -> None:  # noqa: ANN401 -- whatever came
        """Keep what cannot be read in `unrouted`, as far as a person needs it."""
        fault = fault or raw.why
        text = raw.text if isinstance(raw, _Unread) else _came.get()
        letter = {
            "unreadable": text[:_KEPT],
            "characters": len(text),
            "queue": queue,
            "fault": fault[:500],
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        following = f"set aside in {UNROUTED}; the queue goes on"
        try:
            with self.conn_or_acquire() as client:
                client.lpush(UNROUTED, json.dumps(letter))
        except ResponseError as exc:  # no memory, no right, or something else in its place
            following = f"it could not be set aside ({exc}) and begins {text[:200]!r}; the queue goes on"
        log.warning("message.unreadable", queue=queue, fault=letter["fault"], characters=len(text), next=following)


def install() -> None:
    """Have every channel to Redis that this process opens check what it receives."""
    transport.Transport.Channel = CheckedChannel
    transport.loads = _loads  # type: ignore[attr-defined]  # the stubs leave it out


def why_unreadable(raw: Any) -> str:  # noqa: ANN401 -- whatever came
    """Say in words why a message cannot be read; empty where it can."""
    if isinstance(raw, _Unread):
        return raw.why
    if not isinstance(raw, Mapping):
        return f"it is no object of properties, headers and body, but {type(raw).__name__}"
    return next(_faults(raw), "")


def why_unreadable_without_task(queue: str, raw: Any) -> str:  # noqa: ANN401 -- whatever came
    """Say in words why an order, an answer or an event cannot be read; empty where it can."""
    if not isinstance(raw, Mapping):
        return why_unreadable(raw)
    return next(_faults_without_task(queue, raw), "")


def _faults_without_task(queue: str, raw: Mapping[str, Any]) -> Iterator[str]:
    properties, headers = raw.get("properties"), raw.get("headers")
    if not isinstance(properties, Mapping) or not isinstance(headers, Mapping):
        yield f"its properties or headers are no object: {_short(properties)}, {_short(headers)}"
        return
    yield from _faults_of_properties(properties)
    call, fault = _body_of(raw)
    yield from [fault] if fault else remote_control.faults_of(queue, headers, call)


def _loads(text: str) -> Any:  # noqa: ANN401 -- any JSON
    """Read JSON as kombu does, or hand on what is none: by now it is in no list any more."""
    if _is_restored.get():
        return kombu_json.loads(text)
    _came.set(text)
    if len(text) > _MOST * _LONGEST_ESCAPE + _REDELIVERED:
        return _too_long(text)
    try:
        found = kombu_json.loads(text)
    except _NOT_EXPECTED as exc:
        return _Unread(text, f"it is no JSON: {type(exc).__name__}: {exc}")
    is_too_long = len(text) > _MOST and _written_length(found) > _MOST + _REDELIVERED
    return _too_long(text) if is_too_long else found


def _too_long(text: str) -> _Unread:
    return _Unread(text, f"it has {len(text):,} characters; at most {_MOST:,} are read")


def _written_length(found: object) -> int:
    """Characters of a message as short as JSON has it. kombu writes `é` as six when it gives a message back."""
    return len(kombu_json.dumps(found, ensure_ascii=False, separators=(",", ":")))


@contextmanager
def _as_restored() -> Iterator[None]:
    token = _is_restored.set(True)
    try:
        yield
    finally:
        _is_restored.reset(token)


def _faults(raw: Mapping[str, Any]) -> Iterator[str]:
    """The first is said; what comes after it may not be there to be looked at."""
    properties, headers = raw.get("properties"), raw.get("headers")
    if not isinstance(properties, Mapping):
        yield f"its properties are no object: {_short(properties)}"
    else:
        yield from _faults_of_properties(properties)
    if not isinstance(headers, Mapping):
        yield f"its headers are no object: {_short(headers)}"
    else:
        yield from _faults_of_headers(headers)
    yield from _faults_of_body(raw)


def _faults_of_properties(properties: Mapping[str, Any]) -> Iterator[str]:
    tag, delivery = properties.get("delivery_tag"), properties.get("delivery_info")
    if not isinstance(tag, str) or not 0 < len(tag) <= KEPT_ID_LENGTH:
        yield f"its delivery tag is no text of 1 to {KEPT_ID_LENGTH} characters: {_short(tag)}"
    named = isinstance(delivery, Mapping) and [delivery.get(one) for one in ("exchange", "routing_key")]
    if not named or not all(isinstance(one, str) for one in named):
        yield f"its delivery names no exchange and routing key: {_short(delivery)}"


def _faults_of_headers(headers: Mapping[str, Any]) -> Iterator[str]:
    for name in ("id", "task"):
        value = headers.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= KEPT_ID_LENGTH:
            yield f"its header {name} is no text of 1 to {KEPT_ID_LENGTH} characters: {_short(value)}"
        elif not re.fullmatch(ID_PATTERN, value):
            yield f"its header {name} has other characters than A-Z, a-z, 0-9 and _.:- : {_short(value)}"
    yield from _faults_of_what_is_not_served(headers)
    for name in _TEXTS:
        if not isinstance(headers.get(name), (str, type(None))):
            yield f"its header {name} is no text: {_short(headers[name])}"
    for name in _TIMES:
        try:
            maybe_iso8601(headers.get(name))
        except _NOT_EXPECTED:
            yield f"its header {name} is no time as in ISO 8601: {_short(headers[name])}"
    yield from _faults_of_numbers(headers)


def _faults_of_numbers(headers: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(headers.get("retries"), (int, type(None))):
        yield f"its header retries is no whole number: {_short(headers['retries'])}"
    if not isinstance(headers.get("stamps"), (Mapping, type(None))):
        yield f"its header stamps is no object: {_short(headers['stamps'])}"
    limits = headers.get("timelimit")
    if limits is not None and not _are_limits(limits):
        yield f"its header timelimit is no pair of seconds: {_short(limits)}"


def _faults_of_what_is_not_served(headers: Mapping[str, Any]) -> Iterator[str]:
    """What the workers could read, and do not run or unpack."""
    if str(headers.get("task")).startswith(_CELERYS_OWN):
        yield f"its task is one of Celery's own, which these workers do not run: {_short(headers['task'])}"
    if headers.get("compression") is not None:
        yield "its body is compressed, and may be of any size; only a plain one is read"


def _are_limits(limits: Any) -> bool:  # noqa: ANN401 -- whatever came
    return (
        isinstance(limits, (list, tuple))
        and len(limits) == 2
        and all(one is None or (isinstance(one, (int, float)) and 0 <= one < 1e9) for one in limits)
    )


def _faults_of_body(raw: Mapping[str, Any]) -> Iterator[str]:
    call, fault = _body_of(raw)
    if fault:
        yield fault
    elif not isinstance(call, list) or [type(part) for part in call] != [list, dict, dict]:
        yield f"its body is no triple of arguments, named arguments and embedded calls: {_short(call)}"


def _body_of(raw: Mapping[str, Any]) -> tuple[Any, str]:
    """What a message's body says, and in words why it cannot be read."""
    body, encoding = raw.get("body"), raw["properties"].get("body_encoding")
    if raw.get("content-type") != "application/json":
        return None, f"its body is {_short(raw.get('content-type'))}; only application/json is read"
    if not isinstance(body, str):
        return None, f"its body is no text: {_short(body)}"
    try:
        text = base64.b64decode(body, validate=True) if encoding == "base64" else body.encode()
        return kombu_json.loads(text.decode()), ""
    except _NOT_EXPECTED as exc:
        return None, f"its body is no {'base64 of ' if encoding == 'base64' else ''}JSON: {type(exc).__name__}: {exc}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
