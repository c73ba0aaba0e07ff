"""What the registry shows as champion, taken into the ledger.

Called by the repair for changes made by hand, and by the stages where the ledger knows no champion yet: a new
ledger on a registry that has one would else promote without a comparison.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import structlog

from mlops.errors import ChampionMoved, ModelNotFound
from mlops.ledger.records import LIVE, Champion, PromotionDecision
from mlops.training.fingerprint import evidence_digest

if TYPE_CHECKING:
    from mlops.ledger.records import Promotion
    from mlops.ports import Ledger, ModelRegistry, ModelVersion
    from mlops.strategies import Strategy

log = structlog.get_logger(__name__)


def adopt_first(ledger: Ledger, registry: ModelRegistry, strategy: Strategy) -> Champion:
    """The live champion; where the ledger never had one, the version that the registry shows becomes it.

    Nothing is written to the registry; the reconciler shows the decision. Raises LedgerUnavailable,
    RegistryUnavailable, RegistryError.
    """
    champion = ledger.champion(strategy.name, namespace=LIVE)
    if champion.seq > 0:
        return champion
    shown = shown_champion(registry, strategy.model_name, champion)
    if shown is None:
        return champion
    adopt(ledger, registry, strategy, champion, shown)
    return ledger.champion(strategy.name, namespace=LIVE)


def adopt(
    ledger: Ledger, registry: ModelRegistry, strategy: Strategy, champion: Champion, shown: str | None
) -> Promotion | None:
    """Record what a hand made champion, None for no version; None where the champion moved meanwhile."""
    evidence = {"kind": "manual", "from": champion.version, "to": shown}
    version = shown or champion.version
    if version is None:
        return None
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
        as_of=place_as_of(champion, registry.version(strategy.model_name, shown)) if shown else champion.as_of,
    )
    try:
        promotion = ledger.record_transition(strategy.name, decision)
    except ChampionMoved:
        return None
    log.warning("registry.adopted", strategy=strategy.name, version=shown, was=champion.version)
    return promotion


def place_as_of(champion: Champion, version: ModelVersion) -> date | None:
    """Date of the champion's place once a hand has put the version there: the later of both, never an earlier one."""
    return max((day for day in (champion.as_of, trained_as_of(version)) if day is not None), default=None)


def trained_as_of(version: ModelVersion) -> date | None:
    """The date as of which a version was trained; None for one that another tool registered."""
    try:
        return date.fromisoformat(version.tags.get("training_date", ""))
    except ValueError:
        return None


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
