"""Workers, queues and MLflow, as the page sees them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fastapi import FastAPI

from mlops.domain.errors import RegistryUnavailable
from mlops.domain.records import Kind, Sent, Stage, WorkerBeat
from mlops.runs.request import run_request
from tasks.broker import BrokerView
from tests.integration.retraining.test_promote_stage import registered
from tests.support.admin import Browser
from tests.support.services import FakeServices


def seen(services: FakeServices, name: str, queue: str, device: str = "cpu") -> None:
    services.ledger.worker_seen(
        WorkerBeat(name=name, role=queue, queues=(queue,), device=device, pid=7, host="h", concurrency=2)
    )


def test_a_worker_is_shown_with_what_it_does(services: FakeServices, viewer: Browser) -> None:
    seen(services, "w1", "train.gpu", "gpu")
    seen(services, "w2", "drift")
    grant = services.granted(Kind.TRAIN, Stage.TRAIN)
    lines = {line["worker"]["name"]: line for line in viewer.json("/admin/workers")["workers"]}
    assert [run["run_id"] for run in lines["w1"]["works_on"]] == [grant.run_id]
    assert (lines["w1"]["worker"]["device"], lines["w2"]["works_on"]) == ("gpu", [])
    assert "train of growth" in viewer.get("/admin/workers").text


def test_a_worker_that_is_silent_for_two_minutes_is_said_so(services: FakeServices, viewer: Browser) -> None:
    seen(services, "w1", "drift")
    services.timed.advance(121)
    (line,) = viewer.json("/admin/workers")["workers"]
    assert line["is_alive"] is False
    assert "silent" in viewer.get("/admin/workers").text


def test_a_queue_has_its_length_from_redis_and_its_oldest_wait_from_the_ledger(
    services: FakeServices, app: FastAPI, viewer: Browser
) -> None:
    app.state.look_at_broker = lambda: BrokerView(depths={"drift": 3, "unrouted": 1})
    accepted = services.ledger.accept(
        run_request(services.strategies, "growth", Kind.CHECK, reason="r", requested_by="t")
    )
    assert accepted.publication is not None
    services.ledger.published([Sent(publication=accepted.publication, queue="drift", task_id="t")])
    services.timed.advance(60)
    page = viewer.json("/admin/workers")
    drift = next(queue for queue in page["queues"] if queue["name"] == "drift")
    assert (drift["depth"], drift["n_waiting"], drift["n_workers"]) == (3, 1, 0)
    assert drift["oldest_at"] is not None
    assert page["n_waiting"] == 1


def test_a_redis_that_is_away_is_said_so_and_the_page_is_there(viewer: Browser, app: FastAPI) -> None:
    app.state.look_at_broker = lambda: BrokerView(depths=None, error="Redis does not answer: refused")
    answer = viewer.get("/admin/workers")
    assert (answer.status_code, "Redis does not answer: refused" in answer.text) == (200, True)


def test_mlflow_is_not_waited_for(viewer: Browser) -> None:
    assert "not asked yet" in viewer.get("/admin/mlflow").text


def test_what_mlflow_holds_is_shown_with_its_growth_by_month(
    services: FakeServices, app: FastAPI, viewer: Browser
) -> None:
    registered(services)
    registered(services)
    app.state.registry_view.look()
    services.ledger.measured(
        {
            "a": (2_000_000, datetime(2026, 10, 3, tzinfo=UTC)),
            "b": (500_000, datetime(2026, 11, 3, tzinfo=UTC)),
            "c": (1_000_000, datetime(2026, 11, 4, tzinfo=UTC)),
        }
    )
    page = viewer.json("/admin/mlflow")
    assert (page["n_models"], page["n_versions"], page["is_reachable"]) == (1, 2, True)
    assert page["months"] == [{"month": "2026-11", "bytes": 1_500_000}, {"month": "2026-10", "bytes": 2_000_000}]
    assert page["total"] == 3_500_000
    assert page["chart"]["series"][0]["values"] == [2.0, 3.5]


def test_an_mlflow_that_is_away_is_said_so_with_what_it_held(
    services: FakeServices, app: FastAPI, viewer: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(services)
    app.state.registry_view.look()

    def away() -> None:
        raise RegistryUnavailable("MLflow at http://m does not answer: refused")

    monkeypatch.setattr(services.registry, "census", away)
    app.state.registry_view.look()
    page = viewer.json("/admin/mlflow")
    assert (page["is_reachable"], page["n_models"]) == (False, 1)
    assert "does not answer: refused" in viewer.get("/admin/mlflow").text
