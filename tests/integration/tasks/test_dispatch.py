"""A program starts trainings, and answers runs that await approval."""

from __future__ import annotations

from typing import Any

import pytest

from mlops.domain.errors import ConfigurationError, InvalidTransition
from mlops.domain.policies import PromotionPolicy
from mlops.domain.records import Kind, RunState, Stage
from mlops.reporting.narrative import stage_lines
from mlops.runs.approval import StaleApproval
from mlops.stages.promote import promote
from mlops.strategies.file import Strategies
from tasks import dispatch
from tests.integration.retraining.test_promote_stage import decided, registered
from tests.support.services import FakeServices, small_strategy


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


def test_many_are_started_at_once_and_one_that_cannot_be_stops_no_other(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    services.ledger.edit_policy("growth", "drift.gone", 1, actor="anna", reason="of an earlier version")
    vars(services)["strategies"] = Strategies({name: small_strategy(name) for name in ("growth", "value")})
    started = dispatch.start_many(["growth", "value", "none"], Kind.RETRAIN, reason="r", requested_by="anna")
    assert ["drift.gone" in started[0].error, started[1].error, "not known" in started[2].error] == [True, "", True]
    assert [bell.strategy for bell in services.sent] == ["value"]


def test_a_batch_id_that_cannot_be_kept_is_refused_before_anything_starts(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    with pytest.raises(ConfigurationError, match="cannot be kept; give 1 to 32"):
        dispatch.start_many(["growth"], Kind.RETRAIN, reason="r", requested_by="anna", batch_id="x" * 33)
    assert services.ledger.runs() == []


def test_an_ended_run_is_asked_again_with_what_it_was_asked_with(
    services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    first = dispatch.start_retrain("growth", reason="nightly", tune=7, min_accuracy=0.5)
    with pytest.raises(InvalidTransition, match="when it has ended"):
        dispatch.ask_again(first.run_id, requested_by="anna")
    dispatch.cancel(first.run_id, actor="anna")
    again = services.claimed(dispatch.ask_again(first.run_id, requested_by="anna").run_id, Stage.TRAIN)
    assert again.params == {"tune": 7, "min_accuracy": 0.5}
    assert (again.kind, again.requested_by) == (Kind.RETRAIN, "anna")


def test_a_comparison_is_a_run_that_decides_nothing(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    registered(services, skill=False)
    registered(services)
    accepted = dispatch.start_comparison("growth", "1", "2")
    grant = services.claimed(accepted.run_id, Stage.PROMOTE)
    finished = services.ledger.finish(grant, promote(grant, services, services.keeper(grant)))
    assert finished.run_state == RunState.SUCCEEDED
    view = services.ledger.run(accepted.run_id)
    result = view.stages[0].result or {}
    assert (result["first"]["version"], result["second"]["version"]) == ("1", "2")
    assert result["test"]["verdict"] == "promote"
    assert result["second"]["metrics"] == dict(services.registry.version("acis_growth_classifier", "2").metrics)
    assert (services.ledger.promotions("growth"), services.ledger.champion("growth").version) == ([], None)
    assert stage_lines("growth", view.kind, view.stages[0])[0].startswith("v2 against v1: roc_auc")


def test_a_version_is_not_compared_with_itself(services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "process_services", lambda: services)
    with pytest.raises(ConfigurationError, match="two versions"):
        dispatch.start_comparison("growth", "1", "1")
