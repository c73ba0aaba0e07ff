"""Gathers what a decision about a challenger uses, and has it decided.

Called by the promote stage. The decision itself is `mlops.domain.promotion`, a pure function of these facts.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlops.code_version import code_version
from mlops.domain.errors import ModelNotFound, UnusableModelFile, VersionNotFound
from mlops.domain.ports import TRIALS_TAG, ModelRegistry, expect
from mlops.domain.promotion.error_budget import LOOKBACK_DAYS, YEAR_DAYS
from mlops.domain.promotion.evidence import Facts, evidence_of
from mlops.domain.promotion.findings import read as read_findings
from mlops.domain.promotion.paired import SEED
from mlops.domain.promotion.records import PromotionDecision
from mlops.domain.records import LIVE
from mlops.domain.training.fingerprint import evidence_digest
from mlops.domain.training.judged_twin import judged_of
from mlops.registry.adoption import as_recorded, identity_by_bytes, place_as_of, trained_as_of
from mlops.registry.registry_check import is_there, note_missing, note_reuse, stops
from mlops.stages.judged_model import twin_digest, twin_file
from mlops.stages.paired_evaluation import UNSCORED, PairedEvaluation, evaluate_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from mlops.domain.policies import Strategy
    from mlops.domain.ports import ModelVersion
    from mlops.domain.promotion.records import Champion, EarlierDecision, ModelIdentity
    from mlops.domain.records import Grant
    from mlops.stages.table import PromotionServices

#: Where the registry's stage follows from the decision; every other version goes to Archived.
_STAGES = {"promote": "Production", "override": "Production", "await_approval": "Staging", "inconclusive": "Staging"}


def promotion_decision(
    grant: Grant, services: PromotionServices, strategy: Strategy, version: ModelVersion, champion: Champion
) -> PromotionDecision:
    """The decision about a challenger, with its evidence. Raises what the registry and the features raise."""
    version = as_recorded(services.ledger, version)
    dated = trained_as_of(version) or grant.as_of
    identity, fault = _identity(services, version)
    missing = _missing(services.registry, strategy, champion)
    if grant.namespace == LIVE:
        if missing is not None:
            note_missing(services.ledger, strategy, champion)
        note_reuse(services.ledger, strategy, version.version, identity)
    today = dated or services.feature_day()
    earlier = services.ledger.decisions_since(
        champion.strategy, since=today - timedelta(days=YEAR_DAYS), namespace=champion.namespace
    )
    facts_of_champion = _champion_facts(services.registry, version, champion, dated)
    trained_now = identity.made_by == grant.run_id
    verdict = fault or _without_a_test(version, identity, champion, dated, facts_of_champion, trained_now=trained_now)
    paired: PairedEvaluation | None = None
    if missing is not None:
        paired = PairedEvaluation(common=None, unusable=missing)
    elif champion.version is not None and verdict is None and strategy.promotion.comparison == "paired":
        try:
            paired = evaluate_pair(
                services.ledger,
                services.registry,
                services.source,
                strategy,
                version,
                champion.version,
                as_of=today,
                identity=champion.identity,
            )
        except UNSCORED as exc:
            verdict = ("refuse", f"it cannot be compared with champion {champion.version}: {exc}")
        else:
            verdict = _without_a_difference(champion, paired)
    evidence = evidence_of(
        Facts(
            kind=grant.kind.value,
            as_of=dated.isoformat() if dated else None,
            version=version.version,
            metrics=version.metrics,
            model_sha256=identity.sha256,
            data_fingerprint=version.tags.get("data_fingerprint"),
            holdout=_held_out(version),
            champion=facts_of_champion | _said_of_champion(paired),
            twin_sha256=twin_digest(services.ledger, identity),
            policy=strategy.promotion,
            horizon_dates=strategy.training.horizon_dates,
            seed=SEED,
            tuning_trials=_tuning_trials(version),
            earlier_challengers=_challengers(earlier, champion, today),
            error_spent=round(sum(one.spends for one in earlier), 9),
            code=code_version(),
            common=paired.common if paired is not None else None,
            verdict=verdict,
            suspicions=read_findings(version.tags),
            findings=paired.findings if paired is not None else (),
            stops=stops(services.ledger, strategy) if grant.namespace == LIVE else (),
            # Whatever a person promotes in spite of its gates has to be what was registered.
            override=None if fault or champion.is_version(version.version, identity) else _override(grant),
        )
    )
    return PromotionDecision(
        decision=evidence["decision"],
        version=version.version,
        model_name=version.name,
        reasons=tuple(evidence["reasons"]),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=grant.requested_by,
        target_stage=_STAGES.get(evidence["decision"], "Archived"),
        expected_seq=champion.seq,
        as_of=place_as_of(champion, version) if evidence["decision"] == "override" else dated,
        identity=identity,
        trained_as_of=trained_as_of(version),
    )


def _identity(services: PromotionServices, version: ModelVersion) -> tuple[ModelIdentity, tuple[str, str] | None]:
    """Identity of the version by its model file, and the refusal where that or its twin's is not what was recorded."""
    try:
        identity = identity_by_bytes(services.ledger, services.registry, version)
    except UnusableModelFile as exc:
        return replace(version.identity, sha256=None), ("refuse", str(exc))
    try:
        twin_file(services.ledger, services.registry, version, identity)
    except UnusableModelFile as exc:
        return identity, ("refuse", str(exc))
    return identity, None


