"""The application: every module of `admin.routes` whose `pages` is a `Pages` is part of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from threading import Condition
from typing import TYPE_CHECKING

from cachetools import TTLCache, cached
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import routes
from admin.auth.refusals import RefusalRecord
from admin.auth.sign_in import PasswordCheck
from admin.events import EventStreams
from admin.pages import STATIC, Pages, guarded_routes
from admin.registry_view import RegistryView
from admin.responses import KeptFiles, add_error_answers, environment
from mlops.serving.web_server import AccessLog
from tasks.broker import Broker

if TYPE_CHECKING:
    from mlops.bootstrap import Services

# ---- What a browser is told with every answer, and the limit of what it may send

MOST_BYTES = 256 * 1024
"""Of a request: the largest form is a policy's. Looked at before anybody is asked who they are."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""No script and no style but our own files, nothing from elsewhere, shown in nobody's frame."""
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}


class _SecurityHeaders:
    """Adds what an answer does not say itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        if _is_too_large(Headers(scope=scope)):
            await PlainTextResponse(f"more than {MOST_BYTES} bytes", status_code=413)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def _is_too_large(headers: Headers) -> bool:
    """A body without a length is not taken either: no browser sends a form so."""
    if "transfer-encoding" in headers:
        return True
    length = headers.get("content-length", "0")
    return not length.isdecimal() or int(length) > MOST_BYTES


_LEAST_BYTES_TO_PACK = 800
_BROKER_S = 2.0
"""A Redis that is away costs a second to find out."""


def create_app(services: Services, *, write_access: Callable[[str], None] | None = None) -> FastAPI:
    """The page over these services. Raises UnguardedRoute for a route that does not say who may call it.

    write_access: takes the lines of the access log
    """
    app = FastAPI(title="ACIS MLOps", openapi_url=None, docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.services = services
    app.state.events = EventStreams(services)
    app.state.refusals = RefusalRecord(services)
    app.state.passwords = PasswordCheck(services)
    broker = Broker(services.settings)
    app.state.registry_view = RegistryView(services)
    # One request looks, and those that come meanwhile wait for its answer.
    app.state.look_at_broker = cached(TTLCache(maxsize=1, ttl=_BROKER_S), condition=Condition())(broker.look)
    for pages in route_modules():
        pages.add_to(app)
    app.mount(STATIC, KeptFiles(), name="static")
    app.state.paths = {route.path for route, _ in guarded_routes(app)}
    add_error_answers(app)
    app.add_middleware(GZipMiddleware, minimum_size=_LEAST_BYTES_TO_PACK, compresslevel=5)
    app.add_middleware(_SecurityHeaders)
    app.add_middleware(AccessLog, write=write_access)
    environment()
    return app


def route_modules() -> Iterator[Pages]:
    """The routes of each module below `admin.routes`, by its name."""
    for module in sorted(pkgutil.iter_modules(routes.__path__), key=lambda found: found.name):
        pages = getattr(importlib.import_module(f"{routes.__name__}.{module.name}"), "pages", None)
        if isinstance(pages, Pages):
            yield pages


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.events.start()
    app.state.registry_view.start()
    yield
    app.state.registry_view.stop()
    app.state.events.stop()
    app.state.passwords.close()
    app.state.refusals.close()
