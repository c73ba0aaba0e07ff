"""Ends MLflow runs that say RUNNING although their run in the ledger has ended; MLflow has no sign of life.

A killed worker leaves one, and so does a server that dies, or is silent, between making a run and saying so: the
request is repeated, and makes another. Called by the reconciler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import RunNotFound
from mlops.domain.run_states import TERMINAL

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.domain.records import RunState

log = structlog.get_logger(__name__)


class StaleRuns:
    """Closes what it has seen in two steps in a row: a drift check may be logged after its run's end."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def step(self, services: Services) -> int:
        """Close what is stale; how many. Raises RegistryUnavailable, LedgerUnavailable."""
        ended = {
            run.run_id: state
            for run in services.registry.open_runs()
            if (state := _state(services, run.ledger_run_id)) in TERMINAL
        }
        stale = [run_id for run_id in ended if run_id in self._seen]
        for run_id in stale:
            services.registry.close_run(run_id, reason=f"the run ended {ended[run_id]}, and this was left open")
        self._seen = set(ended) - set(stale)
        if stale:
            log.info("registry.stale_runs_closed", runs=len(stale))
        return len(stale)


def _state(services: Services, run_id: str) -> RunState | None:
    """None: another ledger's."""
    try:
        return services.ledger.run(run_id).state
    except RunNotFound:
        return None
