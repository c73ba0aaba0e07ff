"""The promote stage: decide about a version, write the decision, then show it to the registry.

Safe to run twice: a run decides once, and a second try only shows that decision to the registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from mlops import tracing
from mlops.domain.errors import (
    ChampionMoved,
    RegistryError,
    RegistryUnavailable,
    UnusableModelFile,
    VersionNotFound,
    VersionQuarantined,
)
from mlops.domain.ports import UNKNOWN, expect
from mlops.domain.promotion.records import Champion, ModelIdentity, Promotion, PromotionDecision
from mlops.domain.records import LIVE, Grant, Kind, RunState, StageOutcome
from mlops.domain.training.fingerprint import evidence_digest
from mlops.registry.adoption import identity_by_bytes, trained_as_of
from mlops.registry.kept_models import keep_before_promotion
from mlops.registry.projection import project
from mlops.runs.approval import StaleApproval, approved
from mlops.runs.request import NoRollback, rollback_target
from mlops.stages.paired_evaluation import compare
from mlops.stages.promotion_inputs import promotion_decision
from mlops.strategies.file import restore

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelVersion
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.table import PromotionServices

log = structlog.get_logger(__name__)

#: The champion may change while a challenger is compared with it; then it is compared again, so often at most.
COMPARISONS = 5
#: The reconciler looks through the registry within a pass or two.
_SET_BACK_DELAY_S = 5.0

_ENDS = {
    "promote": RunState.SUCCEEDED,
    "override": RunState.SUCCEEDED,
    "rollback": RunState.SUCCEEDED,
    "await_approval": RunState.AWAITING_APPROVAL,
}


def promote(grant: Grant, services: PromotionServices, keeper: LeaseKeeper) -> StageOutcome:
    """Decide about a version and make the registry show the decision; or only compare two."""
    strategy = restore(grant.policy)
    if grant.kind is Kind.COMPARE:
        return compare(
            grant, services.ledger, services.registry, services.source, strategy, today=services.feature_day()
        )
    if grant.namespace == LIVE and services.ledger.forgotten().registry_since is not None:
        raise RegistryUnavailable(
            "the ledger was set back in time, and the registry was not looked through yet; the decision waits for that",
            delay_s=_SET_BACK_DELAY_S,
        )
    try:
        promotion = services.ledger.promotion_of(grant.run_id) or _decide(grant, services, keeper, strategy)
    except (StaleApproval, NoRollback) as exc:
        return _nothing_done(grant, strategy, str(exc))
    keeper.committed()
    keeper.check_before_write()
    try:
        with tracing.traced("projection", run_id=grant.run_id, version=promotion.version):
            project(promotion, services.registry, services.ledger)
    except RegistryError as exc:
        # The champion has changed whatever the registry says: the run ends as it decided.
        log.warning(
            "promote.not_shown", version=promotion.version, error=str(exc), action="none: the reconciler repeats it"
        )
    log.info("promote.decided", decision=promotion.decision, version=promotion.version)
    return StageOutcome(
        result=_result(promotion, strategy),
        run_state=_ENDS.get(promotion.decision, RunState.REFUSED),
        as_of=grant.as_of,
    )


def _decide(grant: Grant, services: PromotionServices, keeper: LeaseKeeper, strategy: Strategy) -> Promotion:
    for _ in range(COMPARISONS):
        champion = services.ledger.champion(strategy.name, namespace=grant.namespace)
        with tracing.traced("evidence", run_id=grant.run_id):
            decided = _decision(grant, services, strategy, champion)
        if decided.target_stage == "Production" and grant.namespace == LIVE:
            keep_before_promotion(services, decided)
        keeper.check_before_write()
        try:
            with tracing.traced("decision", run_id=grant.run_id, decision=decided.decision, version=decided.version):
                return services.ledger.decide(grant, decided)
        except ChampionMoved as exc:
            log.info("promote.champion_moved", error=str(exc))
    raise ChampionMoved(f"the champion of {strategy.name!r} changed {COMPARISONS} times during the comparison")


def _decision(grant: Grant, services: PromotionServices, strategy: Strategy, champion: Champion) -> PromotionDecision:
    if "answers" in grant.params:
        return approved(grant, services.ledger, services.registry, champion)
    version = _challenger(grant, services, strategy)
    if grant.kind is Kind.ROLLBACK:
        return _rollback(grant, services, strategy, version, champion)
    return promotion_decision(grant, services, strategy, version, champion)


def _challenger(grant: Grant, services: PromotionServices, strategy: Strategy) -> ModelVersion:
    """The version to decide about. Raises VersionNotFound: there is none, or the number is another model's by now."""
    trained = grant.inputs.get("train", {})
    named = grant.params.get("version") or trained.get("version")
    if named is not None:
        if _is_quarantined(services, strategy, str(named)):
            raise VersionQuarantined(
                f"version {named} of {strategy.model_name!r} was made by a run that the ledger does not know, since it "
                f"was set back in time; `acis quarantine --release version {strategy.model_name}/{named}` lets it be "
                "judged like any other"
            )
        made = ModelIdentity(sha256=trained.get("model_sha256"), made_by=grant.run_id) if trained else UNKNOWN
        return expect(services.registry.version(strategy.model_name, str(named)), made)
    staging = [
        found
        for found in services.registry.versions(strategy.model_name)
        if found.stage == "Staging" and not _is_quarantined(services, strategy, found.version)
    ]
    if not staging:
        raise VersionNotFound(f"model {strategy.model_name!r} has no version in Staging; train one, or name a version")
    return staging[0]


