"""`model.promote`: decides whether a challenger becomes the champion."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Kind, Stage
from mlops.runs.request import run_request
from tasks.base import perform, start, task
from tasks.payloads import StageMessage, StartPromotion


@task(name="model.promote", time_limit=660, soft_time_limit=630, kind="stage")
def promote_model(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Decide about a strategy's challenger: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: a run decides once; the second time it only shows the decision to the registry.
    """
    if "run_id" in arguments:
        return perform(self, Stage.PROMOTE, StageMessage.read(self.name, arguments))
    asked = StartPromotion.read(self.name, arguments)
    return start(
        self,
        lambda services: run_request(
            services.policies,
            asked.strategy,
            Kind.PROMOTE,
            reason=asked.reason,
            requested_by=asked.requested_by,
            run_id=self.request.id,
            as_of=asked.as_of,
            min_accuracy=asked.min_accuracy,
            version=asked.version,
        ),
    )
