"""Experiments in a ledger with looks at made-up differences, for tests of what is said and shown of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np

from mlops.domain.experiments.decision import Action, Guardrail, Mode
from mlops.domain.experiments.policy import GuardrailPolicy
from mlops.domain.experiments.records import Experiment, ExperimentPlan, Look, Measure, NewExperiment
from mlops.domain.experiments.sequence import confidence_sequence, mixture_variance
from mlops.domain.promotion.records import ModelIdentity
from mlops.domain.records import LIVE, Kind, RunState, Stage, StageOutcome
from tests.support.live_scores import trading_days
from tests.support.services import FakeServices

STARTED = date(2026, 3, 2)
SPREAD = 0.004
"""Standard deviation of a day's difference of two marks"""


def plan(**changes: Any) -> ExperimentPlan:
    """A canary that is planned to find a Sharpe ratio of 7."""
    r = mixture_variance(spread=SPREAD, days=70, alpha=0.05)
    said = {"sharpe": 7.0, "low": 31.0, "median": 72.0, "high": 148.0, "decided": 1.0, "words": "about 72 trading days"}
    made = ExperimentPlan(
        mode=Mode.CANARY, steps=(0.01, 0.05, 0.25, 1.0), measure=Measure.MARK, alpha=0.05, sharpe=7.0, r=r,
        deadline_days=252, min_days_on_step=5, horizon_dates=20, guardrails=GuardrailPolicy(), salt="growth-7-1",
        expected=said,
    )  # fmt: skip
    return replace(made, **changes)


def begun(services: FakeServices, challenger: str = "7", strategy: str = "growth", **changes: Any) -> Experiment:
    """One that was started against the champion of the ledger. changes : of the plan"""
    champion = services.ledger.champion(strategy)
    assert champion.version is not None
    return services.ledger.start_experiment(
        NewExperiment(
            namespace=LIVE,
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
    d = np.random.default_rng(7).normal(gain, SPREAD, n_days)
    days, bounds = trading_days(STARTED, n_days + 1)[1:], confidence_sequence(d, r=experiment.plan.r, alpha=0.05)
    grant = services.granted(Kind.SCORE, Stage.SCORE, experiment.strategy)
    for place, day in enumerate(days):
        here = services.ledger.experiment(experiment.id)
        low, high = float(bounds.low[place]), float(bounds.high[place])
        grows = place % 10 == 9 and here.step + 1 < len(here.plan.steps)
        action = end if end and place + 1 == n_days else Action.ADVANCE if grows else Action.WAIT
        look = Look(
            as_of=day,
            n_days=place + 1,
            mean=float(d[: place + 1].mean()),
            low=low if np.isfinite(low) else None,
            high=high if np.isfinite(high) else None,
            share=here.share,
            guardrails=(
                Guardrail(name="error_rate", value=0.0, bound=0.01, n=place * 40, min_n=200),
                Guardrail(name="latency_ratio", value=1.31, bound=3.0, n=place * 40, min_n=200),
                Guardrail(name="calibration", value=0.021, bound=0.1, n=place, min_n=200),
            ),
            action=action,
            words=f"not decided after {place + 1} days"
            if action is Action.WAIT
            else f"{action} after {place + 1} days",
            differences=tuple(zip(days[: place + 1], map(float, d[: place + 1]), strict=True)),
        )
        services.ledger.note_look(grant, experiment.id, look)
    services.ledger.finish(grant, StageOutcome(result={}, run_state=RunState.SUCCEEDED))
    return services.ledger.looks(experiment.id)
