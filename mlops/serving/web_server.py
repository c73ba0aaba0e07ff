"""uvicorn with bounds, as the admin page and the prediction service run it.

Alone it waits for ever for a request that never comes whole, takes headers without end, and keeps a connection
whose other end does not read or is gone. What it cannot do here either is to bound the connections of one address: that
is a proxy's.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

REQUEST_S = 30.0
"""In which a request must be there, from its first byte or the connection's begin to the last byte of its body."""
HEAD_BYTES = 64 * 1024
"""Request line and headers; the longest of ours are cookies of less than a kilobyte."""
UNREAD_S = 30
"""The kernel ends a connection whose client reads nothing for so long of what waits for it, or is gone."""


def run_web_server(
    app: Callable[[Any, Any, Any], Awaitable[None]],
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
