"""A person's answer to a run that awaits approval: bound to what was seen, and stale when that is no more."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.domain.errors import InvalidTransition, RunNotFound
from mlops.domain.policies import PromotionPolicy
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.domain.training.fingerprint import evidence_digest
from mlops.runs.approval import Answer, StaleApproval, approval_request, refuse_joined
from mlops.stages.promote import promote
from tests.integration.retraining.test_promote_stage import champion, decided, registered, stages
from tests.support.ledgers import decision_for
from tests.support.registry import sha256_of
from tests.support.services import LAST, MODEL, FakeServices

REASON = "looked at the trades"


@pytest.fixture
def waiting(services: FakeServices) -> str:
    """A run of a version that would be promoted."""
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)
    grant, outcome = decided(services)
    assert outcome.run_state is RunState.AWAITING_APPROVAL
    return grant.run_id


def answered(
    services: FakeServices, run_id: str, answer: Answer = "approve", **asked: Any
) -> tuple[Grant, StageOutcome]:
    request = approval_request(
        services.ledger, services.registry, run_id, answer=answer, actor="anna", reason=REASON, **asked
    )
    accepted = services.ledger.accept(request)
    grant = services.claimed(accepted.run_id, Stage.PROMOTE)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    return grant, outcome


def test_an_approved_version_becomes_the_champion_with_actor_and_reason(services: FakeServices, waiting: str) -> None:
    grant, outcome = answered(services, waiting)
    assert (outcome.run_state, champion(services), stages(services)) == (RunState.SUCCEEDED, "1", {"1": "Production"})
    promotion = services.ledger.promotion_of(grant.run_id)
    assert promotion is not None
    assert (promotion.decision, promotion.actor) == ("promote", "anna")
    assert promotion.evidence_digest == evidence_digest(promotion.evidence)
    assert promotion.reasons[0] == f"approved by anna: {REASON}"
    proposal = services.ledger.promotion_of(waiting)
    assert proposal is not None
    assert promotion.evidence["approved_digest"] == proposal.evidence_digest
    # Of the training, although the run that proposed it was given none: nothing older replaces it later.
    assert services.ledger.champion("growth").as_of == LAST
    assert services.ledger.run(waiting).state is RunState.AWAITING_APPROVAL  # it ended; its answer is a run of its own


def test_a_rejected_version_is_archived_and_the_champion_stays(services: FakeServices, waiting: str) -> None:
    _, outcome = answered(services, waiting, "reject")
    assert (outcome.run_state, outcome.result["answered"]) == (RunState.REFUSED, "reject")
    assert outcome.result["reasons"] == [f"rejected by anna: {REASON}"]
    assert (champion(services), stages(services)) == (None, {"1": "Archived"})


@pytest.mark.parametrize("second", ["approve", "reject"])
@pytest.mark.parametrize("first", ["approve", "reject"])
def test_an_answer_is_given_once(services: FakeServices, waiting: str, first: Answer, second: Answer) -> None:
    answered(services, waiting, first)
    with pytest.raises(StaleApproval, match="was decided about again meanwhile"):
        answered(services, waiting, second)


def test_a_digest_that_is_another_is_refused(services: FakeServices, waiting: str) -> None:
    with pytest.raises(StaleApproval, match=f"acis explain {waiting}"):
        answered(services, waiting, digest="0" * 64)
    proposal = services.ledger.promotion_of(waiting)
    assert proposal is not None
    assert answered(services, waiting, digest=proposal.evidence_digest)[1].run_state is RunState.SUCCEEDED


def move_champion(services: FakeServices) -> None:
    seq = services.ledger.champion("growth").seq
    services.ledger.record_transition("growth", decision_for("7", expected_seq=seq, as_of=LAST))


def test_an_approval_after_the_champion_moved_is_refused(services: FakeServices, waiting: str) -> None:
    move_champion(services)
    with pytest.raises(StaleApproval, match="compared with champion none at seq 0; it is 7 at seq 1 now"):
        answered(services, waiting)
    assert answered(services, waiting, "reject")[1].result["answered"] == "reject"  # a no is never too late


def test_a_champion_that_moves_between_the_answer_and_its_stage_is_not_replaced(
    services: FakeServices, waiting: str
) -> None:
    request = approval_request(
        services.ledger, services.registry, waiting, answer="approve", actor="anna", reason=REASON
    )
    accepted = services.ledger.accept(request)
    move_champion(services)
    grant = services.claimed(accepted.run_id, Stage.PROMOTE)
    outcome = promote(grant, services, services.keeper(grant))
    services.ledger.finish(grant, outcome)
    assert (outcome.run_state, outcome.result["promoted"]) == (RunState.REFUSED, False)
    assert "it is 7 at seq 1 now" in outcome.result["reasons"][0]
    assert services.ledger.promotion_of(grant.run_id) is None  # nothing was decided about the version
    assert (champion(services), stages(services)) == ("7", {"1": "Staging"})


def test_a_champion_that_moves_while_the_approval_commits_is_not_replaced(
    services: FakeServices, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, left = services.ledger.decide, [1]

    def moved_first(*asked: Any) -> Any:
        if left[0]:
            left[0] -= 1
            move_champion(services)
        return decide(*asked)

    monkeypatch.setattr(services.ledger, "decide", moved_first)
    _, outcome = answered(services, waiting)
    assert outcome.run_state is RunState.REFUSED
    assert champion(services) == "7"


def test_what_was_compared_before_the_champion_moved_is_compared_again_and_not_put_up_for_approval(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)  # version 1 waits for an approval where there is no champion
    decide, asked = services.ledger.decide, []

    def moved_first(*given: Any) -> Any:
        asked.append(given[1].decision)
        if len(asked) == 1:
            services.ledger.record_transition("growth", decision_for("1", expected_seq=0, as_of=LAST))
        return decide(*given)

    monkeypatch.setattr(services.ledger, "decide", moved_first)
    _, outcome = decided(services)
    assert asked == ["await_approval", "keep"]  # it is the champion itself now
    assert outcome.run_state is RunState.REFUSED


def test_a_version_that_holds_another_model_now_is_refused(services: FakeServices, waiting: str) -> None:
    registry = services.fake_registry
    for item in registry.versions(MODEL):  # with its tag, as whoever swaps the file would
        registry.files[MODEL, item.version] = b"another model"
        registry.set_tags(MODEL, item.version, {"acis.model_sha256": sha256_of(b"another model")})
    with pytest.raises(StaleApproval, match="another model than the one that was judged"):
        answered(services, waiting)


def test_a_version_that_is_gone_is_refused(services: FakeServices, waiting: str) -> None:
    services.fake_registry._models.clear()
    with pytest.raises(StaleApproval, match="not in the registry any more"):
        answered(services, waiting)


def test_a_run_that_does_not_wait_is_not_answered(services: FakeServices) -> None:
    registered(services)
    grant, _ = decided(services)
    with pytest.raises(InvalidTransition, match="succeeded; only one that awaits approval is answered"):
        answered(services, grant.run_id)
    with pytest.raises(RunNotFound):
        answered(services, "nobody")


def test_an_answer_does_not_join_another_promotion(services: FakeServices, waiting: str) -> None:
    active = services.granted(Kind.PROMOTE, Stage.PROMOTE)
    request = approval_request(
        services.ledger, services.registry, waiting, answer="approve", actor="anna", reason=REASON
    )
    accepted = services.ledger.accept(request)
    assert (accepted.created, accepted.run_id) == (False, active.run_id)
    with pytest.raises(InvalidTransition, match=f"run {active.run_id} is deciding"):
        refuse_joined(accepted, request)
