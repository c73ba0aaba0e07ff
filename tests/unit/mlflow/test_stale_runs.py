"""MLflow runs of trainings that ended without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlops.ledger.records import Kind
from mlops.mlflow.stale_runs import StaleRuns
from tests.support.ledgers import TimedLedger, request_for
from tests.support.services import FakeServices, fake_services, small_strategy


class Closing:
    """Says what it was asked to close."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def close_stale_runs(self, ledger_run_id: str, *, reason: str) -> int:
        assert reason == "the run ended cancelled"
        self.asked.append(ledger_run_id)
        return 1


@pytest.fixture
def services(tmp_path: Path, timed: TimedLedger) -> FakeServices:
    return fake_services(tmp_path, timed, small_strategy())


def test_a_training_that_was_cancelled_leaves_no_open_run_and_is_closed_once(services: FakeServices) -> None:
    closing: Any = Closing()
    services.__dict__["registry"] = closing
    cancelled = services.ledger.accept(request_for("growth", Kind.RETRAIN)).run_id
    check = services.ledger.accept(request_for("growth", Kind.CHECK)).run_id
    going_on = services.ledger.accept(request_for("growth", Kind.TRAIN)).run_id
    for run_id in (cancelled, check):
        services.ledger.cancel(run_id, actor="test")
    stale = StaleRuns()
    assert stale.step(services) == 1
    assert stale.step(services) == 0
    assert closing.asked == [cancelled]
    assert going_on not in closing.asked
