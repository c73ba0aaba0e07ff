"""`drift.check`: the loop's first stage, and the way to start the loop by name."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Stage
from tasks.base import perform_or_start, task
from tasks.payloads import StartCheck


@task(name="drift.check", time_limit=960, soft_time_limit=930, kind="stage")
def check_drift(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Check a strategy's drift: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: the ledger grants a stage once, and a start's run has the task's id.
    """
    return perform_or_start(self, Stage.DRIFT, StartCheck, arguments)
