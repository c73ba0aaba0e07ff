"""A day's look at the running experiment: what its days have come to, and what follows, written at once.

Called by the score stage. Safe to run twice: a date is looked at once, a look is written with all that it leads to
(`SqlLedger.note_look`), and a second try gives what stands. Both versions are scored on the whole universe, whoever is
answered by which, so that the evidence does not depend on the share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from mlops import tracing
from mlops.code_version import code_version
from mlops.domain.errors import RegistryError, RegistryUnavailable, TemporaryError
from mlops.domain.experiments.decision import ENDS, Action, Decision, Guardrail, Stand
from mlops.domain.experiments.evidence import KIND, Differences, LookFacts, conclude, decision_evidence
from mlops.domain.experiments.guardrails import PairedAnswers, guard_answers, guard_missing, guard_served
from mlops.domain.experiments.records import Experiment, Look
from mlops.domain.ports import Window, expect
from mlops.domain.promotion.records import PromotionDecision
from mlops.domain.records import LIVE
from mlops.domain.training.fingerprint import evidence_digest
from mlops.registry.adoption import identity_by_bytes
from mlops.registry.kept_models import keep_before_promotion
from mlops.registry.projection import project
from mlops.registry.registry_check import stops
from mlops.runs.experiments import why_not_promotable
from mlops.runs.switching import SwitchAnswer, may_switch
from mlops.stages.live.beside import missing_shares
from mlops.stages.live.pairs import CHALLENGER, CHAMPION, MIN_DATES, RECENT_DATES, Pairs, pair_predictions

if TYPE_CHECKING:
    from mlops.domain.policies import Strategy
    from mlops.domain.promotion.records import Champion, Promotion
    from mlops.domain.records import Grant
    from mlops.ledger.ledger import SqlLedger
    from mlops.runs.lease import LeaseKeeper
    from mlops.stages.live.score import JoinedPredictions
    from mlops.stages.table import ScoreServices

log = structlog.get_logger(__name__)

_STAGES = {"promote": "Production", "await_approval": "Staging", "inconclusive": "Staging"}
"""Where the registry's stage follows from the decision."""


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a scoring says of the experiment."""

    result: dict[str, Any]
    """For the run's result"""
    awaits_approval: bool
    """The look decided for the challenger, and a person is asked"""


def look_at_experiment(
    grant: Grant,
    services: ScoreServices,
    keeper: LeaseKeeper,
    strategy: Strategy,
    joined: JoinedPredictions,
    as_of: date,
) -> Looked | None:
    """Look as of the date and do what follows; None where no experiment runs, and none ended by this date's look.

    joined : predictions of all variants
    Raises LeaseLost, LedgerUnavailable, SourceUnavailable.
    """
    ledger = services.ledger
    made = ledger.promotion_of(grant.run_id)
    if made is not None:  # by a try before; a run decides once
        return _decided_before(services, made)
    experiment = ledger.running_experiment(strategy.name, namespace=grant.namespace)
    if experiment is None:
        return _ended(grant, services, strategy, as_of)
    if as_of <= experiment.started_as_of:
        return _looked(experiment, None, f"its first day is the one after {experiment.started_as_of}")
    before = ledger.newest_looks([experiment.id]).get(experiment.id)
    if before is not None and before.as_of >= as_of:
        return _looked(experiment, before)
    champion = ledger.champion(strategy.name, namespace=grant.namespace)
    facts = _facts(grant, services, strategy, experiment, champion, joined, as_of, before)
    found, decision = conclude(experiment.plan, facts)
    decided: PromotionDecision | None = None
    if decision.action in ENDS and champion.seq == experiment.champion_seq:
        decided, waits = _decided(grant, services, strategy, experiment, champion, facts, decision.action)
        if decided is None:
            decision = Decision(action=Action.WAIT, words=f"{decision.words}; not promoted yet: {waits}")
    look = Look(
        as_of=as_of,
        n_days=found.n_days,
        mean=found.mean,
        low=found.low,
        high=found.high,
        share=experiment.share,
        guardrails=facts.guardrails,
        action=decision.action,
        words=decision.words,
        differences=tuple(facts.differences),
    )
    keeper.check_before_write()
    with tracing.traced("look", run_id=grant.run_id, experiment=experiment.id, action=look.action.value):
        there = ledger.note_look(grant, experiment.id, look, decided)
    noted = ledger.newest_looks([experiment.id]).get(experiment.id)
    log.info("experiment.looked", experiment=experiment.id, action=look.action.value, words=look.words)
    if there.promotion_id is not None:
        keeper.committed()
        _show(services, there)
    return _looked(there, noted, decision=decided.decision if decided is not None and there.promotion_id else None)


