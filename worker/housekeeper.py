"""Takes away what is old, once an hour, in a thread of its own: thousands of rows delay no bell."""

from __future__ import annotations

import threading

import structlog
from celery import Celery

from mlops.bootstrap import Services
from mlops.errors import AcisError
from mlops.housekeeping import tidy
from worker.replies import let_replies_expire

log = structlog.get_logger(__name__)

EVERY_S = 3600.0
#: A reconciler that has just started has more urgent work.
FIRST_AFTER_S = 300.0


class Housekeeper(threading.Thread):
    """Works while `leads` is set: this process holds, or held a moment ago, the reconcilers' lock."""

    def __init__(self, app: Celery, services: Services, *, leads: threading.Event, stop: threading.Event) -> None:
        super().__init__(name="housekeeper", daemon=True)
        self._app, self._services, self._leads, self._stop_asked = app, services, leads, stop

    def run(self) -> None:
        """Hour after hour until `stop` is set."""
        wait_s = FIRST_AFTER_S
        while not self._stop_asked.wait(wait_s):
            wait_s = EVERY_S
            if self._leads.is_set():
                self.step()

    def step(self) -> None:
        """One look; what fails is logged and comes again."""
        try:
            let_replies_expire(self._app)
            tidy(self._services)
        except AcisError as exc:
            log.warning("housekeeping.failed", error=str(exc))
        except Exception:
            log.exception("housekeeping.crashed")
