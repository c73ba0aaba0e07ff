"""What the registry holds, as it was some seconds ago; a page never waits for MLflow."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import AcisError, NothingConfigured

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.domain.ports import RegistryCensus

log = structlog.get_logger(__name__)

EVERY_S = 20.0
LEAST_S = 2.0
"""Between two looks, however much a page hurries."""
IDLE_S = 300.0
"""After so long without a page that asks, nobody looks; the next page starts it again."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The last look."""

    census: RegistryCensus | None = None
    """The newest one that succeeded; None: none has yet."""
    census_at: datetime | None = None
    looked_at: datetime | None = None
    """None: nobody has looked yet; importing the library takes some seconds."""
    error: str = ""
    """Why the last look found nothing; empty where it did."""
    took_s: float = 0.0

    @property
    def is_reachable(self) -> bool | None:
        """None: not known yet."""
        return None if self.looked_at is None else not self.error


class RegistryView:
    """Looks from a thread of its own. One a process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seen = Seen()
        self._asked_at = time.monotonic()
        self._asked = threading.Event()
        self._stop = threading.Event()
        self._soon = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-view", daemon=True)

    def start(self) -> None:
        """With the application."""
        self._thread.start()

    def stop(self) -> None:
        """At its next pause."""
        self._stop.set()
        self._asked.set()
        self._soon.set()

    def hurry(self) -> None:
        """Look again soon: something was decided that MLflow is about to show."""
        self._soon.set()

    def get(self) -> Seen:
        """At once."""
        self._asked_at = time.monotonic()
        self._asked.set()
        return self._seen

    def look(self) -> Seen:
        """Ask now, and wait for the answer."""
        now, begun = self._services.now(), time.monotonic()
        try:
            census = self._services.registry.census()
        except NothingConfigured as exc:
            self._seen = Seen(looked_at=now, error=str(exc))
        except AcisError as exc:
            self._seen = replace(self._seen, looked_at=now, error=str(exc), took_s=time.monotonic() - begun)
        else:
            self._seen = Seen(census=census, census_at=now, looked_at=now, took_s=time.monotonic() - begun)
        return self._seen

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._seen.looked_at is not None and time.monotonic() - self._asked_at > IDLE_S:
                self._asked.clear()
                self._asked.wait()
                continue
            try:
                self.look()
            except Exception:
                log.exception("admin.registry_view_failed")
            self._stop.wait(LEAST_S)
            self._soon.wait(EVERY_S - LEAST_S)
            self._soon.clear()
