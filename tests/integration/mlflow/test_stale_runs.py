"""MLflow runs that say RUNNING after their run's end."""

from __future__ import annotations

import pytest

from mlops.domain.records import Kind
from mlops.registry.maintenance import StaleRuns
from tests.support.ledgers import request_for
from tests.support.services import FakeServices


@pytest.fixture
def stale() -> StaleRuns:
    return StaleRuns()


def test_what_says_running_after_its_runs_end_is_closed_at_the_second_look(
    services: FakeServices, stale: StaleRuns
) -> None:
    run_id = services.ledger.accept(request_for("growth", Kind.RETRAIN)).run_id
    services.ledger.cancel(run_id, actor="test")
    services.fake_registry.running = [run_id]
    assert stale.step(services) == 0  # it may be a drift check that is being logged
    assert stale.step(services) == 1
    assert services.fake_registry.closed == {f"open-{run_id}": "the run ended cancelled, and this was left open"}
    assert stale.step(services) == 0


def test_a_run_that_goes_on_and_one_of_another_ledger_are_left_alone(services: FakeServices, stale: StaleRuns) -> None:
    run_id = services.ledger.accept(request_for("growth", Kind.RETRAIN)).run_id
    services.fake_registry.running = [run_id, "another ledger's"]
    for _ in range(3):
        assert stale.step(services) == 0


def test_what_ended_between_two_looks_is_not_closed(services: FakeServices, stale: StaleRuns) -> None:
    run_id = services.ledger.accept(request_for("growth", Kind.CHECK)).run_id
    services.ledger.cancel(run_id, actor="test")
    services.fake_registry.running = [run_id]
    stale.step(services)
    services.fake_registry.running = []
    stale.step(services)
    services.fake_registry.running = [run_id]
    assert stale.step(services) == 0
