"""Deletes from MLflow what was logged a second time for one run of the ledger: the one that the ledger does not name.

Two that log the same check at once each make a run, and the one that comes second deletes its own; so does a worker
that registers a second version of its run. Where that fails, or its process dies before, it stays until this finds it.
What this ledger does not know may be another's, and is left alone. Called by the reconciler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.domain.ports import LoggedByRun

log = structlog.get_logger(__name__)

SAFE_AGE = timedelta(minutes=15)
"""What is younger may be its writer's to delete."""
RECENT = timedelta(days=2)
"""A walk looks at what began since then; the first one of a process, and one a day, at all."""
PAUSE_S = 600.0
WHOLE_WALK_S = 86_400.0


class SecondLogs:
    """Walks runs and versions from the newest to the oldest, a page of each at a step."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, safe_age: timedelta = SAFE_AGE) -> None:
        self._walks = [_Walk(kind, clock, safe_age) for kind in ("runs", "versions")]

    def step(self, services: Services) -> int:
        """How many were deleted. Raises RegistryUnavailable, LedgerUnavailable."""
        return sum(walk.step(services) for walk in self._walks)


class _Walk:
    def __init__(self, kind: str, clock: Callable[[], float], safe_age: timedelta) -> None:
        self._kind, self._clock, self._safe_age = kind, clock, safe_age
        self._page: str | None = None
        self._is_whole = True
        self._rests_until = self._whole_again_at = float("-inf")

    def step(self, services: Services) -> int:
        now = self._clock()
        if now < self._rests_until:
            return 0
        if self._page is None:
            self._is_whole = now >= self._whole_again_at
        registry = services.registry
        list_page = registry.logged_runs if self._kind == "runs" else registry.logged_versions
        logged, self._page = list_page(page=self._page)
        until = services.ledger.now()
        old = [one for one in logged if one.at <= until - self._safe_age]
        n_dropped = _drop_second(services, old)
        if not self._is_whole and any(one.at < until - RECENT for one in logged):
            self._page = None
        if self._page is None:
            self._rests_until = now + PAUSE_S
            if self._is_whole:
                self._whole_again_at = now + WHOLE_WALK_S
        return n_dropped


def _drop_second(services: Services, logged: list[LoggedByRun]) -> int:
    named = services.ledger.named_in_registry([one.ledger_run_id for one in logged])
    n_dropped = 0
    for one in logged:
        name = named.get((one.ledger_run_id, one.kind))
        # Where the one that is named is gone, as after MLflow was recreated, the other one is all there is.
        if name in (None, one.name) or not services.registry.is_logged(replace(one, name=str(name))):
            continue
        services.registry.drop(one)
        log.warning("registry.second_log_dropped", run_id=one.ledger_run_id, kind=one.kind, dropped=one.name, kept=name)
        n_dropped += 1
    return n_dropped