def _ended(grant: Grant, services: ScoreServices, strategy: Strategy, as_of: date) -> Looked | None:
    """The newest experiment, where this date's look ended it, by another run."""
    newest = next(iter(services.ledger.experiments(strategy.name, namespace=grant.namespace, limit=1)), None)
    look = None if newest is None else services.ledger.newest_looks([newest.id]).get(newest.id)
    if newest is None or look is None or look.as_of != as_of:
        return None
    return _looked(newest, look)


def _decided_before(services: ScoreServices, made: Promotion) -> Looked | None:
    """The experiment that the run's decision ended, whichever runs now; None where it decided something else."""
    if made.evidence.get("kind") != KIND:
        return None
    ended = services.ledger.experiment(made.evidence["experiment"])
    return _looked(ended, services.ledger.newest_looks([ended.id]).get(ended.id), decision=made.decision)


def _looked(experiment: Experiment, look: Look | None, words: str = "", *, decision: str | None = None) -> Looked:
    told = experiment.end_words if look is None or (experiment.end and experiment.end is not look.action) else None
    result = {
        "id": experiment.id,
        "challenger": experiment.challenger_version,
        "champion": experiment.champion_version,
        "mode": experiment.plan.mode.value,
        "measure": experiment.plan.measure.value,
        "share": experiment.share,
        "action": (experiment.end or (look.action if look else Action.WAIT)).value,
        "words": told or (look.words if look else words),
        "n_days": look.n_days if look else 0,
        "mean": look.mean if look else None,
        "low": look.low if look else None,
        "high": look.high if look else None,
        "guardrails": [asdict(one) for one in look.guardrails] if look else [],
        "end": experiment.end.value if experiment.end else None,
        "promotion_id": experiment.promotion_id,
        "decision": decision,
    }
    return Looked(result=result, awaits_approval=decision == "await_approval")


# ---- Facts


def _facts(
    grant: Grant,
    services: ScoreServices,
    strategy: Strategy,
    experiment: Experiment,
    champion: Champion,
    joined: JoinedPredictions,
    as_of: date,
    before: Look | None,
) -> LookFacts:
    plan = experiment.plan
    pairs = pair_predictions(
        joined,
        champion_sha256=str(experiment.champion.sha256),
        other_sha256=str(experiment.challenger.sha256),
        variant=CHALLENGER,
        after=experiment.started_as_of,
    )
    changed = _changed(strategy, experiment, champion)
    found = () if changed else pairs.differences(plan.measure, horizon_dates=plan.horizon_dates)
    # What is older than the predictions that are read again stays as it was known; so does all where it cannot go on.
    first = joined.dates[0].item() if len(joined.dates) else as_of
    kept = tuple(one for one in before.differences if changed or one[0] < first) if before is not None else ()
    differences = (*kept, *found)
    n_dates = len(services.source.dates(strategy.name, Window(start=experiment.started_as_of, end=as_of)))
    return LookFacts(
        as_of=as_of,
        differences=differences,
        stand=_stand(experiment, differences, n_dates),
        guardrails=_guardrails(grant, services, experiment, pairs),
        changed=changed,
    )


