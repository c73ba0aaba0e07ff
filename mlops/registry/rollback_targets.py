"""Looks once a day whether what a strategy could be rolled back to is whole, so that damage is known before it matters.

Called by the reconciler, one strategy a step. Of each of the newest former champions the registry has the version, and
its model file the digest that the ledger recorded. What is damaged is a finding and an alert; it stops no promotion. A
finding is settled when the file is seen whole again, or when the version is no rollback target any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import structlog

from mlops.domain.errors import ModelNotFound, UnusableModelFile, VersionNotFound
from mlops.domain.ports import expect
from mlops.registry.adoption import identity_by_bytes
from mlops.registry.kept_models import KEPT_FORMER

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.registry.services import RegistryServices

log = structlog.get_logger(__name__)

EVERY_S = 86_400.0
"""Between two looks at a strategy; the first one of a process is soon."""


class RollbackTargets:
    """Remembers when it looked at which strategy; another process, or a restart, looks anew."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._looked_at: dict[str, float] = {}

    def step(self, services: RegistryServices) -> None:
        """Look at the strategy that was looked at longest ago, where that was a day.

        Raises LedgerUnavailable, RegistryUnavailable: then it is looked at again.
        """
        now = self._monotonic()
        due = [name for name in services.strategies if now - self._looked_at.get(name, float("-inf")) >= EVERY_S]
        if due:
            check_rollback_targets(services, services.strategies[due[0]])
            self._looked_at[due[0]] = now


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
        except (ModelNotFound, VersionNotFound, UnusableModelFile) as exc:
            words = (
                f"version {former.version} of {strategy.name!r}, a former champion, cannot be rolled back to: {exc}. "
                f"Bring its file back from MLflow's backup; until then a rollback passes it over"
            )
            yield f"{former.version} {former.identity.sha256[:16]}", words
