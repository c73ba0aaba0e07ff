"""The access log of the admin page and the prediction service: one JSON object a request."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import structlog

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

_VISIT = "acis.visit"
_PROBES = frozenset({"/healthz", "/readyz"})
"""Asked every few seconds, and not worth a line where they are answered as they should be."""


@dataclass
class Visit:
    """What is known of a request beside what it asks."""

    request_id: str
    path: str = ""
    """As it is declared: values in it, and the query, may be secrets that somebody pasted. Empty: no such path."""
    user: str | None = None
    """Who was recognised; never what a stranger typed."""
    token: str | None = None
    """The id of a program's token."""


def visit_of(scope: Any) -> Visit:  # noqa: ANN401 -- ASGI's, of whichever library
    """The visit of a request; one without an access log is made here."""
    return cast("Visit", scope.setdefault(_VISIT, Visit(secrets.token_hex(8))))


class AccessLog:
    """ASGI: gives each request an id, which stands in its log lines and its answer, and writes a line at its end."""

    def __init__(self, app: Asgi, *, write: Callable[[str], None] | None) -> None:
        """write: takes a line; None: nothing is logged."""
        self._app, self._write = app, write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit, began, status = visit_of(scope), time.perf_counter(), 0

        async def with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", visit.request_id.encode())]
            await send(message)

        try:
            with structlog.contextvars.bound_contextvars(request_id=visit.request_id):
                await self._app(scope, receive, with_id)
        except Exception:
            status = status or 500
            raise
        finally:
            if self._write and not (status == 200 and scope["path"] in _PROBES):
                self._write(_line(scope, visit, status, time.perf_counter() - began))


def _line(scope: Scope, visit: Visit, status: int, took_s: float) -> str:
    route = scope.get("route")
    client = scope.get("client")
    return json.dumps({
        "timestamp": datetime.now(UTC).isoformat(),
        "event": "http.request",
        "method": scope["method"],
        "path": visit.path or getattr(route, "path", "") or "(no such path)",
        "status": status or None,
        "duration_ms": round(took_s * 1000, 1),
        "user": visit.user,
        "token": visit.token,
        "address": client[0][:64] if client else None,
        "request_id": visit.request_id,
    })  # fmt: skip
