from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.domain.policies import PromotionPolicy
from mlops.domain.promotion.gates import apply_gates
from mlops.domain.promotion.paired import PairedTest, Untestable, Verdict
from mlops.domain.promotion.policy import Decision, Incumbent, MissedGate, decide
from tests.support.models import SKILLED

POLICY = PromotionPolicy(min_accuracy=0.70)
#: The bars alone.
BARS = PromotionPolicy(min_accuracy=0.70, floor=None)
GOOD = {"accuracy": 0.742, "roc_auc": 0.821, "f1_score": 0.731, "log_loss": 0.5, **SKILLED}
BAD = GOOD | {"accuracy": 0.61}


def answer(verdict: Verdict) -> PairedTest:
    """A test that ended so."""
    better, worse = {"promote": (0.98, 0.0), "keep": (0.0, 0.98), "inconclusive": (0.6, 0.1)}[verdict]
    return PairedTest(
        metric="roc_auc", challenger=0.82, champion=0.8, difference=0.02, low=-0.01, high=0.05, n_dates=60,
        block_dates=20.0, automatic_block_dates=3.0, spread=1.22, resamples=2000, n_undefined=0, margin=0.01,
        better_in_blocks=better, better_by_date=better, probability_better=better, probability_worse=worse, looks=1,
        deflated_better=better, deflated_worse=worse, confidence=0.95, verdict=verdict,
    )  # fmt: skip


INCUMBENT = Incumbent(version="3", metrics=GOOD, challenger_metrics=GOOD, age_days=40, test=answer("inconclusive"))


def against(policy: PromotionPolicy = POLICY, **incumbent: object) -> Decision:
    return decide(policy, metrics=GOOD, incumbent=replace(INCUMBENT, **incumbent))


def test_a_version_that_clears_its_gates_is_promoted_where_there_is_no_champion() -> None:
    decision = decide(POLICY, metrics=GOOD, incumbent=None)
    assert decision.decision == "promote"
    assert decision.reasons[0] == "accuracy 0.7420 meets the required 0.7000"


def test_a_missed_gate_refuses_and_names_the_majority_beside() -> None:
    metrics = {"accuracy": 0.532, "majority_accuracy": 0.591, "holdout_majority_accuracy": 0.591}
    decision = decide(BARS, metrics=metrics, incumbent=None)
    assert decision.decision == "refuse"
    assert decision.reasons == ("accuracy 0.5320 is below the required 0.7000 (majority class alone: 0.5910)",)


def test_every_missed_gate_is_a_reason() -> None:
    policy = replace(BARS, min_roc_auc=0.6, min_lift_over_majority=0.05, min_f1=0.5)
    metrics = {"accuracy": 0.8, "roc_auc": 0.5, "lift_over_majority": 0.01, "f1_score": 0.6}
    decision = decide(policy, metrics=metrics, incumbent=None)
    assert decision.reasons == (
        "roc_auc 0.5000 is below the required 0.6000",
        "lift_over_majority 0.0100 is below the required 0.0500",
    )
    assert [gate.passed for gate in decision.gates] == [True, False, False, True]


def test_a_metric_that_a_gate_needs_and_is_missing_fails_it() -> None:
    (_, gate) = apply_gates(PromotionPolicy(min_roc_auc=0.6), {"accuracy": 0.8})
    assert not gate.passed
    assert gate.words == "roc_auc was not measured, and at least 0.6000 is required"


def test_nan_fails_a_gate() -> None:
    assert decide(POLICY, metrics={"accuracy": math.nan}, incumbent=None).decision == "refuse"


def test_a_value_at_the_bar_passes_and_one_just_below_does_not_read_like_it() -> None:
    assert apply_gates(POLICY, {"accuracy": 0.7})[0].passed
    assert apply_gates(POLICY, {"accuracy": 0.69999})[0].words.startswith(
        "accuracy 0.69999 is below the required 0.7000"
    )


def test_a_gate_that_is_none_is_not_applied() -> None:
    policy = PromotionPolicy(min_accuracy=None, gates={"sharpe_ratio": None}, floor=None)
    decision = decide(policy, metrics={}, incumbent=None)
    assert (decision.decision, decision.reasons) == ("promote", ("no gate is applied",))


def test_any_logged_metric_can_be_a_gate() -> None:
    policy = PromotionPolicy(min_accuracy=None, gates={"sharpe_ratio": 0.5, "my_metric": 0.1}, floor=None)
    decision = decide(policy, metrics={"sharpe_ratio": 0.6, "my_metric": 0.05}, incumbent=None)
    assert decision.reasons == ("my_metric 0.0500 is below the required 0.1000",)
    assert decide(policy, metrics={"sharpe_ratio": 0.6}, incumbent=None).reasons == (
        "my_metric was not measured, and at least 0.1000 is required",
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (0.19, "max_drawdown 0.1900 is within the allowed 0.2000"),
        (0.2, "max_drawdown 0.2000 is within the allowed 0.2000"),
        (0.20001, "max_drawdown 0.20001 is above the allowed 0.2000"),
        (None, "max_drawdown was not measured, and at most 0.2000 is required"),
    ],
)
def test_a_metric_that_is_better_when_lower_has_a_bar_from_above(found: float | None, words: str) -> None:
    policy = PromotionPolicy(min_accuracy=None, gates={"max_drawdown": 0.2})
    (gate,) = apply_gates(policy, {} if found is None else {"max_drawdown": found})
    assert (gate.words, gate.passed) == (words, "within" in words)


