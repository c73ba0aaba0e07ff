"""Takes away what is old, once an hour, in a thread of its own: thousands of rows delay no bell."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from celery import Celery

from mlops.bootstrap import Services
from mlops.domain.errors import AcisError
from mlops.domain.records import AHEAD_S
from mlops.housekeeping import tidy
from mlops.runs.lease import suspended_too
from worker.replies import let_replies_expire

log = structlog.get_logger(__name__)

EVERY_S = 3600.0
#: A reconciler that has just started has more urgent work.
FIRST_AFTER_S = 300.0
#: A clock that was moved says of everything that it is old, and is believed after so long without another move.
BELIEVED_AFTER_S = 86_400.0


class Housekeeper(threading.Thread):
    """Works while `leads` is set: this process holds, or held a moment ago, the reconcilers' lock."""

    def __init__(
        self,
        app: Celery,
        services: Services,
        *,
        leads: threading.Event,
        stop: threading.Event,
        monotonic: Callable[[], float] = suspended_too,
    ) -> None:
        super().__init__(name="housekeeper", daemon=True)
        self._app, self._services, self._leads, self._stop_asked = app, services, leads, stop
        self._monotonic = monotonic
        self._offset_s: float | None = None
        self._moved_at: float | None = None

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
            if self._clock_is_believed():
                tidy(self._services)
        except AcisError as exc:
            log.warning("housekeeping.failed", error=str(exc))
        except Exception:
            log.exception("housekeeping.crashed")

    def _clock_is_believed(self) -> bool:
        """Whether the ledger's clock may say what is old: it is this machine's, and has not been moved lately."""
        now, monotonic = self._services.ledger.now(), self._monotonic()
        offset_s = now.timestamp() - monotonic
        if self._offset_s is not None and abs(offset_s - self._offset_s) > AHEAD_S:
            self._moved_at = monotonic
        self._offset_s = offset_s
        apart_s = (self._services.now() - now).total_seconds()
        was_moved = self._moved_at is not None and monotonic - self._moved_at < BELIEVED_AFTER_S
        if was_moved or abs(apart_s) > AHEAD_S:
            log.warning(
                "housekeeping.waits",
                clocks_apart_s=round(apart_s),
                was_moved=was_moved,
                action="set the clocks right; what was moved is believed after a day",
            )
            return False
        return True
