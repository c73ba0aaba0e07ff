"""Makes good what died in between; a small process of its own.

Any number may run: one works at a time, under a lock in the database. It needs neither beat nor a worker to
be right, and with Redis down it does what needs no Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.bootstrap import Services
from mlops.domain.errors import AcisError, LedgerUnavailable
from mlops.domain.ports import Ledger
from mlops.domain.records import AHEAD_S, WorkerBeat, place_of
from mlops.housekeeping import tidy
from mlops.registry.maintenance import ArtifactMeasuring, RollbackTargets, SecondLogs, StaleRuns
from mlops.registry.quarantine import ForgottenTime
from mlops.registry.repair import SOON_S, RegistryRepair
from mlops.registry.report_projection import UnloggedReports
from mlops.runs.lease import suspended_too
from tasks.outcomes import deliver_outcomes, restore_flushed_outcomes
from worker.health import health_file, own_name, ready_file, touch
from worker.live_watch import LiveWatch
from worker.publications import republish
from worker.replies import drop_bindings_of_the_gone, impatient_connection, let_replies_expire
from worker.routing import ROLES
from worker.set_back import correct_outcomes, notice_set_back
from worker.timetable import open_due_slots

log = structlog.get_logger(__name__)

# ---- Asks the workers for a sign of life and notes it in the ledger
#
# The workers' main processes fork children and keep away from the database, so the reconciler asks for them.

#: How long to wait for the workers' answers; they answer within milliseconds when they live.
_INSPECT_TIMEOUT_S = 1.0


def _note_workers(app: Celery, ledger: Ledger) -> int:
    """Note who answers; how many. With Redis down nobody is asked."""
    try:
        with impatient_connection(app) as connection:
            inspect = app.control.inspect(timeout=_INSPECT_TIMEOUT_S, connection=connection)
            queues = inspect.active_queues() or {}
            stats = inspect.stats() or {}
    except (OperationalError, RedisError, OSError):
        return 0
    for name, served in queues.items():
        names = tuple(sorted(queue["name"] for queue in served))
        about: Any = stats.get(name, {})
        ledger.worker_seen(
            WorkerBeat(
                name=name,
                role=next((role for role, spec in ROLES.items() if spec.queue in names), "other"),
                queues=names,
                device="gpu" if "train.gpu" in names else "cpu",
                pid=int(about.get("pid", 0)),
                host=place_of(name).partition("@")[2],
                concurrency=int(about.get("pool", {}).get("max-concurrency", 0)),
                uptime_s=_uptime(about),
            )
        )
    drop_bindings_of_the_gone(app, ledger, alive=queues)
    return len(queues)


def _uptime(about: Mapping[str, Any]) -> float | None:
    """None where it was not told, or the host's clock was set back since its start."""
    uptime_s = about.get("uptime")
    return float(uptime_s) if isinstance(uptime_s, int | float) and uptime_s >= 0 else None


# ---- Brings ledger and registry together again, in threads of their own: a slow MLflow delays no message and no lease,
# and what takes long there delays no look at what it shows


class _RegistryStep(Protocol):
    def step(self, services: Services) -> object:
        """One look. Raises AcisError."""
        ...


class RegistryThread(threading.Thread):
    """Works while `leads` is set: this process holds, or held a moment ago, the reconcilers' lock.

    Each step is safe to repeat, and safe beside another's, so a change of leader in the middle does no harm.
    """

    def __init__(
        self,
        name: str,
        *steps: _RegistryStep,
        services: Services,
        every_s: float,
        leads: threading.Event,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._steps, self._every_s = steps, every_s
        self._services, self._leads, self._stop_asked = services, leads, stop

    def run(self) -> None:
        """Step after step until `stop` is set."""
        while not self._stop_asked.wait(self._every_s):
            if self._leads.is_set() and self._services.settings.mlflow_tracking_uri is not None:
                self.step()

    def step(self) -> None:
        """One look; what fails is logged and comes again."""
        try:
            for part in self._steps:
                part.step(self._services)
        except AcisError as exc:
            log.warning("registry.not_reconciled", error=str(exc))
        except Exception:
            log.exception("registry.watch_crashed")


def registry_threads(
    services: Services, *, leads: threading.Event, stop: threading.Event
) -> tuple[RegistryThread, RegistryThread]:
    """What looks after the champions, and what tidies, completes, measures and checks what stands beside them."""
    every_s = services.settings.reconcile_s
    made = partial(RegistryThread, services=services, leads=leads, stop=stop)
    return (
        made("RegistryWatch", ForgottenTime(), RegistryRepair(), every_s=min(SOON_S, every_s)),
        made(
            "RegistryMaintenance",
            StaleRuns(),
            UnloggedReports(),
            SecondLogs(),
            ArtifactMeasuring(),
            RollbackTargets(),
            every_s=every_s,
        ),
    )


# ---- Takes away what is old, once an hour, in a thread of its own: thousands of rows delay no message

EVERY_S = 3600.0
#: A reconciler that has just started has more urgent work.
_FIRST_AFTER_S = 300.0
#: A clock that was moved says of everything that it is old, and is believed after so long without another move.
_BELIEVED_AFTER_S = 86_400.0


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
        wait_s = _FIRST_AFTER_S
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
        was_moved = self._moved_at is not None and monotonic - self._moved_at < _BELIEVED_AFTER_S
        if was_moved or abs(apart_s) > AHEAD_S:
            log.warning(
                "housekeeping.waits",
                clocks_apart_s=round(apart_s),
                was_moved=was_moved,
                action="set the clocks right; what was moved is believed after a day",
            )
            return False
        return True


PORTION, PORTIONS = 200, 50
"""Outcomes that are stored together, and how often in one pass: 10,000 in some ten seconds."""

SOONEST_S = 5.0
"""Between two passes, where the second is for a lease that runs out or a stage that waited: it asks every worker."""
_NEWEST_REPORTS = 2_000
"""Where a worker of an older version may have stored one since the last pass; housekeeping looks at all of them."""


def run_forever(app: Celery, services: Services, stop: threading.Event) -> None:
    """Pass after pass until `stop` is set; a pass that fails is logged, and the next one comes."""
    leads = threading.Event()
    for thread in registry_threads(services, leads=leads, stop=stop):
        thread.start()
    Housekeeper(app, services, leads=leads, stop=stop).start()
    LiveWatch(services, leads=leads, stop=stop).start()
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


def _deliver_all(app: Celery, ledger: Ledger) -> None:
    """All pending outcomes, in portions: a result backend that was emptied is filled again in one pass."""
    for _ in range(PORTIONS):
        if deliver_outcomes(app, ledger, limit=PORTION) < PORTION:
            return


def reconcile(app: Celery, services: Services) -> None:
    """One pass. Each step stands alone: one that fails does not keep the others from their work."""
    dispatcher = services.dispatcher
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("set_back", lambda: notice_set_back(app, services)),
        ("workers", lambda: _note_workers(app, services.ledger)),
        ("clock", lambda: set_leases_back(services.ledger)),
        ("inline", services.ledger.fail_lost_inline),
        ("publish", lambda: republish(app, services, dispatcher)),
        ("slots", lambda: open_due_slots(services, dispatcher)),
        ("reports", lambda: services.ledger.fill_check_columns(among_newest=_NEWEST_REPORTS)),
        ("flushed", lambda: restore_flushed_outcomes(app, services.ledger)),
        ("outcomes_of_a_forgotten_time", lambda: correct_outcomes(app, services)),
        ("outcomes", lambda: _deliver_all(app, services.ledger)),
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
