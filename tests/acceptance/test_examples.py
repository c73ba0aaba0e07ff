"""The example of a backend, on the whole stack; tests/integration/test_examples.py has the others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.backend import make_app
from tests.acceptance.conftest import SECOND
from tests.support.served_stack import ServedStack
from tests.support.waiting import wait_for


@pytest.fixture
def backend(stack: ServedStack) -> Iterator[TestClient]:
    broker, results = stack.endpoints.celery_broker_url, stack.endpoints.celery_result_backend
    with TestClient(make_app(broker, results)) as client:
        yield client


def ended(backend: TestClient, run_id: str) -> dict[str, Any]:
    """The run, once it has."""

    def look() -> dict[str, Any]:
        run: dict[str, Any] = backend.get(f"/runs/{run_id}").json()
        return run

    wait_for(lambda: look()["state"] in ("SUCCESS", "FAILURE"), f"the end of {run_id}", within_s=120)
    return look()


def test_a_backend_starts_a_run_and_tells_its_outcome(backend: TestClient, stack: ServedStack) -> None:
    stack.rest()
    asked = {"reason": "features reloaded", "check_only": True, "as_of": SECOND}
    answer = backend.post("/strategies/growth/runs", json=asked)
    assert answer.status_code == 202
    run = ended(backend, answer.json()["run_id"])
    assert (run["state"], run["error"]) == ("SUCCESS", None)
    # The crash of March 2020.
    assert run["outcome"]["stages"]["drift"]["verdict"] == "drifted"
    kept = stack.services.ledger.run(run["run_id"])
    assert (kept.requested_by, kept.reason, kept.kind) == ("backend", "features reloaded", "check")


def test_a_strategy_that_nobody_knows_is_the_runs_error(backend: TestClient) -> None:
    started = backend.post("/strategies/growht/runs", json={"reason": "a slip"}).json()
    run = ended(backend, started["run_id"])
    assert run["state"] == "FAILURE"
    assert "'growht' is not known" in run["error"]


def test_without_a_broker_nothing_is_accepted_and_that_is_said() -> None:
    nobody = "redis://127.0.0.1:1/0"
    with TestClient(make_app(nobody, nobody)) as client:
        started = client.post("/strategies/growth/runs", json={"reason": "a test"})
        found = client.get("/runs/0123")
    assert (started.status_code, found.status_code) == (503, 503)
    assert "not accepted" in started.json()["detail"]
    assert "not known" in found.json()["detail"]
