"""The Celery application that bench/ledger.py measures: the system's own, whose stages do nothing, and a bare task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops import bootstrap
from mlops.domain.records import Grant, Kind, RunState, Stage, StageOutcome
from mlops.runs.executor import Work
from worker.main import app

#: About as large as the result of a real stage that found nothing.
RESULT = {"verdict": "stable", "share": 0.1, "n_reference": 50_000, "n_current": 500, "reason": "x" * 200}
FOLLOWING = {Stage.DRIFT: Stage.TRAIN, Stage.TRAIN: Stage.PROMOTE}


def idle(grant: Grant, _: object) -> StageOutcome:
    following = None if grant.kind is Kind.CHECK else FOLLOWING.get(grant.stage)
    return StageOutcome(result=RESULT, run_state=None if following else RunState.SUCCEEDED, next_stage=following)


def idle_stages(_: object) -> Mapping[Stage, Work]:
    return dict.fromkeys(Stage, idle)


bootstrap.Services.stages = property(idle_stages)  # type: ignore[assignment]


@app.task(name="bench.noop", time_limit=960, soft_time_limit=930)  # as every stage has
def noop() -> dict[str, Any]:
    return RESULT