def _stand(experiment: Experiment, differences: Differences, n_dates: int) -> Stand:
    plan = experiment.plan
    return Stand(
        mode=plan.mode,
        steps=plan.steps,
        step=experiment.step,
        days_on_step=sum(day > experiment.step_since for day, _ in differences),
        min_days_on_step=plan.min_days_on_step,
        days_left=plan.deadline_days - n_dates,
        held=experiment.held,
        paused=experiment.paused,
    )


def _changed(strategy: Strategy, experiment: Experiment, champion: Champion) -> str | None:
    """Say what it was started with and is another one now."""
    if champion.seq != experiment.champion_seq:
        return f"version {champion.version or 'none'} is the champion now"
    plan = experiment.plan
    for what, was, now in (
        ("label", plan.label, strategy.training.label),
        ("return column", plan.return_column, strategy.live.return_column),
    ):
        if was not in (None, now):
            return f"the {what} was {was!r} and is {now!r} now, by which its days cannot be counted together"
    return None


def _guardrails(grant: Grant, services: ScoreServices, experiment: Experiment, pairs: Pairs) -> tuple[Guardrail, ...]:
    """Guardrails of a day: of the newest dates' calls, of all labels that are known, and of what was served."""
    policy = experiment.plan.guardrails
    found: list[Guardrail] = []
    recent = pairs.of_newest(RECENT_DATES, min_rows=policy.min_answers)
    called = guard_answers(_answers(recent), policy)[0]
    # Unknown until then, so that no step is left without it.
    found.append(called if len(np.unique(recent.dates)) >= MIN_DATES else replace(called, value=0.0, n=0))
    calibration = guard_answers(_answers(pairs), policy)[1]
    if calibration.is_known:  # labels take their horizon to be known, for which no step waits
        found.append(calibration)
    missing = missing_shares(
        services.ledger,
        experiment.strategy,
        recent,
        variant=CHALLENGER,
        sha256=experiment.challenger.sha256,
        namespace=grant.namespace,
    )
    if missing is not None:
        own, champions, n_rows = missing
        found += guard_missing(own, champions, n_rows=n_rows, policy=policy)
    if grant.namespace == LIVE:
        counts = services.ledger.answer_counts(experiment.strategy, since=experiment.started_at, by="hour")
        of = {
            variant: [one for one in counts if one.variant == variant and one.model_sha256 == identity.sha256]
            for variant, identity in ((CHAMPION, experiment.champion), (CHALLENGER, experiment.challenger))
        }
        # Where it is to answer and nobody was answered by it, its errors are not known, and no step is taken.
        if of[CHALLENGER] or (of[CHAMPION] and experiment.share > 0):
            errors, latency = guard_served(of[CHALLENGER], of[CHAMPION], policy)
            found += [errors, latency] if latency.is_known else [errors]  # of calls, however few come
    return tuple(found)


def _answers(pairs: Pairs) -> PairedAnswers:
    return PairedAnswers(one=pairs.challenger, other=pairs.champion, y=pairs.y, known=pairs.known)


# ---- The decision that an experiment leads to


def _decided(
    grant: Grant,
    services: ScoreServices,
    strategy: Strategy,
    experiment: Experiment,
    champion: Champion,
    facts: LookFacts,
    action: Action,
) -> tuple[PromotionDecision | None, str]:
    """The decision about the challenger with its evidence, or None and why it is not promoted now."""
    switch = SwitchAnswer(allowed=True, words="")
    try:
        if action is Action.PROMOTE:
            switch = _may_be_promoted(grant, services, strategy, experiment, champion)
            if not switch.allowed:
                return None, switch.words
        decided = _decision(services.ledger, strategy, experiment, champion, facts, switch)
        if decided.target_stage == "Production" and grant.namespace == LIVE:
            keep_before_promotion(services, decided)
    except (RegistryError, RegistryUnavailable) as exc:
        return None, str(exc)
    return decided, ""


