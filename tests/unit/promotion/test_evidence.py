"""A decision can be made again from its evidence alone, and a change of the evidence is noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lab.decision_simulation import planted_pair
from mlops.domain.policies import PromotionPolicy
from mlops.domain.promotion.date_parts import date_parts
from mlops.domain.promotion.evidence import (
    CommonDates,
    Facts,
    concluded,
    decoded_array,
    encoded_array,
    evidence_of,
    replay,
)
from mlops.domain.training.fingerprint import canonical_json, evidence_digest


def earlier(version: str, **changes: Any) -> dict[str, Any]:
    """A decision about another challenger of the same champion."""
    return {
        "version": version,
        "decision": "inconclusive",
        "model_sha256": version * 64,
        "rows": f"rows of {version}",
        "predictions": f"of {version}",
        "level": 0.006,
        "metric": "roc_auc",
        "margin": 0.01,
        "missed": [],
        **changes,
    }


def facts(metric: str = "roc_auc", **changes: Any) -> Facts:
    challenger, champion = planted_pair(np.random.default_rng(1), challenger_auc=0.75, champion_auc=0.55)
    common = CommonDates(
        first="2020-01-01",
        last="2020-02-29",
        n_dates=60,
        n_rows=1200,
        data_fingerprint="ab",
        champion_data_fingerprint="ab",
        is_enough=True,
        challenger={"accuracy": 0.61, "roc_auc": 0.65},
        champion={"accuracy": 0.60, "roc_auc": 0.55},
        parts_challenger=date_parts(metric, challenger),
        parts_champion=date_parts(metric, champion),
    )
    given_: dict[str, Any] = {
        "kind": "promote",
        "as_of": "2020-03-01",
        "version": "4",
        "metrics": {"accuracy": 0.62, "roc_auc": 0.64, "n_holdout": 1200.0, "broken": float("nan")},
        "model_sha256": "0" * 64,
        "data_fingerprint": "cd" * 32,
        "holdout": ("2020-01-01", "2020-02-29"),
        "champion": {"version": "3", "seq": 5, "age_days": 7, "unusable": None},
        "policy": PromotionPolicy(min_accuracy=0.6, main_metric=metric, floor=None),  # type: ignore[arg-type]
        "horizon_dates": 20,
        "seed": 42,
        "tuning_trials": 0,
        "earlier_challengers": (),
        "code": {"version": "0.1.0", "commit": None, "sha256": "ef" * 32},
        "common": common,
    }
    return Facts(**{**given_, **changes})


@pytest.mark.parametrize("metric", ["roc_auc", "accuracy", "log_loss", "f1_score", "sharpe"])
def test_a_decision_is_made_again_byte_for_byte(metric: str) -> None:
    evidence = evidence_of(facts(metric))
    stored = json.loads(json.dumps(evidence))
    again = replay(stored, evidence_digest(evidence))
    assert again is not None
    assert again.agrees
    assert canonical_json(concluded(stored)) == canonical_json(evidence)


def test_the_evidence_holds_the_decision_with_its_numbers() -> None:
    evidence = evidence_of(facts())
    assert (evidence["decision"], evidence["test"]["verdict"]) == ("promote", "promote")
    assert evidence["test"]["looks"] == 1
    assert "broken" not in evidence["metrics"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 43},
        {"model_sha256": "1" * 64},
        {"data_fingerprint": "00" * 32},
        {"code": {"version": "0.2.0", "commit": None, "sha256": "ef" * 32}},
        {"policy": PromotionPolicy(min_accuracy=0.6, margin=0.02, floor=None)},
        {"earlier_challengers": (earlier("2"),)},
        {"error_spent": 0.01},
    ],
)
def test_the_digest_is_tied_to_model_data_policy_code_and_seed(change: dict[str, Any]) -> None:
    assert evidence_digest(evidence_of(facts(**change))) != evidence_digest(evidence_of(facts()))


def test_a_probability_that_was_changed_afterwards_is_noticed() -> None:
    evidence = evidence_of(facts())
    digest = evidence_digest(evidence)
    evidence["test"]["probability_better"] = 0.5
    again = replay(evidence, digest)
    assert again is not None
    assert not again.agrees
    assert "the evidence was changed" in again.words


def test_a_conclusion_that_does_not_follow_is_noticed_even_with_a_fitting_digest() -> None:
    evidence = evidence_of(facts())
    evidence["decision"] = "keep"
    again = replay(evidence, evidence_digest(evidence))
    assert again is not None
    assert not again.agrees
    assert "it differs" in again.words


def test_evidence_of_earlier_versions_is_not_replayed() -> None:
    assert replay({"kind": "promote", "comparison": None}, "ab") is None


def test_trials_and_earlier_challengers_are_looks() -> None:
    unbudgeted = PromotionPolicy(min_accuracy=0.6, floor=None, yearly_error=None)
    evidence = evidence_of(facts(tuning_trials=20, earlier_challengers=(earlier("1"), earlier("2")), policy=unbudgeted))
    assert evidence["test"]["looks"] == 22
    assert evidence["test"]["deflated_better"] == pytest.approx(evidence["test"]["probability_better"] ** 22)


def test_a_policy_field_that_a_later_version_took_out_is_passed_over() -> None:
    evidence = evidence_of(facts())
    evidence["policy"]["abolished"] = 1
    assert concluded(evidence)["decision"] == "promote"


def test_an_untestable_metric_is_inconclusive_with_the_reason() -> None:
    common = facts().common
    assert common is not None
    without = replace(
        common, parts_challenger=None, parts_champion=None, why_no_parts="sharpe is undefined: no returns"
    )
    evidence = evidence_of(facts(common=without))
    assert (evidence["decision"], evidence["untestable"]) == ("inconclusive", "sharpe is undefined: no returns")


# --------------------------------------------------------------------------- which look it is


def test_a_model_that_was_looked_at_before_is_no_further_look_and_pays_no_second_time() -> None:
    same = earlier("2", model_sha256="0" * 64, rows="ab", level=0.004)
    evidence = evidence_of(facts(earlier_challengers=(same, earlier("3")), error_spent=0.02))
    assert (evidence["looks"], evidence["test"]["looks"]) == (["3"], 1)  # the third paid from the budget
    assert (evidence["error"]["level"], evidence["error"]["spends"], evidence["error"]["paid_by"]) == (0.004, 0.0, "2")


def test_two_challengers_of_the_same_bytes_are_one_look_and_so_are_two_of_the_same_predictions() -> None:
    twins = (earlier("2"), earlier("3", model_sha256="2" * 64), earlier("4", rows="rows of 2", predictions="of 2"))
    assert evidence_of(facts(earlier_challengers=twins))["looks"] == ["2"]


def test_the_looks_are_named_among_the_reasons() -> None:
    evidence = evidence_of(facts(earlier_challengers=(earlier("2"), earlier("3"))))
    assert (
        "looks that were counted: this training, and earlier challengers of this champion: versions 2, 3, each paid from "
        "the year's error" in evidence["reasons"]
    )


# --------------------------------------------------------------------------- the year's error


def test_each_decision_may_spend_a_sixteenth_of_what_the_year_has_left() -> None:
    error = evidence_of(facts(error_spent=0.02))["error"]
    assert error["level"] == error["spends"] == pytest.approx((0.10 - 0.02) / 16)
    assert error["test"] == pytest.approx(0.8 * error["level"])  # min_accuracy is a gate that can be tested
    assert evidence_of(facts(error_spent=0.2))["error"]["level"] == 0.0


def test_a_better_challenger_waits_where_the_year_has_nothing_left() -> None:
    assert evidence_of(facts())["decision"] == "promote"
    evidence = evidence_of(facts(error_spent=0.1))
    assert evidence["decision"] == "inconclusive"
    assert "above the 0 that this decision may spend of the year's error" in evidence["reasons"][0]


def test_without_a_budget_the_probability_alone_is_asked() -> None:
    policy = PromotionPolicy(min_accuracy=0.6, floor=None, yearly_error=None)
    evidence = evidence_of(facts(policy=policy, error_spent=0.1))
    assert (evidence["decision"], evidence["error"], evidence["test"]["level"]) == ("promote", None, None)


def test_a_decision_of_the_layout_before_is_made_again_as_it_was() -> None:
    evidence = evidence_of(facts(policy=PromotionPolicy(min_accuracy=0.6)))
    old = {name: value for name, value in evidence.items() if name not in ("error_spent", "error", "looks")}
    for name in ("floor", "yearly_error"):
        del old["policy"][name]
    del old["missed_gates"]
    for name in ("predictions_challenger", "predictions_champion", "gate_parts"):
        del old["common"][name]
    old |= {"evidence": 2, "earlier_challengers": ["1", "2"]}
    again = concluded(old)
    assert again["decision"] == "promote"  # floor and budget were not asked
    assert set(again) == set(old)
    assert again["test"]["looks"] == 3
    assert {"p_value", "level"}.isdisjoint(again["test"])
    replayed = replay(again, evidence_digest(again))
    assert replayed is not None
    assert replayed.agrees


def test_evidence_from_before_the_p_values_saw_the_overlap_is_made_again_as_it_was() -> None:
    now = evidence_of(facts())
    old = concluded(now | {"evidence": 3})
    assert old["test"]["p_value"] < now["test"]["p_value"]
    assert {name: value for name, value in old["test"].items() if name != "p_value"} == {
        name: value for name, value in now["test"].items() if name != "p_value"
    }
    for one in (old, now):
        replayed = replay(one, evidence_digest(one))
        assert replayed is not None
        assert replayed.agrees


@given(arrays.arrays(np.float64, arrays.array_shapes(max_dims=2), elements=st.floats(allow_nan=False)))
def test_an_array_goes_through_json_to_the_last_bit(array: np.ndarray) -> None:
    again = decoded_array(json.loads(json.dumps(encoded_array(array))))
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()


def test_sixty_dates_of_two_models_fit_into_40_kilobytes() -> None:
    assert len(canonical_json(evidence_of(facts()))) < 40_000


@pytest.mark.parametrize("text", [{}, {"content": "!", "shape": [1]}, {"content": "", "shape": [2]}])
def test_a_torn_array_is_refused(text: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"array|base64|Only"):
        decoded_array(text)
