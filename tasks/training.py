"""`model.train`: trains, evaluates and registers a challenger."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Kind, Stage
from mlops.runs.request import run_request
from tasks.base import perform, start, task
from tasks.payloads import StageMessage, StartTraining


@task(name="model.train", time_limit=2760, soft_time_limit=2730, kind="stage")
def train_model(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Train a strategy's model: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: the ledger grants a stage once, and one run registers one version.
    """
    if "run_id" in arguments:
        return perform(self, Stage.TRAIN, StageMessage.read(self.name, arguments))
    asked = StartTraining.read(self.name, arguments)
    return start(
        self,
        lambda services: run_request(
            services.policies,
            asked.strategy,
            Kind.RETRAIN if asked.promote else Kind.TRAIN,
            reason=asked.reason,
            requested_by=asked.requested_by,
            run_id=self.request.id,
            as_of=asked.as_of,
            min_accuracy=asked.min_accuracy,
            incremental=asked.incremental,
            tune=asked.tune,
        ),
    )
