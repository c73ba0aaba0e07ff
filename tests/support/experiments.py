"""Experiments to feed a ledger: canaries of version 2 against version 1 of the strategy `growth`."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from mlops.domain.experiments.decision import Action, Mode
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import Experiment, ExperimentPlan, Look, Measure, NewExperiment
from mlops.domain.promotion.records import ModelIdentity, PromotionDecision
from mlops.ledger.ledger import SqlLedger
from tests.support.ledgers import decision_for

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
