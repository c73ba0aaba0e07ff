"""`model.promote`: decides whether a challenger becomes the champion."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Stage
from tasks.base import perform_or_start, task
from tasks.payloads import StartPromotion


@task(name="model.promote", time_limit=660, soft_time_limit=630, kind="stage")
def promote_model(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Decide about a strategy's challenger: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: a run decides once; the second time it only shows the decision to the registry.
    """
    return perform_or_start(self, Stage.PROMOTE, StartPromotion, arguments)
