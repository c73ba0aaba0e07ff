"""Progress as Celery's state: what waits sees it, and it is never the last word. The backend is in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult
from redis.exceptions import ConnectionError as RedisConnectionError

from mlops.domain.ports import Progress
from mlops.domain.records import Stage
from tasks.progress import ProgressTeller, store_progress

THIRD = Progress(done=30, total=90, unit="rounds", left_s=12.0)
DEADLINE_S = 10.0


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery(backend="cache+memory://", set_as_current=False)
    yield app
    app.close()


def test_whoever_waits_sees_how_far_the_run_is(app: Celery) -> None:
    store_progress(app, "run-1", Stage.TRAIN, THIRD)
    found = AsyncResult("run-1", app=app)
    assert (found.state, found.ready()) == ("PROGRESS", False)
    assert found.info == {"stage": "train", "done": 30, "total": 90, "unit": "rounds", "left_s": 12.0}


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE"])
def test_an_outcome_that_is_there_stays(app: Celery, state: str) -> None:
    outcome: Any = {"decision": "promote"} if state == "SUCCESS" else ValueError("no rows")
    app.backend.store_result(f"run-2-{state}", outcome, state)
    store_progress(app, f"run-2-{state}", Stage.TRAIN, THIRD)
    assert AsyncResult(f"run-2-{state}", app=app).state == state


def test_a_stage_that_is_over_says_nothing_more(app: Celery) -> None:
    store_progress(app, "run-3", Stage.TRAIN, THIRD, is_over=lambda: True)
    assert AsyncResult("run-3", app=app).state == "PENDING"


def test_a_backend_that_does_not_answer_costs_the_progress_alone(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: str) -> str:
        raise RedisConnectionError("refused")

    monkeypatch.setattr(app.backend, "get_state", down)
    store_progress(app, "run-4", Stage.TRAIN, THIRD)


def test_the_newest_progress_is_sent_while_the_stage_works(app: Celery) -> None:
    with ProgressTeller(app, "run-5", Stage.TRAIN, every_s=0.01) as teller:
        for done in range(1, 31):
            teller.report(Progress(done=done, total=90))
        ends_at = time.monotonic() + DEADLINE_S
        tick = threading.Event()
        while (AsyncResult("run-5", app=app).info or {}).get("done") != 30:
            assert time.monotonic() < ends_at, "the progress was not sent"
            tick.wait(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress-run-5"]
