"""The promote stage: judge a challenger, write the decision, then show it to the registry.

Safe to run twice: a run decides once, and a second try only shows that decision to the registry.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from mlops.errors import (
    ChampionMoved,
    EmptyWindow,
    InsufficientData,
    MissingColumn,
    ModelNotFound,
    RegistryError,
    UnusableFeatures,
    UnusableModelFile,
    VersionNotFound,
)
from mlops.ledger.records import LIVE, Champion, Grant, Kind, Promotion, PromotionDecision, RunState, StageOutcome
from mlops.mlflow.adoption import adopt_first, trained_as_of
from mlops.mlflow.projection import project
from mlops.promotion.findings import held_back
from mlops.promotion.findings import read as read_findings
from mlops.promotion.paired import Comparison, compare_on
from mlops.promotion.policy import Decision, decide
from mlops.retraining.labelled_rows import read_labelled
from mlops.strategy_file import restore
from mlops.training.fingerprint import evidence_digest
from mlops.training.metrics import evaluate_classifier, majority_class_share

if TYPE_CHECKING:
    from datetime import date

    import numpy.typing as npt
    import xgboost as xgb

    from mlops.bootstrap import Services
    from mlops.ports import ModelVersion
    from mlops.retraining.labelled_rows import LabelledRows
    from mlops.retraining.lease_keeper import LeaseKeeper
    from mlops.strategies import Strategy

log = structlog.get_logger(__name__)

#: The champion may change while a challenger is compared with it; then it is compared again, so often at most.
COMPARISONS = 5

#: What keeps a model from being scored; anything else (a registry that refuses, say) fails the stage.
_UNSCORED = (UnusableModelFile, MissingColumn, UnusableFeatures, EmptyWindow, InsufficientData)

_ENDS = {
    "promote": RunState.SUCCEEDED,
    "rollback": RunState.SUCCEEDED,
    "await_approval": RunState.AWAITING_APPROVAL,
}


def promote(grant: Grant, services: Services, keeper: LeaseKeeper) -> StageOutcome:
    """Decide about a version and make the registry show the decision."""
    strategy = restore(grant.policy)
    promotion = services.ledger.promotion_of(grant.run_id) or _decide(grant, services, keeper, strategy)
    keeper.committed()
    keeper.check_before_write()
    try:
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


def _decide(grant: Grant, services: Services, keeper: LeaseKeeper, strategy: Strategy) -> Promotion:
    version = _challenger(grant, services, strategy)
    for _ in range(COMPARISONS):
        champion = _champion(grant, services, strategy)
        if grant.kind is Kind.ROLLBACK:
            decided = _rollback(grant, version, champion)
        else:
            decided = _judged(grant, services, strategy, version, champion)
        keeper.check_before_write()
        try:
            return services.ledger.decide(grant, decided)
        except ChampionMoved as exc:
            log.info("promote.champion_moved", error=str(exc))
    raise ChampionMoved(f"the champion of {strategy.name!r} changed {COMPARISONS} times during the comparison")


def _champion(grant: Grant, services: Services, strategy: Strategy) -> Champion:
    if grant.namespace == LIVE:
        return adopt_first(services.ledger, services.registry, strategy)
    return services.ledger.champion(strategy.name, namespace=grant.namespace)


def _challenger(grant: Grant, services: Services, strategy: Strategy) -> ModelVersion:
    named = grant.params.get("version") or grant.inputs.get("train", {}).get("version")
    if named is not None:
        return services.registry.version(strategy.model_name, str(named))
    staging = [found for found in services.registry.versions(strategy.model_name) if found.stage == "Staging"]
    if not staging:
        raise VersionNotFound(f"model {strategy.model_name!r} has no version in Staging; train one, or name a version")
    return staging[0]


def _rollback(grant: Grant, version: ModelVersion, champion: Champion) -> PromotionDecision:
    evidence = {"kind": "rollback", "from": champion.version, "to": version.version, "reason": grant.reason}
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
    )


def _judged(
    grant: Grant, services: Services, strategy: Strategy, version: ModelVersion, champion: Champion
) -> PromotionDecision:
    dated = trained_as_of(version) or grant.as_of
    comparison: Comparison | None = None
    findings: tuple[str, ...] = ()
    if champion.version == version.version:
        decision = Decision(
            decision="keep", reasons=(f"version {version.version} is the champion already",), gates=(), comparison=None
        )
    elif champion.as_of is not None and dated is not None and dated < champion.as_of:
        decision = Decision(
            decision="refuse",
            reasons=(f"it is dated {dated}, before the champion's own {champion.as_of}",),
            gates=(),
            comparison=None,
        )
    else:
        try:
            if champion.version is not None:
                comparison, findings = _compare(services, strategy, version, champion.version, dated)
            decision = decide(strategy.promotion, metrics=version.metrics, comparison=comparison)
        except _UNSCORED as exc:
            decision = Decision(
                decision="refuse",
                reasons=(f"it cannot be compared with champion {champion.version}: {exc}",),
                gates=(),
                comparison=None,
            )
    suspicions = read_findings(version.tags)
    decision = held_back(decision, suspicions, strategy.promotion.accepted_findings)
    evidence: dict[str, Any] = {
        "kind": grant.kind.value,
        "as_of": dated.isoformat() if dated else None,
        "version": version.version,
        "metrics": dict(version.metrics),
        "data_fingerprint": version.tags.get("data_fingerprint"),
        "model_sha256": version.tags.get("acis.model_sha256"),
        "holdout": [version.tags.get("holdout_start"), version.tags.get("holdout_end")],
        "champion": {"version": champion.version, "seq": champion.seq},
        "gates": [asdict(gate) for gate in decision.gates],
        "comparison": asdict(comparison) if comparison is not None else None,
        "findings": list(findings),
        "suspicions": [found.code for found in suspicions],
        "policy": asdict(strategy.promotion),
    }
    promotes = decision.decision == "promote"
    return PromotionDecision(
        decision=decision.decision,
        version=version.version,
        model_name=version.name,
        reasons=(*decision.reasons, *findings),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=grant.requested_by,
        target_stage="Production" if promotes else "Staging" if decision.decision == "await_approval" else "Archived",
        expected_seq=champion.seq,
        as_of=dated,
    )


def _compare(
    services: Services, strategy: Strategy, version: ModelVersion, champion: str, as_of: date | None
) -> tuple[Comparison | None, tuple[str, ...]]:
    """Both models on held-out dates that neither was trained on; None with the reason for an unusable champion.

    Raises one of _UNSCORED where the challenger cannot be scored beside it: nobody knows then which is better.
    """
    decided = as_of or services.now().date()
    ours = _scorable(services, strategy, version.name, version.version, as_of=decided)
    held = _held_out(ours.rows, version)
    try:
        theirs = _scorable(services, strategy, version.name, champion, as_of=decided)
        trained_on = services.registry.version(version.name, champion)
    except (*_UNSCORED, ModelNotFound, VersionNotFound) as exc:
        return None, (f"champion {champion} cannot be scored on these dates: {exc}",)
    unseen, findings = _unseen(held, ours.rows, trained_on, horizon_dates=strategy.training.horizon_dates)
    comparison = compare_on(
        strategy.promotion,
        challenger=_score(ours, unseen, before=held[0]),
        champion=_score(theirs, unseen, before=held[0]),
        champion_version=champion,
    )
    return comparison, findings


@dataclass(frozen=True, kw_only=True)
class _Scorable:
    """A model with the rows of its own features."""

    model: xgb.XGBClassifier
    rows: LabelledRows


def _scorable(services: Services, strategy: Strategy, model_name: str, version: str, *, as_of: date) -> _Scorable:
    model = services.registry.load_classifier(model_name, version)
    features = model.get_booster().feature_names
    if features is None:
        message = f"version {version} does not say the names of its features; train it again here"
        raise MissingColumn(message)
    rows = read_labelled(services.source, strategy, as_of=as_of, features=tuple(features))
    return _Scorable(model=model, rows=rows)


def _score(scorable: _Scorable, dates: npt.NDArray[np.datetime64], *, before: np.datetime64) -> dict[str, float]:
    """Metrics on those dates; rows before a date give the majority class to compare with."""
    rows = scorable.rows
    scored = rows.known & np.isin(rows.dates, dates)
    majority = majority_class_share(rows.y[rows.known & (rows.dates < before)])
    probability = scorable.model.predict_proba(rows.x[scored])[:, 1]
    return evaluate_classifier(rows.y[scored], probability, train_positive_share=majority).metrics


def _held_out(rows: LabelledRows, version: ModelVersion) -> npt.NDArray[np.datetime64]:
    """Dates with labels that a version held out, ascending. Raises EmptyWindow."""
    first, last = _holdout(version)
    held = np.unique(rows.dates[rows.known & (rows.dates >= first) & (rows.dates <= last)])
    if not held.size:
        message = f"there are no labelled rows from {first} to {last}, which version {version.version} held out"
        raise EmptyWindow(message)
    return held


def _unseen(
    held: npt.NDArray[np.datetime64], rows: LabelledRows, champion: ModelVersion, *, horizon_dates: int
) -> tuple[npt.NDArray[np.datetime64], tuple[str, ...]]:
    """The dates that the champion was not trained on either, by the rule of its own split.

    Its last training label looks `horizon_dates` panel dates ahead; dates before that end are left out.
    Raises InsufficientData where none is left.
    """
    try:
        train_end = np.datetime64(champion.tags["train_end"], "D")
    except (KeyError, ValueError):
        return held, (f"champion {champion.version} does not say what it was trained on; it may know these dates",)
    panel = np.unique(rows.dates)
    first = int(np.searchsorted(panel, train_end, side="right")) - 1 + max(1, horizon_dates)
    unseen = held[np.searchsorted(panel, held) >= first]
    left_out = len(held) - len(unseen)
    if not unseen.size:
        message = f"champion {champion.version} was trained up to {train_end} and knows all {left_out} held-out dates"
        raise InsufficientData(message)
    if not left_out:
        return unseen, ()
    finding = (
        f"{left_out} of {len(held)} held-out dates are left out, since champion {champion.version} "
        f"was trained up to {train_end}"
    )
    return unseen, (finding,)


def _holdout(version: ModelVersion) -> tuple[np.datetime64, np.datetime64]:
    """First and last held-out date. Raises InsufficientData for a version that was registered elsewhere."""
    try:
        return np.datetime64(version.tags["holdout_start"], "D"), np.datetime64(version.tags["holdout_end"], "D")
    except (KeyError, ValueError) as exc:
        message = f"version {version.version} does not say which dates it held out; train it here"
        raise InsufficientData(message) from exc


def _result(promotion: Promotion, strategy: Strategy) -> dict[str, Any]:
    policy = strategy.promotion
    return {
        "model_name": promotion.model_name,
        "version": promotion.version,
        "decision": promotion.decision,
        "promoted": promotion.decision in ("promote", "rollback"),
        "reasons": list(promotion.reasons),
        "metrics": promotion.evidence.get("metrics", {}),
        "required": {
            "min_accuracy": policy.min_accuracy,
            "min_roc_auc": policy.min_roc_auc,
            "min_lift_over_majority": policy.min_lift_over_majority,
            "min_f1": policy.min_f1,
        },
        "previous_version": promotion.previous_version,
        "promotion_id": promotion.id,
        "seq": promotion.seq,
        "evidence_digest": promotion.evidence_digest,
    }
