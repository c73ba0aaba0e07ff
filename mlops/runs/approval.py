"""A person's answer to a run that awaits approval: a promote run of its own, bound to the evidence that was seen.

`approval_request` opens it, called by the command line and by programs; `approved` decides it, called by the
promote stage. Both ask the same question, since the champion may move between the two.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from mlops.domain.errors import InvalidTransition, LedgerError, ModelNotFound, UnusableModelFile, VersionNotFound
from mlops.domain.experiments.evidence import KIND as EXPERIMENT
from mlops.domain.promotion.records import ModelIdentity, PromotionDecision
from mlops.domain.records import LIVE, Kind, RunRequest, RunState
from mlops.domain.training.fingerprint import evidence_digest
from mlops.registry.adoption import identity_by_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops.domain.ports import Ledger, ModelRegistry
    from mlops.domain.promotion.records import Champion, Promotion
    from mlops.domain.records import Accepted, Grant

Answer = Literal["approve", "reject"]


class StaleApproval(LedgerError):
    """The version that was to be approved is gone."""


def approval_request(
    ledger: Ledger,
    registry: ModelRegistry,
    run_id: str,
    *,
    answer: Answer,
    actor: str,
    reason: str,
    digest: str | None = None,
) -> RunRequest:
    """The promote run that carries out the answer, under the policy of the run that waits.

    digest : of the evidence that the person saw; None takes the recorded one.
    Raises RunNotFound, InvalidTransition (it does not wait), StaleApproval, and what the registry raises.
    """
    waiting = ledger.run(run_id)
    promotion = ledger.promotion_of(run_id)
    if waiting.state is not RunState.AWAITING_APPROVAL or promotion is None:
        message = f"run {run_id} of {waiting.strategy} is {waiting.state}; only one that awaits approval is answered"
        raise InvalidTransition(message)
    named = promotion.evidence_digest if digest is None else digest
    champion = ledger.champion(waiting.strategy, namespace=waiting.namespace)
    _refuse_stale(promotion, named, ledger, registry, champion, answer)
    return RunRequest(
        strategy=waiting.strategy,
        kind=Kind.PROMOTE,
        policy=waiting.policy,
        reason=reason,
        requested_by=actor,
        namespace=waiting.namespace,
        as_of=waiting.as_of,
        params={"answers": run_id, "answer": answer, "digest": named, "version": promotion.version},
    )


def refuse_joined(accepted: Accepted, request: RunRequest) -> None:
    """Raise InvalidTransition where the answer's own run was not opened because another one is active."""
    if not accepted.created:
        message = (
            f"run {accepted.run_id} is deciding about {request.strategy!r} now; answer again when it has ended, "
            f"and what it decides may make this answer stale"
        )
        raise InvalidTransition(message)


def approved(grant: Grant, ledger: Ledger, registry: ModelRegistry, champion: Champion) -> PromotionDecision:
    """The decision that the answer is. Raises StaleApproval."""
    promotion = ledger.promotion_of(str(grant.params["answers"]))
    if promotion is None:
        message = f"run {grant.params['answers']} decided nothing; there is nothing to approve"
        raise StaleApproval(message)
    answer: Answer = "approve" if grant.params["answer"] == "approve" else "reject"
    _refuse_stale(promotion, str(grant.params["digest"]), ledger, registry, champion, answer)
    is_yes = answer == "approve"
    evidence = {
        "kind": "approval",
        "answers": promotion.run_id,
        "answer": answer,
        "actor": grant.requested_by,
        "reason": grant.reason,
        "version": promotion.version,
        "model_sha256": promotion.evidence.get("model_sha256"),
        "approved_digest": promotion.evidence_digest,
        "champion": {"version": champion.version, "seq": champion.seq},
        "metrics": promotion.evidence.get("metrics", {}),
    }
    word = "approved" if is_yes else "rejected"
    return PromotionDecision(
        decision="promote" if is_yes else "refuse",
        version=promotion.version,
        model_name=promotion.model_name,
        reasons=(f"{word} by {grant.requested_by}: {grant.reason}", *(promotion.reasons if is_yes else ())),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=grant.requested_by,
        target_stage="Production" if is_yes else "Archived",
        expected_seq=champion.seq,
        as_of=_dated(promotion, champion) or grant.as_of,
        identity=_identity(promotion, ledger, registry),
        trained_as_of=promotion.trained_as_of,
    )


def _dated(promotion: Promotion, champion: Champion) -> date | None:
    """The challenger's own date, also where the run that proposed it had none; the place's is never set back."""
    if promotion.evidence.get("kind") == EXPERIMENT:  # whose date is the look's
        return max((day for day in (champion.as_of, promotion.trained_as_of) if day is not None), default=None)
    found = promotion.evidence.get("as_of")
    return date.fromisoformat(found) if found else None


def _refuse_stale(
    promotion: Promotion,
    digest: str,
    ledger: Ledger,
    registry: ModelRegistry,
    champion: Champion,
    answer: Answer,
) -> None:
    """Raise StaleApproval unless the evidence, the version and, for a yes, the champion are what was seen."""
    what = f"version {promotion.version} of {promotion.strategy}"
    if evidence_digest(promotion.evidence) != promotion.evidence_digest:
        raise StaleApproval(f"the evidence of {what} was changed after it was recorded; promote it again")
    if digest != promotion.evidence_digest:
        message = (
            f"{what} was to be answered for evidence {digest}, recorded is {promotion.evidence_digest}; "
            f"look at it with `acis explain {promotion.run_id}`"
        )
        raise StaleApproval(message)
    if answer == "approve" and promotion.namespace == LIVE:
        for finding in ledger.registry_findings(promotion.strategy):
            raise StaleApproval(finding.words)
    newest = ledger.newest_decision(
        promotion.strategy, promotion.version, promotion.identity, namespace=promotion.namespace
    )
    if newest is not None and newest.id != promotion.id:
        message = (
            f"{what} was decided about again meanwhile ({newest.decision} by {newest.actor}); there is nothing left"
        )
        raise StaleApproval(message)
    # The evidence's, not the row's: the champion may have moved between the comparison and its commit.
    compared: Mapping[str, Any] = promotion.evidence["champion"]
    if answer == "approve" and champion.seq != compared["seq"]:
        message = (
            f"{what} was compared with champion {compared['version'] or 'none'} at seq {compared['seq']}; it is "
            f"{champion.version or 'none'} at seq {champion.seq} now; run `acis promote {promotion.strategy} "
            f"--version {promotion.version}` to compare it again"
        )
        raise StaleApproval(message)
    _refuse_another_model(promotion, ledger, registry, what)


def _refuse_another_model(promotion: Promotion, ledger: Ledger, registry: ModelRegistry, what: str) -> None:
    try:
        found = _identity(promotion, ledger, registry)
    except (ModelNotFound, VersionNotFound) as exc:
        raise StaleApproval(f"{what} is not in the registry any more; train again") from exc
    except UnusableModelFile as exc:
        raise StaleApproval(f"{what} holds another model than the one that was judged: {exc}") from exc
    recorded = ModelIdentity(sha256=promotion.evidence.get("model_sha256"), made_by=promotion.identity.made_by)
    if not found.may_be(recorded):
        message = f"{what} holds another model ({found}) than the one that was judged ({recorded}); train again"
        raise StaleApproval(message)


def _identity(promotion: Promotion, ledger: Ledger, registry: ModelRegistry) -> ModelIdentity:
    """Identity of the version now, by the bytes of its model file."""
    return identity_by_bytes(ledger, registry, registry.version(promotion.model_name, promotion.version))
