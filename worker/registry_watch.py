"""Brings ledger and registry together again, in a thread of its own: a slow MLflow delays no bell and no lease."""

from __future__ import annotations

import threading

import structlog

from mlops.bootstrap import Services
from mlops.domain.errors import AcisError
from mlops.registry.maintenance import ArtifactMeasuring, SecondLogs, StaleRuns
from mlops.registry.quarantine import ForgottenTime
from mlops.registry.repair import RegistryRepair
from mlops.registry.report_projection import UnloggedReports

log = structlog.get_logger(__name__)


class RegistryWatch(threading.Thread):
    """Works while `leads` is set: this process holds, or held a moment ago, the reconcilers' lock.

    Each step is safe to repeat, and safe beside another's, so a change of leader in the middle does no harm.
    """

    def __init__(self, services: Services, *, leads: threading.Event, stop: threading.Event) -> None:
        super().__init__(name="registry-watch", daemon=True)
        self._services = services
        self._leads = leads
        self._stop_asked = stop
        self._forgotten = ForgottenTime()
        self._repair = RegistryRepair()
        self._stale = StaleRuns()
        self._reports = UnloggedReports()
        self._second = SecondLogs()
        self._sizes = ArtifactMeasuring()

    def run(self) -> None:
        """Step after step until `stop` is set."""
        while not self._stop_asked.wait(self._services.settings.reconcile_s):
            if self._leads.is_set() and self._services.settings.mlflow_tracking_uri is not None:
                self.step()

    def step(self) -> None:
        """One look; what fails is logged and comes again."""
        try:
            self._forgotten.step(self._services)
            self._repair.step(self._services)
            self._stale.step(self._services)
            self._reports.step(self._services)
            self._second.step(self._services)
            self._sizes.step(self._services)
        except AcisError as exc:
            log.warning("registry.not_reconciled", error=str(exc))
        except Exception:
            log.exception("registry.watch_crashed")
