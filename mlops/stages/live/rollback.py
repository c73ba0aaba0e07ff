"""The watch over the champion: whether a former one that went on predicting is shown better, and what follows.

Called by the score stage. A rollback is a decision like a promotion: one of the run, fenced by its grant, committed
only while the champion is the one that was compared. The registry shows it within the reconciler's next passes.
Decision: docs/decisions/0063.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
import structlog

from mlops.domain.errors import AcisError, ChampionMoved
from mlops.domain.experiments.duration import planned_watch_days
from mlops.domain.experiments.guardrails import PairedAnswers, guard_answers, guard_missing, guard_served
from mlops.domain.experiments.measures import measures_of
from mlops.domain.experiments.records import Measure
from mlops.domain.experiments.rollback import (
    KIND,
    FormerChampion,
    RollbackAction,
    RollbackFacts,
    evidence_of,
    identity_of,
)
from mlops.domain.experiments.sequence import mixture_variance
from mlops.domain.ports import expect
from mlops.domain.promotion.records import PromotionDecision
from mlops.domain.records import LIVE
from mlops.domain.training.fingerprint import evidence_digest
from mlops.registry.adoption import identity_by_bytes
from mlops.registry.kept_models import KEPT_FORMER
from mlops.runs.experiments import why_not_promotable
from mlops.runs.request import rollback_target
from mlops.runs.switching import may_switch
from mlops.stages.live.beside import missing_shares, promoted_on
from mlops.stages.live.pairs import CHAMPION, FORMER, MIN_DATES, RECENT_DATES, Pairs, pair_predictions

if TYPE_CHECKING:
    from datetime import datetime

    from mlops.domain.experiments.decision import Guardrail
    from mlops.domain.policies import Strategy
    from mlops.domain.promotion.records import Champion, Promotion
    from mlops.domain.records import Grant
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.live.outcomes import Outcomes
    from mlops.stages.live.score import JoinedPredictions
    from mlops.stages.table import ScoreServices

log = structlog.get_logger(__name__)

_USUAL_SPREAD = {Measure.MARK: 0.005, Measure.INCREMENT: 0.02}
"""Of a daily difference where nothing says it; a wrong one costs time, never the level."""
_MIN_DAYS = 5
"""Days before the promotion from which on they say the spread; and dates after the newest that both predicted, from
which on calls say nothing of now: the watch has ended."""
_DECISIONS = 200
"""Newest decisions that are looked at."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Everything that the watch looks at."""

    strategy: Strategy
    champion: Champion
    joined: JoinedPredictions
    outcomes: Outcomes
    earlier: Mapping[str, Any]
    """`rollback` of the scoring before; empty for the first"""
    as_of: date


def watch_former(grant: Grant, services: ScoreServices, watch: Watch, keeper: LeaseKeeper) -> dict[str, Any]:
    """Roll back, or say what a person may do: the report's `rollback`; empty where nothing is watched.

    A second try of the run finds its decision, and decides nothing else. Raises LeaseLost.
    """
    decided = services.ledger.promotion_of(grant.run_id)
    if decided is not None:
        if decided.evidence.get("kind") == KIND:
            return dict(decided.evidence)
        return dict(watch.earlier) if _is_of(watch.earlier, watch.champion) else {}
    facts = _facts(grant, services, watch)
    if facts is None:
        return {}
    evidence, facts = _with_usable_target(grant, services, watch, facts)
    if evidence["action"] == RollbackAction.ROLLBACK and grant.namespace == LIVE:
        answer = may_switch(
            watch.strategy.name,
            watch.champion.version,
            evidence["to"],
            policy=watch.strategy.experiments,
            ask_task=services.ask_task,
        )
        evidence = evidence_of(replace(facts, switch=answer.to_json()))
    if evidence["action"] == RollbackAction.ROLLBACK:
        return _rolled_back(grant, services, watch, evidence, keeper)
    if evidence["action"] != RollbackAction.NONE:
        log.warning("rollback.not_made", strategy=facts.strategy, action=evidence["words"])
    return evidence


