"""A program starts trainings, and answers runs that await approval."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.errors import InvalidTransition
from mlops.ledger.records import Kind, Stage
from mlops.retraining.approval import StaleApproval
from mlops.retraining.promote_stage import promote
from mlops.strategies import PromotionPolicy
from tasks import dispatch
from tests.support.services import FakeServices
from tests.unit.retraining.test_promote_stage import decided, registered


@pytest.fixture
def waiting(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    services.with_policy(promotion=PromotionPolicy(min_accuracy=0.6, approval="manual"))
    registered(services)
    grant, _ = decided(services)
    return grant.run_id


def test_an_approval_by_program_rings_the_bell_of_its_own_run(services: FakeServices, waiting: str) -> None:
    proposal = services.ledger.promotion_of(waiting)
    assert proposal is not None
    accepted = dispatch.approve(waiting, proposal.evidence_digest, actor="backend", reason="signed off")
    assert accepted.created
    (bell,) = services.sent
    assert (bell.run_id, bell.stage) == (accepted.run_id, Stage.PROMOTE)
    grant = services.claimed(accepted.run_id, Stage.PROMOTE)
    services.ledger.finish(grant, promote(grant, services, services.keeper(grant)))
    assert services.ledger.champion("growth").version == "1"
    assert dispatch.run_status(accepted.run_id).requested_by == "backend"


def test_a_stale_one_opens_no_run(services: FakeServices, waiting: str) -> None:
    with pytest.raises(StaleApproval):
        dispatch.approve(waiting, "0" * 64, actor="backend", reason="signed off")
    assert (services.sent, len(services.ledger.runs())) == ([], 1)


def test_an_answer_while_another_promotion_is_active_opens_no_run(services: FakeServices, waiting: str) -> None:
    services.granted(Kind.PROMOTE, Stage.PROMOTE)
    with pytest.raises(InvalidTransition, match="is deciding about 'growth' now"):
        dispatch.approve(waiting, actor="backend", reason="signed off")
    assert services.sent == []


@pytest.mark.parametrize("asked", [{"tune": 30}, {"incremental": True}])
def test_a_program_asks_for_a_tuned_or_an_incremental_training(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    accepted = dispatch.start_retrain("growth", reason="nightly", **asked)
    assert services.claimed(accepted.run_id, Stage.TRAIN).params == asked
