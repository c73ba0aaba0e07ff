"""What the admin page and the prediction service share as HTTP servers: uvicorn with bounds, and the access log.

uvicorn alone waits for ever for a request that never comes whole, takes headers without end, and keeps a connection
whose other end does not read or is gone. What it cannot do here either is to bound the connections of one address: that
is a proxy's.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]

REQUEST_S = 30.0
"""In which a request must be there, from its first byte or the connection's begin to the last byte of its body."""
HEAD_BYTES = 64 * 1024
"""Request line and headers; the longest of ours are cookies of less than a kilobyte."""
UNREAD_S = 30
"""The kernel ends a connection whose client reads nothing for so long of what waits for it, or is gone."""


def run_web_server(
    app: Asgi,
    *,
    host: str,
    port: int,
    grace_s: int,
    keep_alive_s: int = 5,
    proxies: str | None = None,
    lifespan: str = "auto",
) -> None:
    """Serve until a signal asks it to end. proxies: addresses whose X-Forwarded-* is believed, comma between them."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_PunctualProtocol,
        ws="none",
        lifespan=cast("Any", lifespan),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or None,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=keep_alive_s,
    )
    with config.bind_socket() as listening:
        _end_what_is_not_read(listening)
        uvicorn.Server(config).run(sockets=[listening])


def _end_what_is_not_read(listening: socket.socket) -> None:
    """Connections that are accepted inherit it."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, UNREAD_S)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, UNREAD_S // 3)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


class _PunctualProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which ends a connection whose request is late or has no end."""

    _late: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the base class
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        if self._late is None:
            self._expect()
        self._head_bytes += len(data) if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._expect_no_more()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._late = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _expect_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


# ---- The access log: one JSON object a request

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
