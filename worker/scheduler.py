"""Celery beat's scheduler over the ledger's timetable.

It keeps no state of its own, so any number of beats may run and none needs a lock: a slot is unique.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import Scheduler

from mlops import tracing
from mlops.domain.errors import AcisError
from tasks.services import process_services
from worker.health import health_file, own_name, ready_file, touch
from worker.timetable import open_due_slots, sync_timetable

log = structlog.get_logger(__name__)


class LedgerScheduler(Scheduler):
    """Opens the run of each slot that falls due, then sends its message."""

    def setup_schedule(self) -> None:
        """Nothing to set up before the ledger answers; the first tick does it."""
        self._edition: int | None = None
        tracing.begin("beat")
        ready_file(process_services().settings.var_dir, own_name("beat")).unlink(missing_ok=True)

    def tick(self, *_: Any, **__: Any) -> float:  # noqa: ANN401
        """One look at the timetable; seconds until the next. Whatever goes wrong in one, the next one comes."""
        try:
            services = process_services()
            touch(health_file(services.settings.var_dir, own_name("beat")))
            # An edit of a schedule, or a pause, is taken over within a tick.
            edition = services.ledger.newest_policy_edit()
            if edition != self._edition:
                sync_timetable(services)
                self._edition = edition
            open_due_slots(services, services.dispatcher)
            touch(ready_file(services.settings.var_dir, own_name("beat")))
        except AcisError as exc:
            log.warning("beat.waits", error=str(exc))
        except Exception:
            # The edge of a process that nobody would miss before a slot is due.
            log.exception("beat.tick_crashed")
        return float(self.max_interval or 5)
