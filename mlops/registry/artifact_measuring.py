"""How many bytes the registry's runs hold, a few runs at each look; each is measured once, when it has ended.

Called by the reconciler; the admin page shows the sums by month.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from mlops.bootstrap import Services

log = structlog.get_logger(__name__)

RUNS_A_LOOK = 20
"""Each costs the registry some requests; at a look every half a minute that is 2,400 runs an hour."""
PAUSE_S = 60.0
"""After everything was measured; then the newest thousand runs are looked at again."""
WALK_S = 86400.0
"""And all runs so often: one that ran for long may have ended among the older ones."""


class ArtifactMeasuring:
    """Walks the ended runs from the newest to the oldest, and then looks at the newest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._page: str | None = None
        self._rests_until = self._walks_again_at = float("-inf")

    def step(self, services: Services) -> int:
        """How many were measured. Raises RegistryUnavailable, LedgerUnavailable."""
        now = self._clock()
        if now < self._rests_until:
            return 0
        runs, following = services.registry.ended_runs(page=self._page)
        began = {run.run_id: run.started_at for run in runs}
        missing = services.ledger.unmeasured(list(began))
        sizes: dict[str, tuple[int, datetime]] = {
            run_id: (services.registry.artifact_bytes(run_id), began[run_id]) for run_id in missing[:RUNS_A_LOOK]
        }
        services.ledger.measured(sizes)
        if len(missing) <= RUNS_A_LOOK:
            self._page = following if now >= self._walks_again_at else None
            if self._page is None:
                self._rests_until = now + PAUSE_S
            if following is None:
                self._walks_again_at = now + WALK_S
        if sizes:
            log.info("registry.measured", runs=len(sizes))
        return len(sizes)
