from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlops.promotion.gates import apply_gates
from mlops.promotion.paired import Comparison, compare_on
from mlops.promotion.policy import decide
from mlops.strategies import PromotionPolicy

POLICY = PromotionPolicy(min_accuracy=0.70)
GOOD = {"accuracy": 0.742, "roc_auc": 0.821, "f1_score": 0.731, "log_loss": 0.5}


def against(
    champion: dict[str, float], challenger: dict[str, float] = GOOD, policy: PromotionPolicy = POLICY
) -> Comparison:
    return compare_on(policy, challenger=challenger, champion=champion, champion_version="3")


def test_a_version_that_clears_its_gates_is_promoted_where_there_is_no_champion() -> None:
    decision = decide(POLICY, metrics=GOOD, comparison=None)
    assert decision.decision == "promote"
    assert decision.reasons == ("accuracy 0.7420 meets the required 0.7000",)


def test_a_missed_gate_refuses_and_names_the_majority_beside() -> None:
    metrics = {"accuracy": 0.532, "majority_accuracy": 0.591, "holdout_majority_accuracy": 0.591}
    decision = decide(POLICY, metrics=metrics, comparison=None)
    assert decision.decision == "refuse"
    assert decision.reasons == ("accuracy 0.5320 is below the required 0.7000 (majority class alone: 0.5910)",)


def test_every_missed_gate_is_a_reason() -> None:
    policy = PromotionPolicy(min_accuracy=0.7, min_roc_auc=0.6, min_lift_over_majority=0.05, min_f1=0.5)
    metrics = {"accuracy": 0.8, "roc_auc": 0.5, "lift_over_majority": 0.01, "f1_score": 0.6}
    decision = decide(policy, metrics=metrics, comparison=None)
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
    assert decide(POLICY, metrics={"accuracy": math.nan}, comparison=None).decision == "refuse"


def test_a_value_at_the_bar_passes_and_one_just_below_does_not_read_like_it() -> None:
    assert apply_gates(POLICY, {"accuracy": 0.7})[0].passed
    assert apply_gates(POLICY, {"accuracy": 0.69999})[0].words.startswith(
        "accuracy 0.69999 is below the required 0.7000"
    )


def test_a_gate_that_is_none_is_not_applied() -> None:
    policy = PromotionPolicy(min_accuracy=None)
    assert decide(policy, metrics={}, comparison=None).decision == "promote"
    assert decide(policy, metrics={}, comparison=None).reasons == ("no gate is applied",)


def test_a_better_champion_is_kept() -> None:
    decision = decide(POLICY, metrics=GOOD, comparison=against(GOOD | {"roc_auc": 0.83}))
    assert decision.decision == "keep"
    assert decision.reasons == ("roc_auc 0.8210 is worse than the 0.8300 of champion 3 on the same dates",)


def test_an_equal_champion_is_replaced() -> None:
    assert decide(POLICY, metrics=GOOD, comparison=against(GOOD)).decision == "promote"


def test_a_champion_that_cannot_be_scored_is_replaced_by_a_challenger_that_clears_its_gates() -> None:
    assert decide(POLICY, metrics=GOOD, comparison=None).decision == "promote"


def test_log_loss_is_better_when_lower() -> None:
    policy = PromotionPolicy(main_metric="log_loss")
    assert against(GOOD | {"log_loss": 0.6}, policy=policy).not_worse
    assert not against(GOOD | {"log_loss": 0.4}, policy=policy).not_worse


def test_a_main_metric_that_is_undefined_on_these_dates_gives_way_to_accuracy_and_says_so() -> None:
    found = against({"accuracy": 0.6}, challenger={"accuracy": 0.7, "roc_auc": 0.9})
    assert (found.metric, found.not_worse) == ("accuracy", True)
    assert "roc_auc is undefined on these dates" in found.words


def test_a_challenger_that_measures_nan_is_not_better() -> None:
    assert not against(GOOD, challenger=GOOD | {"roc_auc": math.nan}).not_worse


def test_manual_approval_waits_where_it_would_have_promoted_and_only_there() -> None:
    policy = PromotionPolicy(approval="manual")
    assert decide(policy, metrics=GOOD, comparison=None).decision == "await_approval"
    assert decide(policy, metrics={"accuracy": 0.1}, comparison=None).decision == "refuse"


_SHARE = st.floats(0, 1)
_METRICS = st.fixed_dictionaries(
    {"accuracy": _SHARE, "roc_auc": _SHARE, "f1_score": _SHARE, "log_loss": st.floats(0, 5)}
)
_RANK = {"refuse": 0, "keep": 1, "promote": 2}


@given(
    challenger=_METRICS,
    champion=_METRICS,
    better=st.fixed_dictionaries(dict.fromkeys(("accuracy", "roc_auc", "f1_score", "log_loss"), _SHARE)),
    main=st.sampled_from(["accuracy", "roc_auc", "f1_score", "log_loss"]),
    bar=_SHARE,
)
def test_a_better_challenger_never_turns_promote_into_keep(
    challenger: dict[str, float], champion: dict[str, float], better: dict[str, float], main: str, bar: float
) -> None:
    policy = PromotionPolicy(min_accuracy=bar, min_roc_auc=bar / 2, main_metric=main)  # type: ignore[arg-type]
    improved = {
        name: value - better[name] * value if name == "log_loss" else value + better[name] * (1 - value)
        for name, value in challenger.items()
    }

    def rank(metrics: dict[str, float]) -> int:
        return _RANK[decide(policy, metrics=metrics, comparison=against(champion, metrics, policy)).decision]

    assert rank(improved) >= rank(challenger)
