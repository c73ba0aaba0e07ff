"""`drift.check`: the loop's first stage, and the way to start the loop by name."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Kind, Stage
from mlops.runs.request import run_request
from tasks.base import perform, start, task
from tasks.payloads import StageMessage, StartCheck


@task(name="drift.check", time_limit=960, soft_time_limit=930, kind="stage")
def check_drift(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Check a strategy's drift: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: the ledger grants a stage once, and a start's run has the task's id.
    """
    if "run_id" in arguments:
        return perform(self, Stage.DRIFT, StageMessage.read(self.name, arguments))
    asked = StartCheck.read(self.name, arguments)
    return start(
        self,
        lambda services: run_request(
            services.policies,
            asked.strategy,
            Kind.CHECK if asked.check_only else Kind.PIPELINE,
            reason=asked.reason,
            requested_by=asked.requested_by,
            run_id=self.request.id,
            as_of=asked.as_of,
            drift_threshold=asked.drift_threshold,
            min_accuracy=asked.min_accuracy,
        ),
    )
