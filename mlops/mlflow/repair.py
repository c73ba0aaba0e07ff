"""Brings ledger and registry together again: unfinished projections, and changes made by hand.

Called by the reconciler. A change in MLflow's own pages is believed when two passes in a row see it, because
a projection in progress looks like one for a moment. By default it is adopted: the ledger records it as made
by hand; a policy may have it reverted instead.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from mlops.errors import ChampionMoved, ModelNotFound, TemporaryError
from mlops.ledger.records import Champion, PromotionDecision
from mlops.mlflow.projection import project
from mlops.training.fingerprint import evidence_digest

if TYPE_CHECKING:
    from mlops.bootstrap import Services
    from mlops.ports import ModelRegistry
    from mlops.strategies import Strategy

log = structlog.get_logger(__name__)

#: The registry is looked at this often; every look costs a few requests per strategy.
EVERY_S = 60.0


class RegistryRepair:
    """Remembers what the last pass saw."""

    def __init__(self) -> None:
        self._suspected: dict[str, tuple[str | None, int]] = {}
        self._looked_at = 0.0

    def step(self, services: Services) -> None:
        """Finish projections; once a minute, look for changes made by hand."""
        if services.settings.mlflow_tracking_uri is None:
            return
        pending = services.ledger.unprojected()
        if not pending and time.monotonic() - self._looked_at < EVERY_S:
            return
        try:
            for promotion in pending:
                project(promotion, services.registry, services.ledger)
            for name in services.strategies:
                self._look(services, services.strategies[name])
        except TemporaryError as exc:
            log.warning("registry.waits", error=str(exc))
        self._looked_at = time.monotonic()

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
            self._adopt(services, strategy, champion, shown)

    def _revert(self, services: Services, strategy: Strategy, champion: Champion) -> None:
        log.warning("registry.reverted", strategy=strategy.name, version=champion.version, action="promote by policy")
        services.registry.apply_stage(
            strategy.model_name, str(champion.version), "Production", seq=champion.seq, tags={}
        )

    def _adopt(self, services: Services, strategy: Strategy, champion: Champion, shown: str | None) -> None:
        evidence = {"kind": "manual", "from": champion.version, "to": shown}
        version = shown or champion.version
        if version is None:
            return
        decision = PromotionDecision(
            decision="manual",
            version=version,
            model_name=strategy.model_name,
            reasons=("changed by hand in the model registry",),
            evidence=evidence,
            evidence_digest=evidence_digest(evidence),
            actor="mlflow",
            target_stage="Production" if shown else "Archived",
            expected_seq=champion.seq,
            as_of=champion.as_of,
        )
        try:
            promotion = services.ledger.record_transition(strategy.name, decision)
        except ChampionMoved:
            return
        project(promotion, services.registry, services.ledger)
        log.warning("registry.adopted", strategy=strategy.name, version=shown, was=champion.version)


def shown_champion(registry: ModelRegistry, model_name: str, champion: Champion) -> str | None:
    """The version that the registry shows as champion: what a hand moved, be it the alias or the stage."""
    try:
        versions = registry.versions(model_name)
    except ModelNotFound:
        return None
    aliased = next((item.version for item in versions if "champion" in item.aliases), None)
    staged = [item.version for item in versions if item.stage == "Production"]
    if aliased != champion.version:
        return aliased or (staged[0] if staged else None)
    moved = [version for version in staged if version != champion.version]
    if moved:
        return moved[0]
    return aliased if staged or aliased is None else None
