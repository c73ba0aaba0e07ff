"""Experiments to feed a ledger: canaries of version 2 against version 1 of the strategy `growth`.

`begun` and `looked_at` make one against the champion of services, with looks at made-up differences.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.domain.experiments.decision import Action, Guardrail, Mode
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import Experiment, ExperimentPlan, Look, Measure, NewExperiment
from mlops.domain.experiments.sequence import confidence_sequence, mixture_variance
from mlops.domain.promotion.records import ModelIdentity, PromotionDecision
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import decision_for

if TYPE_CHECKING:
    from tests.support.services import FakeServices

OLD, NEW = (ModelIdentity(sha256=letter * 64, made_by=f"run-{letter}") for letter in "ab")
BEGAN = date(2026, 1, 5)
PLAN = ExperimentPlan(
    mode=Mode.CANARY,
    steps=(0.01, 0.05, 1.0),
    measure=Measure.MARK,
    alpha=0.05,
    sharpe=3.5,
    r=1.25e-4,
    deadline_days=252,
    min_days_on_step=5,
    horizon_dates=20,
    guardrails=GuardrailPolicy(),
    salt="2026-01",
    keys=("AAPL", "MSFT"),
    expected={"median": 154.0, "high": None},
)
STARTED = date(2026, 3, 2)
"""Of one that was begun against the champion of services"""
_SPREAD = 0.004
"""Standard deviation of a day's difference of two marks"""


def new_experiment(**changes: Any) -> NewExperiment:
    """One that is to be started."""
    asked: dict[str, Any] = {
        "namespace": "live",
        "strategy": "growth",
        "plan": PLAN,
        "champion_version": "1",
        "champion_seq": 1,
        "champion": OLD,
        "challenger_version": "2",
        "challenger": NEW,
        "started_as_of": BEGAN,
        "started_by": "ada",
        "reason": "it was better on the held-out dates",
    }
    return NewExperiment(**{**asked, **changes})


def started(ledger: SqlLedger, **changes: Any) -> Experiment:
    """An experiment against version 1."""
    ledger.record_transition("growth", decision_for("1", identity=OLD))
    return ledger.start_experiment(new_experiment(**changes))


def look(day: int, action: Action = Action.WAIT, **changes: Any) -> Look:
    """What was found so many days after the start."""
    found: dict[str, Any] = {
        "as_of": BEGAN + timedelta(days=day),
        "n_days": day,
        "mean": 0.001,
        "low": None,
        "high": None,
        "share": 0.01,
        "guardrails": (),
        "action": action,
        "words": f"{action} on day {day}",
        "differences": ((BEGAN + timedelta(days=1), 0.1 + 0.2),),
    }
    return Look(**{**found, **changes})


def promotion(**changes: Any) -> PromotionDecision:
    """Of the challenger."""
    return decision_for("2", **{"expected_seq": 1, "identity": NEW, "evidence": {"experiment": True}, **changes})


def plan(**changes: Any) -> ExperimentPlan:
    """A canary that is planned to find a Sharpe ratio of 7."""
    said = {"sharpe": 7.0, "low": 31.0, "median": 72.0, "high": 148.0, "decided": 1.0, "words": "about 72 trading days"}
    planned: dict[str, Any] = {
        "steps": (0.01, 0.05, 0.25, 1.0),
        "sharpe": 7.0,
        "r": mixture_variance(spread=_SPREAD, days=70, alpha=0.05),
        "salt": "growth-7-1",
        "keys": (),
        "expected": said,
    }
    return replace(PLAN, **{**planned, **changes})


def begun(services: FakeServices, challenger: str = "7", strategy: str = "growth", **changes: Any) -> Experiment:
    """One that was started against the champion of the ledger. changes : of the plan"""
    champion = services.ledger.champion(strategy)
    return services.ledger.start_experiment(
        new_experiment(
            strategy=strategy,
            plan=plan(**changes),
            champion_version=champion.version,
            champion_seq=champion.seq,
            champion=champion.identity,
            challenger_version=challenger,
            challenger=ModelIdentity(sha256="cd" * 32, made_by="run-7"),
            started_as_of=STARTED,
            started_by="anna",
            reason="v7 knows of earnings",
        )
    )


def looked_at(
    services: FakeServices, experiment: Experiment, n_days: int, *, gain: float = 0.001, end: Action | None = None
) -> list[Look]:
    """Looks at so many days, of which each tenth leads to the next step. end : what the last one says"""
    from tests.support.live_scores import trading_days  # loads models, which a killed look does without

    d = np.random.default_rng(7).normal(gain, _SPREAD, n_days)
    bounds = confidence_sequence(d, r=experiment.plan.r, alpha=0.05)
    days = trading_days(STARTED, n_days + 1)[1:]
    grant = services.granted(Kind.SCORE, Stage.SCORE, experiment.strategy)
    for place, day in enumerate(days):
        here = services.ledger.experiment(experiment.id)
        low, high = float(bounds.low[place]), float(bounds.high[place])
        grows = place % 10 == 9 and here.step + 1 < len(here.plan.steps)
        action = end if end and place + 1 == n_days else Action.ADVANCE if grows else Action.WAIT
        found = look(
            place + 1,
            action,
            as_of=day,
            mean=float(d[: place + 1].mean()),
            low=low if np.isfinite(low) else None,
            high=high if np.isfinite(high) else None,
            share=here.share,
            guardrails=(
                Guardrail(name="error_rate", value=0.0, bound=0.01, n=place * 40, min_n=200),
                Guardrail(name="latency_ratio", value=1.31, bound=3.0, n=place * 40, min_n=200),
                Guardrail(name="calibration", value=0.021, bound=0.1, n=place, min_n=200),
            ),
            words=f"not decided after {place + 1} days"
            if action is Action.WAIT
            else f"{action} after {place + 1} days",
            differences=tuple(zip(days[: place + 1], map(float, d[: place + 1]), strict=True)),
        )
        services.ledger.note_look(grant, experiment.id, found)
    services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    return services.ledger.looks(experiment.id)
