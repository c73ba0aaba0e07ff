"""Brings ledger and registry together again: unfinished projections, and changes made by hand.

Called by the reconciler. A change in MLflow's own pages is believed when two passes in a row see it, because
a projection in progress looks like one for a moment. By default it is adopted: the ledger records it as made
by hand; a policy may have it reverted instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from mlops.errors import ModelNotFound, PermanentError, TemporaryError, VersionNotFound
from mlops.mlflow.adoption import adopt, shown_champion
from mlops.mlflow.projection import project

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.ledger.records import Champion, Promotion
    from mlops.strategies import Strategy

log = structlog.get_logger(__name__)

#: The registry is looked at this often; every look costs a few requests per strategy.
EVERY_S = 60.0


class RegistryRepair:
    """Remembers what the last pass saw."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._suspected: dict[str, tuple[str | None, int]] = {}
        self._look_at = monotonic()

    def step(self, services: Services) -> None:
        """Finish projections; once a minute, look for changes made by hand."""
        if services.settings.mlflow_tracking_uri is None:
            return
        pending = services.ledger.unprojected()
        if not pending and self._monotonic() < self._look_at:
            return
        try:
            unfinished = {promotion.strategy for promotion in pending if not _finish(services, promotion)}
            for name in services.strategies:
                if name not in unfinished:  # what it shows is old, not made by hand
                    self._look_alone(services, name)
        except TemporaryError as exc:
            log.warning("registry.waits", error=str(exc))
        self._look_at = self._monotonic() + EVERY_S

    def _look_alone(self, services: Services, name: str) -> None:
        """One strategy that the registry refuses does not keep the others from being looked at."""
        try:
            self._look(services, services.policies[name])
        except PermanentError as exc:
            log.warning("registry.not_repaired", strategy=name, error=str(exc))

    def _look(self, services: Services, strategy: Strategy) -> None:
        champion = services.ledger.champion(strategy.name)
        shown = shown_champion(services.registry, strategy.model_name, champion)
        if shown == champion.version:
            self._suspected.pop(strategy.name, None)
            return
        if self._suspected.get(strategy.name) != (shown, champion.seq):
            self._suspected[strategy.name] = (shown, champion.seq)
            return
        self._suspected.pop(strategy.name)
        if strategy.promotion.manual_changes == "revert" and champion.version is not None:
            self._revert(services, strategy, champion)
        else:
            promotion = adopt(services.ledger, services.registry, strategy, champion, shown)
            if promotion is not None:
                project(promotion, services.registry, services.ledger)

    def _revert(self, services: Services, strategy: Strategy, champion: Champion) -> None:
        log.warning("registry.reverted", strategy=strategy.name, version=champion.version, action="promote by policy")
        services.registry.apply_stage(
            strategy.model_name, str(champion.version), "Production", seq=champion.seq, tags={}
        )


def _finish(services: Services, promotion: Promotion) -> bool:
    """Show one decision; False where the registry refuses. One about a version that somebody deleted is done."""
    try:
        project(promotion, services.registry, services.ledger)
    except (ModelNotFound, VersionNotFound) as exc:
        log.warning("registry.version_gone", model=promotion.model_name, version=promotion.version, error=str(exc))
        services.ledger.projected(promotion.id)
    except PermanentError as exc:
        log.warning("registry.not_projected", model=promotion.model_name, version=promotion.version, error=str(exc))
        return False
    return True
