"""Ends the MLflow runs of trainings that ended without one: dead, failed or cancelled.

A killed training leaves its MLflow run RUNNING, and MLflow has no sign of life. Called by the reconciler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from mlops.ledger.records import RunState, Stage

if TYPE_CHECKING:
    from mlops.bootstrap import Services

log = structlog.get_logger(__name__)

ENDED_BADLY = (RunState.DEAD, RunState.FAILED, RunState.CANCELLED)
#: So many of the newest are looked at in each step; a reconciler that was away longer misses the older ones.
LOOKED_AT = 100


class StaleRuns:
    """Remembers which runs were closed."""

    def __init__(self) -> None:
        self._closed: set[str] = set()

    def step(self, services: Services) -> int:
        """Close what is open; how many. Raises RegistryUnavailable, LedgerUnavailable."""
        n_closed = 0
        ended = services.ledger.runs(states=ENDED_BADLY, limit=LOOKED_AT)
        for view in ended:
            if view.run_id in self._closed or not any(stage.stage is Stage.TRAIN for stage in view.stages):
                continue
            n_closed += services.registry.close_stale_runs(view.run_id, reason=f"the run ended {view.state}")
            self._closed.add(view.run_id)
        self._closed &= {view.run_id for view in ended}
        if n_closed:
            log.info("registry.stale_runs_closed", runs=n_closed)
        return n_closed
