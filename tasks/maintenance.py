"""`stage.lost`: gives back the lease of a stage whose pool process died."""

from __future__ import annotations

from typing import Any

from celery import Task

from tasks.base import follow_up, task
from tasks.payloads import LostMessage
from tasks.publish import TASK_OF_STAGE
from tasks.services import process_services


@task(name="stage.lost", time_limit=60, soft_time_limit=50, kind="plain")
def return_lease(self: Task[Any, Any], **arguments: Any) -> None:  # noqa: ANN401
    """A worker saw its child die over the message `task_id`; without this the lease runs out by itself.

    Safe to run twice: only the grant that was made for that message is given back. Raises InvalidMessage.
    """
    lost = LostMessage.read(self.name, arguments)
    stage = next(stage for stage, name in TASK_OF_STAGE.items() if name == lost.task)
    services = process_services()
    finished = services.ledger.worker_lost(lost.run_id, stage, task_id=lost.task_id, cause=lost.cause)
    if finished is not None:
        follow_up(self, services, finished)
