"""`predict.batch` and `live.score`: the champion's predictions of a day's universe, and what came of them."""

from __future__ import annotations

from typing import Any

from celery import Task

from mlops.domain.records import Stage
from tasks.base import perform, perform_or_start, start, task
from tasks.payloads import StageMessage, StartPrediction, StartScoring


@task(name="predict.batch", time_limit=360, soft_time_limit=330, kind="stage")
def predict_batch(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Predict a date's universe with the champion: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: a run's predictions are one batch, which is written once.
    """
    if "run_id" in arguments:
        return perform(self, Stage.PREDICT, StageMessage.read(self.name, arguments))
    asked = StartPrediction.read(self.name, arguments)
    return start(self, lambda services: asked.of_date(services.policies, services.ledger, run_id=self.request.id))


@task(name="live.score", time_limit=960, soft_time_limit=930, kind="stage")
def score_live(self: Task[Any, Any], **arguments: Any) -> dict[str, Any] | None:  # noqa: ANN401 -- checked by the payload
    """Score predictions against what came: of an accepted run (`run_id`), or of one opened here (`strategy`).

    Safe to run twice: scores are written with the stage's end, and only where they say something new.
    """
    return perform_or_start(self, Stage.SCORE, StartScoring, arguments)