def rollback_headline(evidence: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a list shows of it: `action`, `words` and the champion's `seq`; None where nothing speaks against it."""
    if not evidence or evidence["action"] == RollbackAction.NONE:
        return None
    return {"action": evidence["action"], "words": evidence["words"], "seq": evidence["champion"]["seq"]}


def _facts(grant: Grant, services: ScoreServices, watch: Watch) -> RollbackFacts | None:
    """Gather the facts; None where the policy watches nobody, or nobody was champion before."""
    strategy, champion, ledger = watch.strategy, watch.champion, services.ledger
    policy = strategy.experiments
    since = promoted_on(ledger, champion, watch.as_of)
    if champion.version is None or champion.identity.sha256 is None or not policy.watched_former or since is None:
        return None
    former = ledger.former_champions(strategy.name, namespace=grant.namespace)[:KEPT_FORMER]
    if not former:
        return None
    decisions = ledger.promotions(strategy.name, limit=_DECISIONS, namespace=grant.namespace)
    watched = [one for one in former if one.identity.sha256 is not None][: policy.watched_former]
    beside = [_beside(watch, one, since=since, level=policy.alpha / max(1, len(watched))) for one in watched]
    known = watch.earlier if _is_of(watch.earlier, champion) else {}
    measure, words = _measure(watch, [one.pairs for one in beside], known)
    made = next((one.created_at for one in decisions if one.id == champion.promotion_id), None)
    compared = {
        one.former.id: {
            "is_watched": True,
            **one.compared(measure, known),
            "guardrails": _guardrails(services, one, made, namespace=grant.namespace),
        }
        for one in beside
    }
    last = _last_rollback(decisions)
    return RollbackFacts(
        strategy=strategy.name,
        as_of=watch.as_of.isoformat(),
        champion={
            "version": champion.version,
            "seq": champion.seq,
            "model_sha256": champion.identity.sha256,
            "promotion_id": champion.promotion_id,
        },
        measure=measure,
        why_not=words,
        mode=policy.rollback,
        alpha=policy.alpha,
        cooldown_days=policy.rollback_cooldown_days,
        days_since_rollback=None if last is None else int(np.count_nonzero(watch.outcomes.panel_dates > last)),
        former=tuple(
            FormerChampion(
                version=one.version,
                model_sha256=one.identity.sha256,
                made_by=one.identity.made_by,
                was_left=_was_left(decisions, one),
                **compared.get(one.id, {}),
            )
            for one in former
        ),
    )


def _is_of(evidence: Mapping[str, Any], champion: Champion) -> bool:
    return bool(evidence) and evidence["champion"]["promotion_id"] == champion.promotion_id


def _beside(watch: Watch, former: Promotion, *, since: date, level: float) -> _Beside:
    pairs = pair_predictions(
        watch.joined,
        champion_sha256=str(watch.champion.identity.sha256),
        other_sha256=str(former.identity.sha256),
        variant=FORMER,
        after=since,
    )
    return _Beside(watch=watch, former=former, pairs=pairs, since=since, level=level)


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """What a former champion has said beside the champion, and what it needs to be compared."""

    watch: Watch
    former: Promotion
    pairs: Pairs
    since: date
    """Dates after this one count"""
    level: float

    def compared(self, measure: Measure | None, known: Mapping[str, Any]) -> dict[str, Any]:
        """`r` and `differences`; those of dates that are no longer read are kept. known : as of the scoring before"""
        if measure is None:
            return {}
        strategy, joined = self.watch.strategy, self.watch.joined
        before = next((one for one in known.get("former", ()) if self._is(one)), None)
        found = self.pairs.differences(measure, horizon_dates=strategy.training.horizon_dates)
        first = joined.dates[0].item() if len(joined.dates) else self.watch.as_of
        gone = [(day, value) for day, value in before["differences"] if day < first.isoformat()] if before else []
        days = [*gone, *((day.isoformat(), value) for day, value in found)]
        r = before["r"] if before else None
        # Fixed once there is a measure and it is watched; a scoring before that has none.
        return {
            "r": self._mixture_variance(measure) if r is None else r,
            "differences": tuple(days[: strategy.experiments.watch_days]),
        }

    def _is(self, one: Mapping[str, Any]) -> bool:
        return identity_of(one) == _identity(self.former)

    def _mixture_variance(self, measure: Measure) -> float:
        """Fixed by what the former champion said before the promotion, beside a version that prefers no name."""
        joined, policy = self.watch.joined, self.watch.strategy.experiments
        own = joined.only(
            np.asarray(pc.equal(joined.said.column("model_sha256"), self.former.identity.sha256).to_numpy())
            & np.asarray(pc.equal(joined.said.column("variant"), CHAMPION).to_numpy())
            & (joined.dates <= np.datetime64(self.since))
        )
        alone = Pairs(
            dates=own.dates,
            champion=np.full(len(own.dates), 0.5),
            challenger=own.probability,
            y=own.y,
            known=own.known,
            next_return=own.next_return,
            increment=own.increment,
        )
        days = alone.differences(measure, horizon_dates=self.watch.strategy.training.horizon_dates)
        values = [value for _, value in days]
        spread = float(np.std(values)) if len(values) >= _MIN_DAYS else 0.0
        planned = planned_watch_days(policy, alpha=self.level)
        return mixture_variance(spread=spread or _USUAL_SPREAD[measure], days=planned, alpha=self.level)


def _measure(watch: Watch, pairs: Sequence[Pairs], known: Mapping[str, Any]) -> tuple[Measure | None, str | None]:
    """The daily number, which stays the same while the champion does; else why there is none."""
    if known.get("measure") is not None:
        return Measure(known["measure"]), None
    if not any(len(one.dates) for one in pairs):
        return None, "no date was predicted by the champion and a former one yet"
    n_names = max(len(one.dates) / len(np.unique(one.dates)) for one in pairs if len(one.dates))
    label = watch.strategy.training.label
    allowed = measures_of(label, n_names=n_names)
    if not allowed:
        return None, f"a day by itself says nothing of the label {label!r}"
    if watch.joined.next_return is None:
        return (
            None,
            f"the feature view has no column {watch.strategy.live.return_column!r}, so that no day has a return",
        )
    return allowed[0], None


# ---- Guardrails of the champion beside a former one


def _guardrails(
    services: ScoreServices, beside: _Beside, promoted_at: datetime | None, *, namespace: str
) -> tuple[Guardrail, ...]:
    watch, former, policy = beside.watch, beside.former, beside.watch.strategy.guardrails
    recent = beside.pairs.of_newest(RECENT_DATES, min_rows=policy.min_answers)
    age = int(np.count_nonzero(watch.outcomes.panel_dates > recent.dates[-1])) if len(recent.dates) else 0
    found: list[Guardrail] = []
    if age < _MIN_DAYS:
        missing = missing_shares(
            services.ledger,
            watch.strategy.name,
            recent,
            variant=FORMER,
            sha256=former.identity.sha256,
            namespace=namespace,
        )
        if missing is not None:
            theirs, champions, n_rows = missing
            found += guard_missing(champions, theirs, n_rows=n_rows, policy=policy)
        if len(np.unique(recent.dates)) >= MIN_DATES:
            found.append(guard_answers(_answers(recent), policy)[0])
    if age < watch.strategy.training.horizon_dates + _MIN_DAYS:  # the last labels come so much later
        found.append(guard_answers(_answers(beside.pairs), policy)[1])
    if promoted_at is None or namespace != LIVE:
        return tuple(found)
    counts = services.ledger.answer_counts(watch.strategy.name, since=promoted_at - RECENT_DATES * _DAY, by="hour")
    of = {
        sha256: [one for one in counts if one.model_sha256 == sha256]
        for sha256 in (watch.champion.identity.sha256, former.identity.sha256)
    }
    since = [one for one in of[watch.champion.identity.sha256] if one.minute >= promoted_at]
    return (*found, *guard_served(since, of[former.identity.sha256], policy))


def _answers(pairs: Pairs) -> PairedAnswers:
    return PairedAnswers(one=pairs.champion, other=pairs.challenger, y=pairs.y, known=pairs.known)


def _last_rollback(decisions: Sequence[Promotion]) -> np.datetime64 | None:
    """Date as of which the newest automatic one was decided."""
    found = (one.evidence["as_of"] for one in decisions if one.evidence.get("kind") == KIND)
    newest = next(found, None)
    return None if newest is None else np.datetime64(newest)


def _was_left(decisions: Sequence[Promotion], former: Promotion) -> bool:
    return any(one.decision == "rollback" and one.seq == former.seq + 1 for one in decisions)


def _identity(former: Promotion) -> tuple[str | None, ...]:
    return former.version, former.identity.sha256, former.identity.made_by


# ---- What follows


def _rolled_back(
    grant: Grant, services: ScoreServices, watch: Watch, evidence: dict[str, Any], keeper: LeaseKeeper
) -> dict[str, Any]:
    former = services.ledger.former_champions(watch.strategy.name, namespace=grant.namespace)
    to = next(one for one in former if _identity(one) == identity_of(evidence["target"]))
    champion = watch.champion
    decision = PromotionDecision(
        decision="rollback",
        version=to.version,
        model_name=watch.strategy.model_name,
        reasons=(f"rolled back from version {champion.version}: {evidence['words']}",),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=f"run {grant.run_id}",
        target_stage="Production",
        expected_seq=champion.seq,
        # The place is taken as of now, not as of the old version's training.
        as_of=champion.as_of,
        identity=to.identity,
        trained_as_of=to.trained_as_of,
    )
    keeper.check_before_write()
    try:
        services.ledger.decide(grant, decision)
    except ChampionMoved as exc:
        log.info("rollback.champion_moved", error=str(exc))
        return {**evidence, "action": str(RollbackAction.NONE), "words": f"not rolled back: {exc}"}
    keeper.committed()
    log.warning(
        "rollback.made",
        strategy=watch.strategy.name,
        version=to.version,
        instead_of=champion.version,
        action=evidence["words"],
    )
    return evidence


def _with_usable_target(
    grant: Grant, services: ScoreServices, watch: Watch, facts: RollbackFacts
) -> tuple[dict[str, Any], RollbackFacts]:
    """The conclusion, whose version was looked at and can be served; those before it that cannot say why."""
    formers = services.ledger.former_champions(watch.strategy.name, namespace=grant.namespace)
    former = {_identity(one): one for one in formers}
    looked_at: set[tuple[str | None, ...]] = set()
    while True:
        evidence = evidence_of(facts)
        if evidence["target"] is None or (to := identity_of(evidence["target"])) in looked_at:
            return evidence, facts
        looked_at.add(to)
        why_not = _why_unusable(services, watch, former.get(to), namespace=grant.namespace)
        if why_not is not None:
            of_former = [
                replace(one, unusable=why_not) if (one.version, one.model_sha256, one.made_by) == to else one
                for one in facts.former
            ]
            facts = replace(facts, former=tuple(of_former))


def _why_unusable(services: ScoreServices, watch: Watch, former: Promotion | None, *, namespace: str) -> str | None:
    """Why a former champion cannot take the place, in words; its bytes are looked at last."""
    ledger, strategy = services.ledger, watch.strategy
    if former is None or former.identity.sha256 is None:
        return "the ledger has no digest of its model file"
    not_promotable = why_not_promotable(ledger, strategy, former.version, former.identity, namespace=namespace)
    if not_promotable:
        return "; ".join(not_promotable)
    if namespace == LIVE and ledger.forgotten().registry_since is not None:
        return "the ledger was set back in time, and the registry was not looked through yet"
    try:
        found = expect(services.registry.version(strategy.model_name, former.version), former.identity)
        identity = identity_by_bytes(ledger, services.registry, found)
        rollback_target(ledger, strategy.name, former.version, watch.champion, identity=identity)
    except AcisError as exc:
        return str(exc)
    return None
