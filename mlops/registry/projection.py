"""Makes the registry show what the ledger decided.

The registry cannot be fenced, so this reads the champion before and after it writes: a decision that was
overtaken meanwhile is followed by the one that overtook it. At worst an earlier approved version shows for a
moment, never a refused one. Safe to repeat; what fails stays unprojected, and the reconciler repeats it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.domain.records import LIVE

if TYPE_CHECKING:
    from mlops.domain.ports import Ledger, ModelRegistry
    from mlops.domain.records import Promotion

#: Tags are short: MLflow cuts values at 5,000 characters.
MAX_TAG = 4000


def project(promotion: Promotion, registry: ModelRegistry, ledger: Ledger) -> None:
    """Write one decision to the registry. Raises RegistryUnavailable, LedgerUnavailable."""
    if promotion.namespace != LIVE:
        return
    _show(promotion, registry, ledger)
    champion = ledger.champion(promotion.strategy)
    if champion.seq > promotion.seq and champion.promotion_id is not None:  # with an empty place: what emptied it
        newer = next((item for item in ledger.promotions(promotion.strategy) if item.id == champion.promotion_id), None)
        if newer is not None:
            _show(newer, registry, ledger)
    ledger.projected(promotion.id)


def _show(promotion: Promotion, registry: ModelRegistry, ledger: Ledger) -> None:
    champion = ledger.champion(promotion.strategy)
    stage = promotion.target_stage
    is_champion = champion.is_version(promotion.version, promotion.identity)
    if stage == "Production" and not is_champion:
        stage = "Archived"  # overtaken before it was shown
    elif stage != "Production" and is_champion:
        return  # a later decision brought this version back
    registry.apply_stage(
        promotion.model_name,
        promotion.version,
        stage,
        seq=promotion.seq,
        tags={
            "acis.decision": promotion.decision,
            "acis.reasons": "; ".join(promotion.reasons)[:MAX_TAG],
            "acis.actor": promotion.actor,
            "acis.evidence_digest": promotion.evidence_digest,
        },
        identity=promotion.identity,
    )
