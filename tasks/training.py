"""`model.train`: trains, evaluates and registers a challenger."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Stage
from tasks.base import perform_or_start, task
from tasks.payloads import StartTraining


@task(name="model.train", time_limit=2760, soft_time_limit=2730, kind="stage")
def train_model(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Train a strategy's model: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: the ledger grants a stage once, and one run registers one version.
    """
    return perform_or_start(self, Stage.TRAIN, StartTraining, arguments)
