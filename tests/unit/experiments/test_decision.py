"""What an experiment does on a day."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mlops.domain.experiments.decision import ENDS, Action, Evidence, Guardrail, Mode, Stand, decide

CANARY = Stand(
    mode=Mode.CANARY, steps=(0.01, 0.05, 0.25, 1.0), step=0, days_on_step=5, min_days_on_step=5, days_left=200
)
FINE = Guardrail(name="error rate", value=0.001, bound=0.01, n=500, min_n=100)
OPEN = Evidence(n_days=5, low=-math.inf, high=math.inf, guardrails=(FINE,))


def test_a_canary_goes_from_step_to_step_and_waits_on_the_last() -> None:
    for step in range(3):
        assert decide(replace(CANARY, step=step), OPEN).action is Action.ADVANCE
    assert decide(CANARY, OPEN).words == "from 1% to 5%: no guardrail is broken"
    assert decide(replace(CANARY, step=3), OPEN).action is Action.WAIT


@pytest.mark.parametrize(
    ("stand", "evidence", "words"),
    [
        (replace(CANARY, days_on_step=3), OPEN, "1% for 2 more days"),
        (replace(CANARY, held=True), OPEN, "held at 1% by a person"),
        (
            CANARY,
            replace(OPEN, mean=-0.0003),
            "1% while the challenger's gain so far is below 0: -0.0003 a day after 5 days",
        ),
        (
            CANARY,
            replace(OPEN, guardrails=(replace(FINE, n=20),)),
            "1% until its guardrails are known: error rate (20 of 100 answers)",
        ),
        (
            CANARY,
            replace(OPEN, guardrails=(replace(FINE, value=0.02, is_clear=False),)),
            "1% until its guardrails are known: error rate (0.02 of 0.01)",
        ),
    ],
)
def test_a_canary_waits_on_its_step(stand: Stand, evidence: Evidence, words: str) -> None:
    decision = decide(stand, evidence)
    assert (decision.action, decision.words) == (Action.WAIT, words)


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.AB])
def test_other_modes_never_advance(mode: Mode) -> None:
    assert decide(replace(CANARY, mode=mode, steps=(0.5,)), OPEN).action is Action.WAIT


@pytest.mark.parametrize(
    ("evidence", "days_left", "action"),
    [
        (replace(OPEN, low=0.001, high=0.004), 200, Action.PROMOTE),
        (replace(OPEN, low=-0.004, high=-0.001), 200, Action.KEEP),
        (replace(OPEN, low=-0.004, high=0.001), 0, Action.UNDECIDED),
        (replace(OPEN, low=0.001, high=0.004), 0, Action.PROMOTE),
        (replace(OPEN, low=0.001, guardrails=(replace(FINE, value=0.02),)), 200, Action.ABORT),
        (replace(OPEN, low=0.001, champion_changed="version 7 was rolled back to 6"), 200, Action.ABORT),
    ],
)
def test_an_experiment_ends_by_the_first_rule_that_applies(evidence: Evidence, days_left: int, action: Action) -> None:
    decision = decide(replace(CANARY, days_left=days_left), evidence)
    assert decision.action is action
    assert action in ENDS


def test_nothing_that_a_person_holds_is_promoted_until_it_is_released() -> None:
    better = replace(OPEN, n_days=60, low=0.001, high=0.004)
    for days_left in (200, 0):
        held = decide(replace(CANARY, held=True, days_left=days_left), better)
        assert held.action is Action.WAIT
        assert (
            held.words == "held by a person: the challenger is better: its gain is 0.001 to 0.004 a day after 60 days"
        )
    assert decide(replace(CANARY, held=True), replace(OPEN, low=-0.004, high=-0.001)).action is Action.KEEP


def test_a_guardrail_of_few_answers_breaks_nothing() -> None:
    assert decide(CANARY, replace(OPEN, guardrails=(replace(FINE, value=0.5, n=3),))).action is Action.WAIT


def test_the_reason_says_the_numbers() -> None:
    broken = replace(OPEN, guardrails=(FINE, replace(FINE, name="share of missing features", value=0.3, bound=0.1)))
    assert decide(CANARY, broken).words == ("ended by a guardrail: share of missing features is 0.3, and may be 0.1")
    better = replace(OPEN, n_days=60, low=0.0004, high=0.0031)
    assert decide(CANARY, better).words == (
        "the challenger is better: its gain is 0.0004 to 0.0031 a day after 60 days"
    )
