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
import numpy.typing as npt
import pyarrow as pa
import structlog

from mlops.domain.errors import AcisError, ChampionMoved
from mlops.domain.experiments.daily_scores import MIN_NAMES, increment_difference, mark_difference
from mlops.domain.experiments.duration import planned_days
from mlops.domain.experiments.guardrails import PairedAnswers, guard_answers, guard_missing, guard_served
from mlops.domain.experiments.records import Measure
from mlops.domain.experiments.rollback import KIND, FormerChampion, RollbackAction, RollbackFacts, evidence_of
from mlops.domain.experiments.sequence import mixture_variance
from mlops.domain.ports import Window, expect
from mlops.domain.promotion.records import Champion, ModelIdentity, Promotion, PromotionDecision
from mlops.domain.records import LIVE
from mlops.domain.sampling import group_starts
from mlops.domain.training.fingerprint import evidence_digest
from mlops.domain.training.trading import is_long_label
from mlops.registry.adoption import identity_by_bytes
from mlops.runs.request import rollback_target
from mlops.runs.switching import may_switch
from mlops.stages.live.served_champion import ServedChampion, load_champion
from mlops.stages.live.universe import refuse_columns

if TYPE_CHECKING:
    from mlops.domain.experiments.decision import Guardrail
    from mlops.domain.policies import Strategy
    from mlops.domain.ports import FeatureSource
    from mlops.domain.records import Grant
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.live.outcomes import Outcomes
    from mlops.stages.live.score import JoinedPredictions
    from mlops.stages.table import ScoreServices

log = structlog.get_logger(__name__)

