"""A promotion by an experiment follows from its evidence alone, and the evidence says when it does not."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pytest

from mlops.domain.experiments.decision import Action, Guardrail, Mode, Stand
from mlops.domain.experiments.evidence import LookFacts, conclude, decision_evidence
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import Experiment, ExperimentPlan, Measure
from mlops.domain.experiments.sequence import confidence_sequence
from mlops.domain.promotion.evidence import replay
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.training.fingerprint import evidence_digest

FIRST = date(2024, 1, 2)
PLAN = ExperimentPlan(
    mode=Mode.CANARY,
    steps=(0.05, 1.0),
    measure=Measure.MARK,
    alpha=0.05,
    sharpe=3.5,
    r=0.001,
    deadline_days=252,
    min_days_on_step=5,
    horizon_dates=20,
    guardrails=GuardrailPolicy(),
    salt="a",
)
EXPERIMENT = Experiment(
    namespace="live",
    strategy="growth",
    plan=PLAN,
    champion_version="1",
    champion_seq=4,
    champion=ModelIdentity(sha256="aa"),
    challenger_version="2",
    challenger=ModelIdentity(sha256="bb"),
    started_as_of=FIRST,
    started_by="ann",
    reason="a test",
    id=7,
    step=1,
    step_since=FIRST,
    held=False,
    started_at=datetime(2024, 1, 2, tzinfo=UTC),
)


def facts_of(values: list[float], **changes: Any) -> LookFacts:
    stand = Stand(
        mode=PLAN.mode,
        steps=PLAN.steps,
        step=1,
        days_on_step=len(values),
        min_days_on_step=5,
        days_left=200,
    )
    days = [(FIRST + timedelta(days=place + 1), value) for place, value in enumerate(values)]
    guardrails = (Guardrail(name="positive share", value=0.1, bound=0.25, n=300, min_n=200),)
    return LookFacts(
        **{"as_of": days[-1][0] if days else FIRST, "differences": days, "stand": stand, "guardrails": guardrails}
        | changes
    )


def evidence_for(values: list[float], approval: Literal["automatic", "manual"] = "automatic") -> dict[str, Any]:
    return decision_evidence(
        EXPERIMENT,
        facts_of(values),
        metrics={"roc_auc": 0.7, "sharpe_ratio": float("nan")},
        champion={"version": "1", "seq": 4, "model_sha256": "aa", "trained_as_of": None},
        trained_as_of=FIRST,
        approval=approval,
        switch={"allowed": True, "words": "nobody is asked before a switch", "hook": "", "was_answered": False},
        code={"version": "0.2", "commit": None},
    )


BETTER = [0.02, 0.011, 0.017, 0.009, 0.021, 0.013, 0.018, 0.012, 0.02, 0.015, 0.016, 0.014, 0.019, 0.011]


def test_the_interval_is_the_sequences_and_a_gain_that_excludes_nothing_waits() -> None:
    found, decision = conclude(PLAN, facts_of(BETTER))
    bounds = confidence_sequence(np.array(BETTER), r=PLAN.r, alpha=PLAN.alpha)
    assert (found.low, found.high) == (bounds.low[-1], bounds.high[-1])
    assert decision.action is Action.PROMOTE
    assert conclude(PLAN, facts_of(BETTER[:2]))[1].action is Action.WAIT
    none, decision = conclude(PLAN, facts_of([]))
    assert (none.n_days, none.mean, none.low, decision.action) == (0, None, None, Action.WAIT)


def test_a_gain_that_changed_is_concluded_undecided_and_so_again() -> None:
    rng = np.random.default_rng(1)
    values = 0.01 * np.concatenate([rng.normal(size=120) + 0.4, rng.normal(size=130) - 0.6])
    evidence = evidence_for(values.tolist())
    assert evidence["sequence"]["low"] > evidence["sequence"]["high"] > 0
    assert evidence["decision"] == "inconclusive"
    assert "the gain changed" in evidence["reasons"][0]
    again = replay(json.loads(json.dumps(evidence)), evidence_digest(evidence))
    assert again is not None
    assert again.agrees


@pytest.mark.parametrize("approval", ["automatic", "manual"])
def test_the_evidence_survives_a_json_column_and_is_decided_again(approval: Literal["automatic", "manual"]) -> None:
    evidence = evidence_for(BETTER, approval)
    assert evidence["decision"] == ("promote" if approval == "automatic" else "await_approval")
    assert evidence["metrics"] == {"roc_auc": 0.7}
    digest = evidence_digest(evidence)
    again = replay(json.loads(json.dumps(evidence)), digest)
    assert again is not None
    assert (again.agrees, again.digest) == (True, digest)


def test_evidence_from_which_no_promotion_follows_is_not_repeated() -> None:
    evidence = evidence_for(BETTER)
    worse = {**evidence, "differences": [[day, -value] for day, value in evidence["differences"]]}
    found = replay(worse, evidence_digest(worse))
    assert found is not None
    assert not found.agrees
    broken = {**evidence, "guardrails": [{**evidence["guardrails"][0], "value": 0.4}]}
    found = replay(broken, evidence_digest(broken))
    assert found is not None
    assert not found.agrees
