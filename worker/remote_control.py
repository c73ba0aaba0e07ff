"""What a worker does that is asked of it over Celery's channel of remote control: it tells of itself, and it ends.

Whoever may publish to Redis may ask. All that would keep a worker from its queue while it seems to live (no consumer,
no pool, a time limit of a second, a revoked task) is answered with a refusal: a run is cancelled in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog

log = structlog.get_logger(__name__)

TOLD = frozenset({
    "ping", "stats", "active_queues",  # the reconciler
    "conf", "registered", "scheduled", "active", "reserved", "revoked", "enable_events",  # Flower
    "heartbeat", "query_task",
})  # fmt: skip
"""Commands that tell something, by whom they are asked."""
SHUTDOWN = "shutdown"
"""Ends the worker in good order, as SIGTERM does, and its supervisor starts it again."""
_LARGEST_CLOCK = 2**53
_LONGEST = 255

CONTROL, REPLIES, EVENTS = ".celery.pidbox", ".reply.celery.pidbox", "celeryev"
"""Ends and beginning of the names of queues that carry no task."""


def restrict() -> None:
    """Have this worker refuse every command that the product does not need: Redis tells no question from an order."""
    from celery.worker.control import Panel  # noqa: PLC0415 -- of a worker's main process alone

    for name in Panel.data.keys() - TOLD - {SHUTDOWN}:
        Panel.data[name] = _refusing(name)


def _refusing(name: str) -> Callable[..., dict[str, str]]:
    def refuse(_state: object, **_arguments: object) -> dict[str, str]:
        log.warning("control.refused", command=name, next="nothing was done")
        return {"error": f"{name} is not for these workers; a run is cancelled on the admin page or by `acis cancel`"}

    return refuse


def faults_of(queue: str, headers: Mapping[str, Any], body: Any) -> Iterator[str]:  # noqa: ANN401 -- any JSON
    """Say in words what is wrong with a message of a queue that carries no task; nothing where it can be acted on."""
    clock = headers.get("clock")
    if clock is not None and not _is_clock(clock):
        yield "its header clock is no count"
    if queue.startswith(EVENTS):
        events = body if isinstance(body, list) else [body]
        if not all(_is_event(one) for one in events):
            yield "its body is no event, and no list of them"
    elif not isinstance(body, Mapping):
        yield "its body is no object"
    elif queue.endswith(CONTROL) and not queue.endswith(REPLIES):
        yield from _faults_of_command(body)


def _faults_of_command(body: Mapping[str, Any]) -> Iterator[str]:
    to, back = body.get("destination"), body.get("reply_to")
    if not isinstance(body.get("method"), str) or len(body["method"]) > _LONGEST:
        yield "it names no command"
    if not isinstance(body.get("arguments"), (Mapping, type(None))):
        yield "its arguments are no object"
    if to is not None and not (isinstance(to, list) and all(isinstance(one, str) for one in to)):
        yield "its destination is no list of names"
    if body.get("pattern") or body.get("matcher"):
        yield "it chooses workers by a pattern, which takes as long as whoever wrote it wants"
    if back is not None and not (
        isinstance(back, Mapping) and all(isinstance(back.get(one), str) for one in ("exchange", "routing_key"))
    ):
        yield "its answer has no address"
    if back and not str(back.get("exchange", "")).startswith("reply."):
        yield "its answer would go to another exchange than that of answers"


def _is_clock(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_CLOCK


def _is_event(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)
        and isinstance(value.get("hostname", ""), str)
        and isinstance(value.get("timestamp", 0.0), (int, float))
        and isinstance(value.get("utcoffset", 0), (int, float))
        and _is_clock(value.get("clock", 0))
    )
