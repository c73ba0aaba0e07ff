"""Makes good what died in between; a small process of its own.

Any number may run: one works at a time, under a lock in the database. It needs neither beat nor a worker to
be right, and with Redis down it does what needs no Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from celery import Celery

from mlops.bootstrap import Services
from mlops.domain.errors import AcisError, LedgerUnavailable
from mlops.domain.ports import Ledger
from tasks.outcomes import deliver_outcomes, restore_flushed_outcomes
from worker.health import health_file, own_name, ready_file, touch
from worker.housekeeper import Housekeeper
from worker.publications import republish
from worker.registry_watch import RegistryWatch
from worker.roll_call import note_workers
from worker.set_back import correct_outcomes, notice_set_back
from worker.timetable import open_due_slots

log = structlog.get_logger(__name__)

PORTION, PORTIONS = 200, 50
"""Outcomes that are stored together, and how often in one pass: 10,000 in some ten seconds."""

SOONEST_S = 5.0
"""Between two passes, where the second is for a lease that runs out or a stage that waited: it asks every worker."""
NEWEST_REPORTS = 2_000
"""Where a worker of an older version may have stored one since the last pass; housekeeping looks at all of them."""


def run_forever(app: Celery, services: Services, stop: threading.Event) -> None:
    """Pass after pass until `stop` is set; a pass that fails is logged, and the next one comes."""
    leads = threading.Event()
    RegistryWatch(services, leads=leads, stop=stop).start()
    Housekeeper(app, services, leads=leads, stop=stop).start()
    alive = health_file(services.settings.var_dir, own_name("reconciler"))
    ready = ready_file(services.settings.var_dir, own_name("reconciler"))
    ready.unlink(missing_ok=True)
    while not stop.is_set():
        pause_s = services.settings.reconcile_s
        try:
            touch(alive)
            with services.ledger.try_reconcile_lock() as mine:
                leads.set() if mine else leads.clear()
                if mine:
                    reconcile(app, services)
                    pause_s = min(pause_s, max(SOONEST_S, services.ledger.due_after_s()))
            touch(ready)  # also as the one that waits for the lock
        except AcisError as exc:
            leads.clear()
            log.warning("reconcile.waits", error=str(exc))
        except Exception:
            leads.clear()
            log.exception("reconcile.pass_crashed")
        stop.wait(pause_s)


def set_leases_back(ledger: Ledger) -> None:
    """A clock that was ahead keeps nobody from a dead worker's stage, nor a stage from its next try."""
    n_stages = ledger.set_leases_back()
    if n_stages:
        log.warning("clock.went_back", stages=n_stages, next="their leases and pauses begin now")


def deliver_all(app: Celery, ledger: Ledger) -> None:
    """All pending outcomes, in portions: a result backend that was emptied is filled again in one pass."""
    for _ in range(PORTIONS):
        if deliver_outcomes(app, ledger, limit=PORTION) < PORTION:
            return


def reconcile(app: Celery, services: Services) -> None:
    """One pass. Each step stands alone: one that fails does not keep the others from their work."""
    dispatcher = services.dispatcher
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("set_back", lambda: notice_set_back(app, services)),
        ("workers", lambda: note_workers(app, services.ledger)),
        ("clock", lambda: set_leases_back(services.ledger)),
        ("inline", services.ledger.fail_lost_inline),
        ("publish", lambda: republish(app, services, dispatcher)),
        ("slots", lambda: open_due_slots(services, dispatcher)),
        ("reports", lambda: services.ledger.fill_check_columns(among_newest=NEWEST_REPORTS)),
        ("flushed", lambda: restore_flushed_outcomes(app, services.ledger)),
        ("outcomes_of_a_forgotten_time", lambda: correct_outcomes(app, services)),
        ("outcomes", lambda: deliver_all(app, services.ledger)),
    )
    for name, step in steps:
        try:
            step()
        except LedgerUnavailable:
            raise
        except AcisError as exc:
            log.warning("reconcile.step_failed", step=name, error=str(exc))
        except Exception:
            log.exception("reconcile.step_crashed", step=name)
