"""Maintenance of the registry: closes stale runs, deletes what was logged twice, measures artifacts, reads old files.

Called by the reconciler, a step at a time.

A run of MLflow may say RUNNING although its run in the ledger has ended; MLflow has no sign of life. A killed worker
leaves one, and so does a server that dies, or is silent, between making a run and saying so: the request is repeated,
and makes another.

Two that log the same check at once each make a run, and the one that comes second deletes its own; so does a worker
that registers a second version of its run. Where that fails, or its process dies before, it stays until this finds it.
What this ledger does not know may be another's, and is left alone.

The bytes of each run's artifacts are measured once, when it has ended; the admin page shows the sums by month.

Once a day it is looked at whether what a strategy could be rolled back to is whole, so that damage is known before it
matters: of each of the newest former champions the registry has the version, and its model file the digest that the
ledger recorded. Damage is a finding and an alert, and stops no promotion; it is settled when the file is seen whole
again, or when the version is no rollback target any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import RegistryError, RunNotFound
from mlops.domain.ports import expect
from mlops.domain.run_states import TERMINAL
from mlops.registry.adoption import identity_by_bytes
from mlops.registry.kept_models import KEPT_FORMER

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import LoggedByRun
    from mlops.domain.records import RunState
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

_SAFE_AGE = timedelta(minutes=15)
"""What is younger may be its writer's to delete."""
_RECENT = timedelta(days=2)
"""A walk looks at what began since then; the first one of a process, and one a day, at all."""
PAUSE_S = 600.0
_WHOLE_WALK_S = 86_400.0
RUNS_A_LOOK = 20
"""Each costs the registry some requests; at a look every half a minute that is 2,400 runs an hour."""
MEASURING_PAUSE_S = 60.0
"""After everything was measured; then the newest thousand runs are looked at again."""
MEASURING_WALK_S = 86400.0
"""And all runs so often: one that ran for long may have ended among the older ones."""
TARGETS_EVERY_S = 86_400.0
"""Between two looks at what a strategy could be rolled back to; the first one of a process is soon."""


class StaleRuns:
    """Closes what it has seen in two steps in a row: a drift check may be logged after its run's end."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def step(self, services: RegistryServices) -> int:
        """Close what is stale and return how many. Raises RegistryUnavailable, LedgerUnavailable."""
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


def _state(services: RegistryServices, run_id: str) -> RunState | None:
    """State of a run of this ledger; None for another ledger's."""
    try:
        return services.ledger.run(run_id).state
    except RunNotFound:
        return None


class SecondLogs:
    """Walks runs and versions from the newest to the oldest, a page of each at a step."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, safe_age: timedelta = _SAFE_AGE) -> None:
        self._walks = [_Walk(kind, clock, safe_age) for kind in ("runs", "versions")]

    def step(self, services: RegistryServices) -> int:
        """Delete second logs and return how many. Raises RegistryUnavailable, LedgerUnavailable."""
        return sum(walk.step(services) for walk in self._walks)


class _Walk:
    def __init__(self, kind: str, clock: Callable[[], float], safe_age: timedelta) -> None:
        self._kind, self._clock, self._safe_age = kind, clock, safe_age
        self._page: str | None = None
        self._is_whole = True
        self._rests_until = self._whole_again_at = float("-inf")

    def step(self, services: RegistryServices) -> int:
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
        if not self._is_whole and any(one.at < until - _RECENT for one in logged):
            self._page = None
        if self._page is None:
            self._rests_until = now + PAUSE_S
            if self._is_whole:
                self._whole_again_at = now + _WHOLE_WALK_S
        return n_dropped


def _drop_second(services: RegistryServices, logged: list[LoggedByRun]) -> int:
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


class ArtifactMeasuring:
    """Walks the ended runs from the newest to the oldest, and then looks at the newest."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._page: str | None = None
        self._rests_until = self._walks_again_at = float("-inf")

    def step(self, services: RegistryServices) -> int:
        """Measure runs and return how many. Raises RegistryUnavailable, LedgerUnavailable."""
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
                self._rests_until = now + MEASURING_PAUSE_S
            if following is None:
                self._walks_again_at = now + MEASURING_WALK_S
        if sizes:
            log.info("registry.measured", runs=len(sizes))
        return len(sizes)


class RollbackTargets:
    """Remembers when it looked at which strategy; another process, or a restart, looks anew."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._looked_at: dict[str, float] = {}
        self._tried_at: dict[str, float] = {}
        """Whatever came of it"""

    def step(self, services: RegistryServices) -> None:
        """Look at one strategy that was last looked at a day ago: the one whose last try is the oldest.

        Raises LedgerUnavailable, RegistryUnavailable: then it is looked at again, after the others that are due.
        """
        now = self._monotonic()
        due = [
            name for name in services.strategies if now - self._looked_at.get(name, float("-inf")) >= TARGETS_EVERY_S
        ]
        if due:
            name = min(due, key=lambda one: self._tried_at.get(one, float("-inf")))
            self._tried_at[name] = now
            check_rollback_targets(services, services.strategies[name])
            self._looked_at[name] = now


def check_rollback_targets(services: RegistryServices, strategy: Strategy) -> list[str]:
    """What is wrong with the newest former champions, in words, each an open finding from now on; empty: nothing.

    Raises LedgerUnavailable, RegistryUnavailable.
    """
    ledger = services.ledger
    damaged = dict(_damaged(services, strategy))
    for key, words in damaged.items():
        if ledger.note_registry_finding(strategy.name, "damaged_target", key, words):
            log.warning("registry.rollback_target_damaged", strategy=strategy.name, target=key, action=words)
    if whole := ledger.settle_targets(strategy.name, still_damaged=damaged):
        log.info("registry.rollback_targets_whole", strategy=strategy.name, settled=whole)
    return list(damaged.values())


def _damaged(services: RegistryServices, strategy: Strategy) -> Iterator[tuple[str, str]]:
    for former in services.ledger.former_champions(strategy.name)[:KEPT_FORMER]:
        if former.identity.sha256 is None:
            continue  # never a target, and nothing can be said of its bytes
        try:
            version = expect(services.registry.version(strategy.model_name, former.version), former.identity)
            identity_by_bytes(services.ledger, services.registry, version)
        except RegistryError as exc:
            words = (
                f"version {former.version} of {strategy.name!r}, a former champion, cannot be rolled back to: {exc}. "
                f"Bring its file back from MLflow's backup; until then a rollback passes it over"
            )
            yield f"{former.version} {former.identity.sha256[:16]}", words