def _is_quarantined(services: PromotionServices, strategy: Strategy, version: str) -> bool:
    """The run that made it may have come again under its id: then the ledger knows it."""
    if not services.ledger.is_quarantined("version", f"{strategy.model_name}/{version}"):
        return False
    made_by = services.registry.version(strategy.model_name, version).tags.get("acis.run_id", "")
    return bool(services.ledger.unknown_runs([made_by]))


def _rollback(
    grant: Grant, services: PromotionServices, strategy: Strategy, version: ModelVersion, champion: Champion
) -> PromotionDecision:
    """The former champion in Production again. Raises NoRollback."""
    try:
        identity = identity_by_bytes(services.ledger, services.registry, version)
    except UnusableModelFile as exc:
        raise NoRollback(f"version {version.version} cannot be served: {exc}") from exc
    former = rollback_target(services.ledger, strategy.name, version.version, champion, identity=identity)
    evidence = {
        "kind": "rollback",
        "from": champion.version,
        "to": version.version,
        "reason": grant.reason,
        "model_sha256": identity.sha256,
        "made_by": identity.made_by,
    }
    return PromotionDecision(
        decision="rollback",
        version=version.version,
        model_name=version.name,
        reasons=(f"rolled back from version {champion.version or 'none'}: {grant.reason}",),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=grant.requested_by,
        target_stage="Production",
        expected_seq=champion.seq,
        # The place is taken as of now, not as of the old version's training.
        as_of=champion.as_of,
        identity=identity,
        trained_as_of=trained_as_of(version) or former.trained_as_of,
    )


def _result(promotion: Promotion, strategy: Strategy) -> dict[str, Any]:
    policy = strategy.promotion
    return {
        "model_name": promotion.model_name,
        "version": promotion.version,
        "decision": promotion.decision,
        "promoted": promotion.decision in ("promote", "override", "rollback"),
        **({"answered": promotion.evidence["answer"]} if "answer" in promotion.evidence else {}),
        "reasons": list(promotion.reasons),
        "metrics": promotion.evidence.get("metrics", {}),
        "required": {
            "min_accuracy": policy.min_accuracy,
            "min_roc_auc": policy.min_roc_auc,
            "min_lift_over_majority": policy.min_lift_over_majority,
            "min_f1": policy.min_f1,
            **policy.gates,
        },
        "comparison": _comparison(promotion),
        "previous_version": promotion.previous_version,
        "promotion_id": promotion.id,
        "seq": promotion.seq,
        "evidence_digest": promotion.evidence_digest,
    }


def _comparison(promotion: Promotion) -> dict[str, Any] | None:
    """The paired test's numbers; None where there was none."""
    test = promotion.evidence.get("test")
    return {**test, "champion_version": promotion.previous_version} if test else None


def _nothing_done(grant: Grant, strategy: Strategy, why: str) -> StageOutcome:
    """An approval of what is no more, or a rollback to what never was: refused, with nothing written of the version."""
    log.warning("promote.nothing_done", error=why)
    result: dict[str, Any] = {
        "model_name": strategy.model_name,
        "version": grant.params.get("version"),
        "decision": "refuse",
        "promoted": False,
        "reasons": [why],
        "metrics": {},
        "required": {},
    }
    return StageOutcome(result=result, run_state=RunState.REFUSED, as_of=grant.as_of)
