"""The application: every module of `admin.routes` whose `pages` is a `Pages` is part of it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from threading import Condition
from typing import TYPE_CHECKING

from cachetools import TTLCache, cached
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from admin import routes
from admin.headers import SecurityHeaders
from admin.live import Live
from admin.pages import STATIC, Pages, guarded_routes
from admin.registry_view import RegistryView
from admin.responses import add_error_answers, environment
from admin.static_files import KeptFiles
from tasks.broker import Broker

if TYPE_CHECKING:
    from mlops.bootstrap import Services

LEAST_BYTES_TO_PACK = 800
BROKER_S = 2.0
"""A Redis that is away costs a second to find out."""


def create_app(services: Services) -> FastAPI:
    """The page over these services. Raises UnguardedRoute for a route that does not say who may call it."""
    app = FastAPI(title="ACIS MLOps", openapi_url=None, docs_url=None, redoc_url=None, lifespan=_lifespan)
    app.state.services = services
    app.state.live = Live(services)
    broker = Broker(services.settings)
    app.state.registry_view = RegistryView(services)
    # One request looks, and those that come meanwhile wait for its answer.
    app.state.look_at_broker = cached(TTLCache(maxsize=1, ttl=BROKER_S), condition=Condition())(broker.look)
    for pages in route_modules():
        pages.add_to(app)
    app.mount(STATIC, KeptFiles(), name="static")
    app.state.paths = {route.path for route, _ in guarded_routes(app)}
    add_error_answers(app)
    app.add_middleware(GZipMiddleware, minimum_size=LEAST_BYTES_TO_PACK, compresslevel=5)
    app.add_middleware(SecurityHeaders)
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
    app.state.live.start()
    app.state.registry_view.start()
    yield
    app.state.registry_view.stop()
    app.state.live.stop()
