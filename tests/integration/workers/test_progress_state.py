"""Progress on a real result backend: seen by another client, replaced by the outcome, and never after it."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.result import AsyncResult

from mlops.domain.ports import Progress
from mlops.domain.records import OutcomeMessage, Stage
from tasks.outcomes import RunFailed, deliver_outcomes
from tasks.progress import store_progress


class Outbox:
    """A ledger with one outcome to deliver."""

    def __init__(self, message: OutcomeMessage) -> None:
        self.messages = [message]

    def pending_outcomes(self, *, limit: int = 100) -> list[OutcomeMessage]:
        return self.messages[:limit]

    def outcomes_delivered(self, run_ids: list[str]) -> None:
        self.messages = [message for message in self.messages if message.run_id not in run_ids]


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's own call
@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE"])
def test_a_client_sees_the_progress_and_then_the_outcome_which_stays(redis_url: str, state: str) -> None:
    worker = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    client = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
    found = AsyncResult("run-1", app=client)
    store_progress(worker, "run-1", Stage.TRAIN, Progress(done=30, total=90, left_s=1.5))
    assert (found.state, found.info["done"], found.info["total"]) == ("PROGRESS", 30, 90)
    outbox = Outbox(OutcomeMessage(run_id="run-1", state=state, body={"state": "failed", "error": "no rows"}))
    assert deliver_outcomes(worker, outbox) == 1  # type: ignore[arg-type]
    store_progress(worker, "run-1", Stage.TRAIN, Progress(done=31, total=90))  # of a worker that lost its lease
    fresh = AsyncResult("run-1", app=client)
    assert fresh.state == state
    if state == "FAILURE":
        with pytest.raises(RunFailed, match="no rows"):
            fresh.get(timeout=5)
    for app in (worker, client):
        app.close()


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's own call
def test_an_outcome_that_comes_between_look_and_write_stays(redis_url: str) -> None:
    app = Celery(broker=redis_url, backend=redis_url, set_as_current=False)

    def ends_now() -> bool:
        app.backend.mark_as_failure("run-2", RunFailed("no rows"), store_result=True, call_errbacks=False)
        return False

    store_progress(app, "run-2", Stage.TRAIN, Progress(done=31, total=90), is_over=ends_now)
    assert AsyncResult("run-2", app=app).state == "FAILURE"
    app.close()
