"""Turns a publication into a message on the right queue."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError

from mlops.errors import TemporaryError
from mlops.ledger.records import Publication, Stage

if TYPE_CHECKING:
    from celery import Celery

    from mlops.bootstrap import Services

log = structlog.get_logger(__name__)

TASK_OF_STAGE = {Stage.DRIFT: "drift.check", Stage.TRAIN: "model.train", Stage.PROMOTE: "model.promote"}
_NAMESPACE = uuid.UUID("5b7c6c1e-6f0e-4a53-9d0e-6a5c1f0d7a11")


def task_id_of(publication: Publication) -> str:
    """Task id of a bell: the same publication always gives the same id, another one another id."""
    return str(uuid.uuid5(_NAMESPACE, f"{publication.run_id}/{publication.stage}/{publication.publish_no}"))


def queue_of(stage: Stage, device: str, *, gpu_alive: bool) -> str:
    """Queue of a stage. `auto` trains on a GPU worker only while one is alive."""
    if stage is Stage.DRIFT:
        return "drift"
    if stage is Stage.PROMOTE:
        return "promote"
    wants_gpu = device == "gpu" or (device == "auto" and gpu_alive)
    return "train.gpu" if wants_gpu else "train.cpu"


class CeleryDispatcher:
    """`mlops.ports.Dispatcher` over Celery."""

    def __init__(self, app: Celery, services: Services) -> None:
        self._app = app
        self._ledger = services.ledger

    def publish(self, publication: Publication) -> bool:
        """Send the message and note it; False where the broker does not answer (the reconciler sends it)."""
        task_id = task_id_of(publication)
        try:
            gpu_alive = publication.device == "auto" and publication.stage is Stage.TRAIN and self._gpu_alive()
            queue = queue_of(publication.stage, publication.device, gpu_alive=gpu_alive)
            self._app.send_task(
                TASK_OF_STAGE[publication.stage],
                kwargs={"run_id": publication.run_id, "publish_no": publication.publish_no},
                task_id=task_id,
                # Flower's chain: the run is the root, the earlier stage's message the parent.
                root_id=publication.run_id,
                parent_id=publication.previous_task_id or publication.run_id,
                queue=queue,
                retry=False,
            )
        except OperationalError as exc:
            log.warning("stage.not_published", run_id=publication.run_id, error=str(exc), next="the reconciler sends it")
            return False
        except TemporaryError as exc:
            log.warning("stage.not_published", run_id=publication.run_id, error=str(exc), next="the reconciler sends it")
            return False
        try:
            self._ledger.published(publication, queue=queue, task_id=task_id)
        except TemporaryError as exc:
            log.warning("stage.publication_not_noted", run_id=publication.run_id, error=str(exc))
        return True

    def _gpu_alive(self) -> bool:
        return any("train.gpu" in worker.queues for worker in self._ledger.workers(within_s=60.0))
