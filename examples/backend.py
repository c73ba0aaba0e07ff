"""A backend that dispatches: starts runs and tells how they stand, with nothing but celery and FastAPI.

    pip install 'celery[redis]' fastapi uvicorn
    export CELERY_BROKER_URL=redis://backend:password@host:6379/0
    export CELERY_RESULT_BACKEND=redis://backend:password@host:6379/1
    uvicorn --factory examples.backend:make_app

It knows three things of the system: the task's name, the queue, and that a start's task id is its run's id.
"""

from __future__ import annotations

import os
from datetime import date
from typing import Any

from celery import Celery
from fastapi import FastAPI, HTTPException
from kombu.exceptions import OperationalError
from pydantic import BaseModel
from redis.exceptions import RedisError


class Asked(BaseModel):
    """What a caller may say of a run."""

    reason: str
    """Stands in the ledger, beside who asked."""
    check_only: bool = False
    """Only look whether the features drifted; else a drift leads to training and promotion."""
    as_of: date | None = None
    """Replay this day instead of the newest."""


class Run(BaseModel):
    """How a run stands."""

    run_id: str
    state: str
    """Celery's: PENDING, STARTED, PROGRESS, SUCCESS or FAILURE. A refused model is a SUCCESS, with reasons."""
    progress: dict[str, Any] | None = None
    """Stage, done, total and seconds left, while it works."""
    outcome: dict[str, Any] | None = None
    """State, version, reasons and each stage's result, once it has ended."""
    error: str | None = None
    """Why it failed, in words."""


def make_app(broker: str | None = None, results: str | None = None) -> FastAPI:
    """The web application; addresses that are left out are those of the environment."""
    app = FastAPI(title="A backend that dispatches")
    broker = broker or os.environ["CELERY_BROKER_URL"]
    results = results or os.environ.get("CELERY_RESULT_BACKEND") or broker
    # Two clients: one with a result backend subscribes to the result of everything it sends, for good, and has to be
    # restarted once that Redis was away for 20 s.
    sender = Celery("sender", broker=broker, set_as_current=False)
    reader = Celery("reader", backend=results, set_as_current=False)

    @app.post("/strategies/{strategy}/runs", status_code=202)
    def start(strategy: str, asked: Asked) -> Run:
        """Start the loop for a strategy. An unknown one is found out by the worker, and is the run's error."""
        arguments = {
            "strategy": strategy,
            "requested_by": "backend",
            **asked.model_dump(mode="json", exclude_none=True),
        }
        try:
            # Always `control`; a message that names no queue lands in one that nobody reads.
            sent = sender.send_task("drift.check", kwargs=arguments, queue="control")
        except OperationalError as exc:
            raise HTTPException(503, f"not accepted, the broker does not answer: {exc}") from exc
        return Run(run_id=sent.id, state="PENDING")

    @app.get("/runs/{run_id}")
    def look(run_id: str) -> Run:
        """How the run stands. One that nobody knows is PENDING: Celery cannot tell it from one that waits."""
        result = reader.AsyncResult(run_id)
        try:
            state: str = result.state
            value = result.result
        except RedisError as exc:
            raise HTTPException(503, f"not known, the result backend does not answer: {exc}") from exc
        if state == "SUCCESS":
            return Run(run_id=run_id, state=state, outcome=value)
        if result.failed():
            return Run(run_id=run_id, state=state, error=str(value))
        return Run(run_id=run_id, state=state, progress=value if state == "PROGRESS" else None)

    return app