_MOST_FORMER = 5
"""Newest former champions that may take the place; as many are kept (`mlops.registry.kept_models`)."""
_RECENT_DATES = 20
"""Newest dates whose answers the guardrails compare: a month of trading."""
_MANY_NAMES = 20
"""Names of a day from which on the increment's score is compared, which needs fewer days."""
_USUAL_SPREAD = {Measure.MARK: 0.005, Measure.INCREMENT: 0.02}
"""Of a daily difference where nothing says it; a wrong one costs time, never the level."""
_MIN_DAYS = 5
"""Days before the promotion from which on they say the spread."""
_DECISIONS = 200
"""Newest decisions that are looked at."""
_DAY = timedelta(days=1)
_MEASURE_WORDS = {Measure.MARK: "daily mark", Measure.INCREMENT: "score of each day's returns"}


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Everything that the watch looks at."""

    strategy: Strategy
    champion: Champion
    served: ServedChampion | None
    joined: JoinedPredictions
    outcomes: Outcomes
    earlier: Mapping[str, Any]
    """`rollback` of the scoring before; empty for the first"""
    as_of: date


def watch_former(grant: Grant, services: ScoreServices, watch: Watch, source: FeatureSource) -> RollbackFacts | None:
    """Gather the facts; None where the policy watches nobody, or nobody was champion before."""
    strategy, champion, ledger = watch.strategy, watch.champion, services.ledger
    policy = strategy.experiments
    if champion.version is None or policy.watched_former == 0:
        return None
    former = ledger.former_champions(strategy.name, namespace=grant.namespace)[:_MOST_FORMER]
    decisions = ledger.promotions(strategy.name, limit=_DECISIONS, namespace=grant.namespace)
    promotion = next((one for one in decisions if one.id == champion.promotion_id), None)
    if not former or promotion is None:
        return None
    since = np.datetime64(promotion.created_at.replace(tzinfo=None), "us")
    pairs = _Pairs(watch, since, former)
    measure, why_not = pairs.measure()
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
        measure=None if measure is None else _MEASURE_WORDS[measure],
        why_not=why_not,
        mode=policy.rollback,
        alpha=policy.alpha,
        cooldown_days=policy.rollback_cooldown_days,
        days_since_rollback=None if last is None else int(np.count_nonzero(watch.outcomes.panel_dates > last)),
        former=tuple(
            FormerChampion(
                version=one.version,
                model_sha256=one.identity.sha256,
                made_by=one.identity.made_by,
                is_watched=place < policy.watched_former,
                **pairs.compared(one, measure),
                guardrails=_guardrails(services, watch, pairs, one, promotion, source)
                if place < policy.watched_former
                else (),
                was_left=_was_left(decisions, one),
            )
            for place, one in enumerate(former)
        ),
    )


class _Pairs:
    """The champion's answers since its promotion, and those of former champions about the same rows."""

    def __init__(self, watch: Watch, since: np.datetime64, former: Sequence[Promotion]) -> None:
        self._watch, joined = watch, watch.joined
        said = joined.said
        tickers = said.column("ticker").combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        self._keys = joined.dates.astype(np.int64) * 2**32 + tickers.astype(np.int64)
        at = np.asarray(said.column("predicted_at").cast(pa.timestamp("us")).to_numpy(), dtype="datetime64[us]")
        self._is_since = at >= since
        self._probability = joined.probability
        self._champion = np.flatnonzero(
            self._is_since & self._of(str(watch.champion.version), watch.champion.identity, variant="champion")
        )
        self._promotion_id = watch.champion.promotion_id
        self._level = watch.strategy.experiments.alpha / max(
            1, min(len(former), watch.strategy.experiments.watched_former)
        )

    def _of(self, version: str, identity: ModelIdentity, *, variant: str | None = None) -> npt.NDArray[np.bool_]:
        said = self._watch.joined.said
        found = _equals(said, "version", version)
        if identity.sha256 is not None:
            found &= _equals(said, "model_sha256", identity.sha256)
        return found if variant is None else found & _equals(said, "variant", variant)

    def measure(self) -> tuple[Measure | None, str | None]:
        """The daily number, which stays the same while the champion does; else why there is none."""
        known = self._known()
        if known.get("measure") is not None:
            return next(one for one, words in _MEASURE_WORDS.items() if words == known["measure"]), None
        strategy = self._watch.strategy
        if not is_long_label(strategy.training.label):
            return None, f"the label {strategy.training.label!r} does not say when to be long, so no day has a mark"
        if self._watch.joined.next_return is None:
            return None, f"the feature view has no column {strategy.live.return_column!r}, so no day has a mark"
        n_dates = len(np.unique(self._watch.joined.dates[self._champion]))
        n_names = len(self._champion) / max(1, n_dates)
        return (Measure.INCREMENT if n_names >= max(_MANY_NAMES, MIN_NAMES) else Measure.MARK), None

    def _known(self) -> Mapping[str, Any]:
        """What the scoring before found of the same champion."""
        earlier = self._watch.earlier
        return earlier if (earlier.get("champion") or {}).get("promotion_id") == self._promotion_id else {}

    def _rows(self, former: Promotion) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Places of the rows that both answered, by date: the former champion's, and the champion's."""
        other = np.flatnonzero(self._is_since & self._of(former.version, former.identity))
        _, first, second = np.intersect1d(self._keys[other], self._keys[self._champion], return_indices=True)
        return other[first], self._champion[second]

    def compared(self, former: Promotion, measure: Measure | None) -> dict[str, Any]:
        """`r` and `differences` of a former champion; those of dates that are no longer read are kept."""
        if measure is None:
            return {}
        of_it = [one for one in self._known().get("former", ()) if one["model_sha256"] == former.identity.sha256]
        known = next((one for one in of_it if one["version"] == former.version), None)
        one, other = self._rows(former)
        found = self._differences(one, self._probability[one], self._probability[other], measure)
        first = self._watch.joined.dates[0].item() if len(self._watch.joined.dates) else self._watch.as_of
        gone = [(day, value) for day, value in known["differences"] if day < first.isoformat()] if known else []
        days = [*gone, *((day.isoformat(), value) for day, value in found)]
        r = known["r"] if known else self._mixture_variance(former, measure)
        return {"r": r, "differences": tuple(days[: self._watch.strategy.experiments.watch_days])}

    def _differences(
        self, rows: npt.NDArray[np.intp], one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], measure: Measure
    ) -> list[tuple[date, float]]:
        """Difference of each date on which it is known, in order. rows : places, by date"""
        joined = self._watch.joined
        if not len(rows) or joined.next_return is None:
            return []
        dates, returns = joined.dates[rows], joined.next_return[rows]
        starts = group_starts(dates.astype(np.int64))
        found = []
        for start, end in zip(starts, np.append(starts[1:], len(rows)), strict=True):
            on = slice(int(start), int(end))
            if measure is Measure.MARK:
                value = float(mark_difference(one[on], other[on], returns[on]))
            else:
                horizon = self._watch.strategy.training.horizon_dates
                value = float(increment_difference(one[on], other[on], returns[on], horizon_dates=horizon))
            if np.isfinite(value):
                found.append((dates[start].item(), value))
        return found

    def _mixture_variance(self, former: Promotion, measure: Measure) -> float:
        """Fixed by what the former champion said before the promotion, beside a version that prefers no name."""
        rows = np.flatnonzero(~self._is_since & self._of(former.version, former.identity))
        rows = rows[np.unique(self._keys[rows], return_index=True)[1]]
        said = self._probability[rows]
        values = [value for _, value in self._differences(rows, said, np.full(len(rows), 0.5), measure)]
        spread = float(np.std(values)) if len(values) >= _MIN_DAYS else 0.0
        policy = self._watch.strategy.experiments
        days = min(float(policy.watch_days), planned_days(policy.sharpe, alpha=self._level))
        return mixture_variance(spread=spread or _USUAL_SPREAD[measure], days=days, alpha=self._level)

    def recent(self, former: Promotion) -> PairedAnswers:
        """What both said of the newest dates; the champion is the one that is guarded."""
        other, one = self._rows(former)
        dates = self._watch.joined.dates[one]
        newest = np.unique(dates)[-_RECENT_DATES:]
        on = np.isin(dates, newest)
        joined = self._watch.joined
        return PairedAnswers(
            one=self._probability[one[on]],
            other=self._probability[other[on]],
            y=joined.y[one[on]],
            known=joined.known[one[on]],
        )

    def newest(self, former: Promotion) -> date | None:
        """The newest date that both answered about."""
        dates = self._watch.joined.dates[self._rows(former)[1]]
        return dates[-1].item() if len(dates) else None


def _equals(said: pa.Table, name: str, value: str) -> npt.NDArray[np.bool_]:
    encoded = said.column(name).combine_chunks().dictionary_encode()
    places = [place for place, one in enumerate(encoded.dictionary.to_pylist()) if one == value]
    return np.isin(encoded.indices.to_numpy(zero_copy_only=False), places)


# ---- What keeps a guardrail from being known is said in the log, and breaks none


def _guardrails(
    services: ScoreServices,
    watch: Watch,
    pairs: _Pairs,
    former: Promotion,
    promotion: Promotion,
    source: FeatureSource,
) -> tuple[Guardrail, ...]:
    policy = watch.strategy.guardrails
    found = [*guard_answers(pairs.recent(former), policy)]
    day = pairs.newest(former)
    if watch.served is not None and day is not None:
        try:
            found += _missing(services, watch, watch.served, former, day, source)
        except AcisError as exc:
            log.warning("rollback.missing_not_compared", version=former.version, error=str(exc))
    counts = services.ledger.answer_counts(watch.strategy.name, since=promotion.created_at - _RECENT_DATES * _DAY)
    of_champion = [
        one
        for one in counts
        if one.minute >= promotion.created_at
        and watch.champion.is_version(one.version, ModelIdentity(sha256=one.model_sha256))
    ]
    of_former = [
        one
        for one in counts
        if one.version == former.version and former.identity.may_be(ModelIdentity(sha256=one.model_sha256))
    ]
    return (*found, *guard_served(of_champion, of_former, policy))


def _missing(
    services: ScoreServices,
    watch: Watch,
    served: ServedChampion,
    former: Promotion,
    day: date,
    source: FeatureSource,
) -> tuple[Guardrail, ...]:
    """Of the newest date that both answered about. Raises AcisError."""
    before = load_champion(services.registry, watch.strategy, _as_champion(watch.champion, former))
    features = [served.model.features, before.model.features]
    names = list(dict.fromkeys([*features[0], *features[1]]))
    refuse_columns({column.name: column.kind for column in source.columns()}, names)
    rows = source.read(watch.strategy.name, Window(start=day - _DAY, end=day), names)
    if not rows.num_rows:
        return ()
    missing = {name: _share_missing(rows.column(name)) for name in names}
    one, other = (float(np.mean([missing[name] for name in of])) for of in features)
    return guard_missing(one, other, n_rows=rows.num_rows, policy=watch.strategy.guardrails)


def _share_missing(column: pa.ChunkedArray) -> float:
    return float(np.mean(~np.isfinite(np.asarray(column.to_numpy(), dtype=np.float64))))


def _as_champion(champion: Champion, former: Promotion) -> Champion:
    return replace(champion, version=former.version, identity=former.identity, trained_as_of=former.trained_as_of)


def _last_rollback(decisions: Sequence[Promotion]) -> np.datetime64 | None:
    """Date as of which the newest automatic one was decided."""
    found = (one.evidence["as_of"] for one in decisions if one.evidence.get("kind") == KIND)
    newest = next(found, None)
    return None if newest is None else np.datetime64(newest)


def _was_left(decisions: Sequence[Promotion], former: Promotion) -> bool:
    return any(
        one.id > former.id and one.decision == "rollback" and one.previous_version == former.version
        for one in decisions
    )


# ---- What follows


def follow(
    grant: Grant, services: ScoreServices, watch: Watch, facts: RollbackFacts | None, keeper: LeaseKeeper
) -> dict[str, Any]:
    """Roll back, or say what a person may do: the report's `rollback`; empty where nothing is watched.

    A second try of the run finds its decision, and decides nothing else. Raises LeaseLost.
    """
    decided = services.ledger.promotion_of(grant.run_id)
    if decided is not None:
        return dict(decided.evidence) if decided.evidence.get("kind") == KIND else {}
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


def _rolled_back(
    grant: Grant, services: ScoreServices, watch: Watch, evidence: dict[str, Any], keeper: LeaseKeeper
) -> dict[str, Any]:
    former = services.ledger.former_champions(watch.strategy.name, namespace=grant.namespace)
    to = next(one for one in former if one.version == evidence["to"])
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
    former = {
        one.version: one for one in services.ledger.former_champions(watch.strategy.name, namespace=grant.namespace)
    }
    looked_at: set[str] = set()
    while True:
        evidence = evidence_of(facts)
        to = evidence["to"]
        if to is None or to in looked_at:
            return evidence, facts
        looked_at.add(to)
        why_not = _why_unusable(services, watch, former.get(to), namespace=grant.namespace)
        if why_not is not None:
            of_former = [replace(one, unusable=why_not) if one.version == to else one for one in facts.former]
            facts = replace(facts, former=tuple(of_former))


def _why_unusable(services: ScoreServices, watch: Watch, former: Promotion | None, *, namespace: str) -> str | None:
    """Why a former champion cannot take the place, in words; its bytes are looked at last."""
    ledger, strategy = services.ledger, watch.strategy
    if former is None:
        return "it is no former champion any more"
    if former.identity.sha256 is None:
        return "the ledger has no digest of its model file"
    if missed := missed_gates(
        ledger.newest_decision(strategy.name, former.version, former.identity, judged=True, namespace=namespace)
    ):
        return f"it missed its gates when it was judged: {missed}"
    if ledger.is_quarantined("version", f"{strategy.model_name}/{former.version}"):
        return "it is in quarantine"
    if namespace == LIVE and ledger.forgotten().registry_since is not None:
        return "the ledger was set back in time, and the registry was not looked through yet"
    try:
        found = expect(services.registry.version(strategy.model_name, former.version), former.identity)
        identity = identity_by_bytes(ledger, services.registry, found)
        rollback_target(ledger, strategy.name, former.version, watch.champion, identity=identity)
    except AcisError as exc:
        return str(exc)
    return None if identity.sha256 == former.identity.sha256 else "its model file is another than was promoted"


def missed_gates(judged: Promotion | None) -> str:
    """The gates that a version missed when it was judged last, in words; empty: none, or it was never judged."""
    if judged is None:
        return ""
    missed = [str(gate["words"]) for gate in judged.evidence.get("gates") or () if not gate["passed"]]
    if missed:
        return "; ".join(missed)
    return "; ".join(judged.reasons) if judged.decision == "refuse" else ""
