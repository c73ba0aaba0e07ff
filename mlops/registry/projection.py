"""Shows in the registry what the ledger decided, and records a stage transition that a person asks for.

The registry cannot be fenced, so a projection reads the champion before and after it writes: a decision that was
overtaken meanwhile is followed by the one that overtook it. At worst an earlier approved version shows for a
moment, never a refused one. Safe to repeat; what fails stays unprojected, and the reconciler repeats it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops.domain.errors import InvalidTransition
from mlops.domain.policies import strategy_of_model
from mlops.domain.records import LIVE, PromotionDecision
from mlops.domain.training.fingerprint import evidence_digest
from mlops.invocation import command_line_actor
from mlops.registry.adoption import identity_by_bytes, place_as_of, trained_as_of

if TYPE_CHECKING:
    from mlops.domain.ports import Ledger, ModelRegistry
    from mlops.domain.records import ModelIdentity, Promotion

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


def record_and_show(
    ledger: Ledger, registry: ModelRegistry, *, model_name: str, version: str, stage: str, reason: str
) -> Promotion:
    """Commit the transition as a promotion by this user, then project it.

    Raises LedgerUnavailable, RegistryUnavailable, ModelNotFound, VersionNotFound, ChampionMoved; InvalidTransition for
    Production where the version was never judged, or was refused.
    """
    found = registry.version(model_name, version)  # a version that is not there must not become the champion
    strategy = strategy_of_model(model_name)
    champion = ledger.champion(strategy)
    identity = found.identity
    if stage == "Production":
        identity = identity_by_bytes(ledger, registry, found)
        _refuse_unjudged(ledger, strategy, found.version, identity)
    evidence = {"kind": "transition", "from": champion.version, "to": version, "stage": stage, "reason": reason}
    evidence |= {"model_sha256": identity.sha256}
    decision = PromotionDecision(
        decision="transition",
        version=version,
        model_name=model_name,
        reasons=(reason,),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=command_line_actor(),
        target_stage=stage,
        expected_seq=champion.seq,
        as_of=place_as_of(champion, found) if stage == "Production" else champion.as_of,
        identity=identity,
        trained_as_of=trained_as_of(found),
    )
    promotion = ledger.record_transition(strategy, decision)
    project(promotion, registry, ledger)
    return promotion


def _refuse_unjudged(ledger: Ledger, strategy: str, version: str, identity: ModelIdentity) -> None:
    """Refuse Production for a version that neither passed the gates nor was champion before."""
    asks = (
        f"`acis promote {strategy} --version {version}` judges it, and --override REASON promotes it whatever it fails"
    )
    for finding in ledger.registry_findings(strategy):
        raise InvalidTransition(finding.words)
    if ledger.champion(strategy).is_version(version, identity):
        return
    if any(item.version == version and item.identity.may_be(identity) for item in ledger.former_champions(strategy)):
        return
    judged = ledger.newest_decision(strategy, version, identity, judged=True)
    if judged is None:
        raise InvalidTransition(f"version {version} of {strategy!r} was never judged; {asks}")
    if judged.decision == "refuse":
        raise InvalidTransition(f"version {version} of {strategy!r} was refused: {'; '.join(judged.reasons)}; {asks}")