# --------------------------------------------------------------------------- the floor

#: 84 of 100 labels are positive: entropy -(.84 ln .84 + .16 ln .16) = .4397, variance .84 * .16 = .1344.
IMBALANCED = {"positive_share": 0.84, "accuracy": 0.85, "log_loss": 0.42, "brier": 0.13, "prediction_range": 0.5}


def floored(metrics: dict[str, float], **policy: object) -> Decision:
    return decide(replace(POLICY, **{"min_accuracy": 0.7, **policy}), metrics=metrics, incumbent=None)


def test_a_version_that_is_better_than_both_constants_and_varies_passes_the_floor() -> None:
    decision = floored(IMBALANCED)
    assert decision.decision == "promote"
    assert [gate.metric for gate in decision.gates[1:]] == ["accuracy_skill", "log_loss_skill", "prediction_range"]
    assert decision.gates[1].found == pytest.approx(1 - 0.15 / 0.16)
    assert decision.gates[2].found == pytest.approx(1 - 0.42 / 0.43967, abs=1e-4)


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        (
            {"accuracy": 0.84},
            "accuracy_skill .* is not above 0: it is no more accurate than always naming the majority",
        ),
        ({"log_loss": 0.44}, r"log_loss_skill -0.00\d+ \(log_loss 0.4400\) is not above 0: a constant probability"),
        ({"prediction_range": 0.0}, "prediction_range 0.0 is not above 0: it says the same of every row"),
    ],
)
def test_a_version_that_is_worth_no_more_than_a_constant_is_refused_by_default(
    worse: dict[str, float], reason: str
) -> None:
    decision = floored(IMBALANCED | worse)
    assert decision.decision == "refuse"
    assert len(decision.reasons) == 1
    assert re.search(reason, decision.reasons[0])


def test_the_floors_score_may_be_brier_or_none() -> None:
    overconfident = IMBALANCED | {"log_loss": 0.6}
    assert floored(overconfident).decision == "refuse"
    assert floored(overconfident, floor="brier").decision == "promote"
    assert floored(overconfident | {"brier": 0.1345}, floor="brier").decision == "refuse"
    assert floored(overconfident, floor=None).decision == "promote"


def test_a_version_that_was_not_measured_does_not_pass_the_floor() -> None:
    decision = floored({"accuracy": 0.9})
    assert decision.decision == "refuse"
    assert "accuracy_skill was not measured, and more than 0 is required" in decision.reasons


# --------------------------------------------------------------------------- against the champion


@pytest.mark.parametrize("verdict", ["promote", "keep", "inconclusive"])
def test_the_tests_verdict_is_the_decision_and_its_numbers_are_the_first_reason(verdict: Verdict) -> None:
    decision = against(test=answer(verdict))
    assert decision.decision == verdict
    assert "on 60 common dates" in decision.reasons[0]
    assert ("below the required 0.95" in decision.reasons[0]) == (verdict == "inconclusive")


def test_a_challenger_that_misses_a_gate_is_refused_however_much_better_it_is() -> None:
    decision = decide(POLICY, metrics=BAD, incumbent=replace(INCUMBENT, test=answer("promote")))
    assert decision.decision == "refuse"


def test_a_champion_that_cannot_be_tested_against_is_not_replaced() -> None:
    decision = against(test=Untestable(words="roc_auc is undefined on these 60 dates: all labels are equal"))
    assert decision.decision == "inconclusive"
    assert decision.reasons[0].endswith(
        "cannot be tested: roc_auc is undefined on these 60 dates: all labels are equal"
    )


def test_a_champion_that_cannot_be_scored_gives_way() -> None:
    decision = against(metrics=None, challenger_metrics=None, test=None, unusable="its file is gone")
    assert decision.decision == "promote"
    assert decision.reasons[0] == "champion 3 cannot be scored on these dates: its file is gone"


def test_a_champion_that_misses_its_own_gates_gives_way_to_a_challenger_that_clears_them() -> None:
    decision = against(metrics=BAD)
    assert decision.decision == "promote"
    assert decision.reasons[0] == (
        "champion 3 misses its own gates on these dates: accuracy 0.6100 is below the required 0.7000"
    )
    assert [gate.passed for gate in decision.champion_gates] == [False]


MISSED = MissedGate(metric="accuracy", p_value=0.0004, level=0.001, looks=3)


