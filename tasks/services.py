"""The services of a process that may send work to the workers; the edges connect here."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from mlops import bootstrap

if TYPE_CHECKING:
    from config.settings import Settings
    from mlops.bootstrap import Services
    from tasks.publish import CeleryDispatcher


def connect(settings: Settings | None = None) -> Services:
    """Services for these settings, or for those of the environment, whose dispatcher is Celery."""
    return bootstrap.connect(settings, open_dispatcher=_dispatcher)


def process_services() -> Services:
    """Services of the calling process; a forked child gets its own, with connections of its own."""
    return _of_process(os.getpid())


@lru_cache(maxsize=1)
def _of_process(_pid: int) -> Services:
    return connect()


def _dispatcher(services: Services) -> CeleryDispatcher:
    from tasks.publish import CeleryDispatcher, publisher  # noqa: PLC0415 -- loads Celery

    return CeleryDispatcher(publisher(services), services)