def _held_out(version: ModelVersion) -> tuple[str | None, str | None]:
    held = judged_of(version.tags).holdout
    return (None, None) if held is None else (held[0].isoformat(), held[1].isoformat())


def _said_of_champion(paired: PairedEvaluation | None) -> dict[str, Any]:
    """Facts of the comparison on the champion; its twin where that was scored in its place."""
    if paired is None:
        return {}
    twin = paired.twins[1]
    return {"unusable": paired.unusable, **({} if twin is None else {"twin_sha256": twin})}


def _override(grant: Grant) -> dict[str, str] | None:
    """Who asked for a promotion whatever the gates say, and why."""
    reason = grant.params.get("override")
    return {"actor": grant.requested_by, "reason": str(reason)} if reason else None


def _missing(registry: ModelRegistry, strategy: Strategy, champion: Champion) -> str | None:
    """Why the champion cannot be met: the registry does not have it."""
    if champion.version is None or is_there(registry, strategy, champion):
        return None
    return f"champion {champion.version} ({champion.identity}) is not in the registry"


def _without_a_test(
    version: ModelVersion,
    identity: ModelIdentity,
    champion: Champion,
    dated: date | None,
    facts: Mapping[str, Any],
    *,
    trained_now: bool,
) -> tuple[str, str] | None:
    # A champion of an earlier version of this system may be known by its number alone, and this run's version is new.
    is_new = champion.identity.made_by is None and trained_now
    if champion.is_version(version.version, identity) and not is_new:
        return "keep", f"version {version.version} is the champion already"
    if champion.as_of is not None and dated is not None and dated < champion.as_of:
        return "refuse", f"it is dated {dated}, before the champion's own {champion.as_of}"
    digest = identity.sha256
    if digest and facts.get("model_sha256") == digest:
        return "keep", f"it is the same model as champion {champion.version}, byte for byte (sha256 {digest[:12]})"
    return None


def _without_a_difference(champion: Champion, paired: PairedEvaluation) -> tuple[str, str] | None:
    common = paired.common
    if common is None or common.predictions_challenger != common.predictions_champion:
        return None
    rows = f"the {common.n_rows:,} rows from {common.first} to {common.last}"
    if paired.twins != (None, None):
        return "keep", f"it was judged by the same model as champion {champion.version}, which says the same of {rows}"
    return "keep", f"it is the same model as champion {champion.version}: it says the same of each of {rows}"


def _champion_facts(
    registry: ModelRegistry, version: ModelVersion, champion: Champion, dated: date | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": champion.version, "seq": champion.seq}
    if champion.version is None:
        return facts
    trained: date | None = champion.as_of
    try:
        found = expect(registry.version(version.name, champion.version), champion.identity)
    except (ModelNotFound, VersionNotFound):
        trained = champion.trained_as_of or trained  # `unusable` says that it is gone
    else:
        trained = trained_as_of(found) or trained
        facts["model_sha256"] = champion.identity.sha256
    facts["trained_as_of"] = trained.isoformat() if trained else None
    facts["age_days"] = (dated - trained).days if dated and trained else None
    facts["unusable"] = None
    return facts


def _tuning_trials(version: ModelVersion) -> int:
    try:
        return max(0, int(version.tags.get(TRIALS_TAG, "0")))
    except ValueError:
        return 0


def _challengers(earlier: Sequence[EarlierDecision], champion: Champion, today: date) -> tuple[dict[str, Any], ...]:
    """Facts on this champion's earlier challengers for the evidence."""
    if champion.version is None:
        return ()
    since = today - timedelta(days=LOOKBACK_DAYS)
    return tuple(
        {
            "version": one.version,
            "decision": one.decision,
            "model_sha256": one.model_sha256,
            "rows": one.rows,
            "predictions": one.predictions,
            "level": one.level,
            "metric": one.metric,
            "margin": one.margin,
            "missed": list(one.missed),
        }
        for one in earlier
        if one.champion == champion.version and one.version != champion.version and one.day >= since
    )