def test_a_gate_that_is_truly_missed_replaces_the_champion_where_the_challenger_is_not_worse() -> None:
    decision = against(metrics=BAD, missed=(MISSED,))
    assert decision.decision == "promote"
    assert (
        "(accuracy: p-value 0.0004, at most 0.001 is asked; missed in 3 decisions, 3 are asked)" in decision.reasons[0]
    )


@pytest.mark.parametrize(
    "missed", [replace(MISSED, p_value=0.002), replace(MISSED, looks=2), replace(MISSED, p_value=0.3, looks=1)]
)
def test_a_gate_that_is_missed_by_chance_or_for_the_first_time_replaces_nobody(missed: MissedGate) -> None:
    decision = against(metrics=BAD, missed=(missed,))
    assert decision.decision == "inconclusive"
    assert decision.reasons[1].startswith(
        "champion 3 misses a gate on these dates, which may be chance (accuracy: p-val"
    )


@pytest.mark.parametrize(
    "test",
    [
        answer("keep"),
        replace(answer("inconclusive"), difference=-0.001),
        Untestable(words="roc_auc is undefined"),
    ],
)
def test_a_missed_gate_replaces_nobody_by_a_challenger_that_may_be_worse(test: PairedTest | Untestable) -> None:
    assert against(metrics=BAD, missed=(MISSED,), test=test).decision != "promote"


def test_age_replaces_no_champion_that_was_shown_to_be_better() -> None:
    old = replace(POLICY, max_champion_age=40)
    assert against(old, age_days=41, missed=(), test=answer("keep")).decision == "keep"
    assert against(old, age_days=41, missed=(), test=answer("inconclusive")).decision == "promote"


def test_where_both_miss_a_gate_on_these_dates_the_test_decides() -> None:
    assert against(metrics=BAD, challenger_metrics=BAD).decision == "inconclusive"


def test_a_metric_that_these_dates_do_not_give_fails_no_champion() -> None:
    policy = PromotionPolicy(min_accuracy=None, gates={"sharpe_ratio": 0.5}, floor=None)
    incumbent = replace(INCUMBENT, metrics={}, challenger_metrics={})
    assert decide(policy, metrics={"sharpe_ratio": 0.6}, incumbent=incumbent).decision == "inconclusive"


@pytest.mark.parametrize(("age", "decision"), [(40, "inconclusive"), (41, "promote"), (None, "inconclusive")])
def test_a_champion_older_than_the_policy_allows_gives_way(age: int | None, decision: str) -> None:
    found = against(replace(POLICY, max_champion_age=40), age_days=age)
    assert found.decision == decision
    assert (found.reasons[0] == "champion 3 is 41 days old, and the policy allows 40") == (decision == "promote")


def test_by_gates_alone_a_challenger_that_clears_them_is_promoted_whatever_the_champion_is() -> None:
    decision = against(replace(POLICY, comparison="gates"), test=None, metrics=None, challenger_metrics=None)
    assert decision.decision == "promote"
    assert decision.reasons[0] == "the policy compares by gates alone, not with champion 3"


def test_manual_approval_waits_where_it_would_have_promoted_and_only_there() -> None:
    policy = PromotionPolicy(approval="manual")
    assert decide(policy, metrics=GOOD, incumbent=None).decision == "await_approval"
    assert decide(policy, metrics={"accuracy": 0.1}, incumbent=None).decision == "refuse"
    assert against(policy).decision == "inconclusive"


_SHARE = st.floats(0, 1)
_METRICS = st.fixed_dictionaries({"accuracy": _SHARE, "roc_auc": _SHARE, "f1_score": _SHARE})
_RANK = {"refuse": 0, "keep": 1, "inconclusive": 2, "promote": 3}


@given(
    metrics=_METRICS,
    champion=_METRICS,
    gain=st.fixed_dictionaries(dict.fromkeys(("accuracy", "roc_auc", "f1_score"), _SHARE)),
    verdicts=st.tuples(*[st.sampled_from(["keep", "inconclusive", "promote"])] * 2),
    bar=_SHARE,
)
def test_a_better_challenger_never_turns_promote_into_keep(
    metrics: dict[str, float],
    champion: dict[str, float],
    gain: dict[str, float],
    verdicts: tuple[Verdict, Verdict],
    bar: float,
) -> None:
    policy = PromotionPolicy(min_accuracy=bar, min_roc_auc=bar / 2, floor=None)
    improved = {name: value + gain[name] * (1 - value) for name, value in metrics.items()}
    worse, better = sorted(verdicts, key=lambda verdict: _RANK[verdict])

    def rank(found: dict[str, float], verdict: Verdict) -> int:
        incumbent = Incumbent(version="3", metrics=champion, challenger_metrics=found, test=answer(verdict))
        return _RANK[decide(policy, metrics=found, incumbent=incumbent).decision]

    assert rank(improved, better) >= rank(metrics, worse)
