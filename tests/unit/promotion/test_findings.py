"""A version with findings that nobody accepted is not promoted."""

from __future__ import annotations

import pytest

from mlops.domain.promotion.findings import MAX_FINDINGS, Finding, code_fault, held_back, read, written
from mlops.domain.promotion.policy import Decision

LEAK = Finding(code="single_feature_predicts_label:vol_20", words="vol_20 alone predicts the label")
GAP = Finding(code="random_split_gap", words="a random split shows 0.82")


def decision(name: str = "promote") -> Decision:
    return Decision(decision=name, reasons=("roc_auc meets the required",), gates=())  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", ["promote", "await_approval"])
def test_an_open_finding_refuses_what_would_be_promoted_and_says_how_to_accept_it(wanted: str) -> None:
    found = held_back(decision(wanted), (LEAK, GAP), accepted=("random_split_gap",))
    assert found.decision == "refuse"
    assert found.reasons == (
        "findings that nobody accepted: vol_20 alone predicts the label",
        'accept by promotion.accepted_findings = ["single_feature_predicts_label:vol_20"]',
        "roc_auc meets the required",
    )


def test_accepted_findings_hold_nothing_back() -> None:
    assert held_back(decision(), (LEAK, GAP), accepted=(LEAK.code, GAP.code)) == decision()
    assert held_back(decision(), (), accepted=()) == decision()


def test_acceptance_of_one_feature_is_not_that_of_another() -> None:
    found = held_back(decision(), (LEAK,), accepted=("single_feature_predicts_label:vol_60",))
    assert found.decision == "refuse"


def test_a_refusal_names_the_findings_after_its_own_reasons() -> None:
    found = held_back(decision("refuse"), (LEAK,), accepted=())
    assert found.reasons[0] == "roc_auc meets the required"
    assert found.reasons[1].startswith("findings that nobody accepted: ")


@pytest.mark.parametrize("stays", ["keep", "inconclusive"])
def test_a_champion_that_stays_needs_no_findings(stays: str) -> None:
    assert held_back(decision(stays), (LEAK,), accepted=()) == decision(stays)


def test_findings_come_back_from_a_tag() -> None:
    assert read({"findings": written((LEAK, GAP))}) == (LEAK, GAP)
    assert read({"findings": written(())}) == ()
    assert read({}) == ()


@pytest.mark.parametrize("text", ["", "[{", "3", '{"code": "x"}', "[3]", '[{"code": "x"}]'])
def test_a_tag_that_cannot_be_read_is_a_finding_and_never_none(text: str) -> None:
    (found,) = read({"findings": text})
    assert found.code == "unreadable_findings"
    assert held_back(decision(), (found,), accepted=()).decision == "refuse"


def test_more_findings_than_a_tag_holds_are_counted_in_one_that_blocks_too() -> None:
    many = [Finding(code=f"target_like_column:next_{place}", words="w" * 300) for place in range(100)]
    text = written(many)
    assert len(text) < 8000  # MLflow cuts a run's tag there
    found = read({"findings": text})
    assert len(found) == MAX_FINDINGS + 1
    assert (found[-1].code, found[-1].words) == ("more_findings", "76 more findings are not listed")
    accepted = [one.code for one in many]
    assert held_back(decision(), found, accepted=accepted).decision == "refuse"


@pytest.mark.parametrize(
    "code", ["random_split_gap", "too_good:accuracy", "too_good:roc_auc", LEAK.code, "target_like_column:next_x"]
)
def test_every_code_can_be_accepted(code: str) -> None:
    assert code_fault(code) == ""


@pytest.mark.parametrize("code", ["", "everything", "too_good", "too_good:f1", "single_feature_predicts_label:", "gap"])
def test_what_is_no_code_is_refused(code: str) -> None:
    assert "is no finding; write one of random_split_gap" in code_fault(code)