def _may_be_promoted(
    grant: Grant, services: ScoreServices, strategy: Strategy, experiment: Experiment, champion: Champion
) -> SwitchAnswer:
    """Whether nothing speaks against it now: the ledger, the registry, the version itself, the hook.

    Raises RegistryError, RegistryUnavailable.
    """
    ledger, name = services.ledger, strategy.name
    if grant.namespace == LIVE and ledger.forgotten().registry_since is not None:
        words = "the ledger was set back in time, and the registry was not looked through yet"
        return SwitchAnswer(allowed=False, words=words)
    found = services.registry.version(strategy.model_name, experiment.challenger_version)
    version = expect(found, experiment.challenger)
    identity = identity_by_bytes(ledger, services.registry, version)
    why_not = [*why_not_promotable(ledger, strategy, version.version, identity, namespace=grant.namespace)]
    if grant.namespace != LIVE:
        return SwitchAnswer(allowed=not why_not, words="; ".join(why_not) or "nobody is asked: this is no live run")
    why_not += stops(ledger, strategy)
    if why_not:
        return SwitchAnswer(allowed=False, words="; ".join(why_not))
    policy = strategy.experiments
    return may_switch(name, champion.version, version.version, policy=policy, ask_task=services.ask_task)


def broken_decision(
    ledger: SqlLedger,
    strategy: Strategy,
    experiment: Experiment,
    guardrails: Sequence[Guardrail],
    answers: Mapping[str, Any],
) -> PromotionDecision:
    """Give the decision, with its evidence, by which broken guardrails end an experiment between two looks.

    Its days are those of the newest look. answers : counts by variant, which the guardrails are of
    """
    champion = ledger.champion(strategy.name, namespace=experiment.namespace)
    before = ledger.newest_looks([experiment.id]).get(experiment.id)
    differences = before.differences if before is not None else ()
    facts = LookFacts(
        as_of=before.as_of if before is not None else experiment.started_as_of,
        differences=differences,
        stand=_stand(experiment, differences, len(differences)),
        guardrails=tuple(guardrails),
        answers=answers,
    )
    return _decision(ledger, strategy, experiment, champion, facts, SwitchAnswer(allowed=True, words=""))


def _decision(
    ledger: SqlLedger,
    strategy: Strategy,
    experiment: Experiment,
    champion: Champion,
    facts: LookFacts,
    switch: SwitchAnswer,
) -> PromotionDecision:
    tags, metrics = ledger.training_facts(experiment.challenger)
    trained = tags.get("training_date")
    trained_as_of = date.fromisoformat(trained) if trained else None
    evidence = decision_evidence(
        experiment,
        facts,
        metrics=metrics,
        champion={
            "version": champion.version,
            "seq": champion.seq,
            "model_sha256": champion.identity.sha256,
            "trained_as_of": champion.trained_as_of.isoformat() if champion.trained_as_of else None,
        },
        trained_as_of=trained_as_of,
        approval=strategy.promotion.approval,
        switch=switch.to_json(),
        code=code_version(),
    )
    promotes = evidence["decision"] == "promote"
    return PromotionDecision(
        decision=evidence["decision"],
        version=experiment.challenger_version,
        model_name=strategy.model_name,
        reasons=tuple(evidence["reasons"]),
        evidence=evidence,
        evidence_digest=evidence_digest(evidence),
        actor=f"experiment {experiment.id}",
        target_stage=_STAGES.get(evidence["decision"], "Archived"),
        expected_seq=experiment.champion_seq,
        # The place's date is never set back; of any other decision it is the look's.
        as_of=max((day for day in (champion.as_of, trained_as_of) if day is not None), default=facts.as_of)
        if promotes
        else facts.as_of,
        identity=experiment.challenger,
        trained_as_of=trained_as_of,
    )


def _show(services: ScoreServices, ended: Experiment) -> None:
    """Show the decision to the registry; the reconciler repeats what fails."""
    promotion = services.ledger.promotion(ended.promotion_id) if ended.promotion_id is not None else None
    try:
        if promotion is not None:
            project(promotion, services.registry, services.ledger)
    except (RegistryError, TemporaryError) as exc:
        log.warning(
            "promote.not_shown",
            version=ended.challenger_version,
            error=str(exc),
            action="none: the reconciler repeats it",
        )
