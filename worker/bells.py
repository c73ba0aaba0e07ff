"""Rings every bell that is missing, and looks at the queues that they wait in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.bootstrap import Services
from mlops.ports import Dispatcher
from worker.routing import QUEUES, UNROUTED

log = structlog.get_logger(__name__)

GPU_QUEUE = "train.gpu"
#: A GPU worker that was not seen for so long is gone.
GPU_SEEN_WITHIN_S = 90.0


def republish(app: Celery, services: Services, dispatcher: Dispatcher) -> int:
    """Ring every bell that is missing; how many."""
    lengths = queue_lengths(app)
    alarm_unrouted(lengths)
    if lengths is not None:
        take_back_from_gone_gpu(services)
    publications = services.ledger.due_publications(lengths)
    for publication in publications:
        log.info("stage.republished", run_id=publication.run_id, stage=publication.stage.value)
        dispatcher.publish(publication)
    return len(publications)


def impatient_connection(app: Celery) -> Connection:
    """A connection that gives up after a second try: a pass has work that needs no Redis."""
    options = {"socket_timeout": 5, "socket_connect_timeout": 3, "max_retries": 1}
    return app.connection_for_write(transport_options=options)


def queue_lengths(app: Celery) -> dict[str, int] | None:
    """Messages that wait in each queue; None when the broker does not answer."""
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            return {queue.name: int(channel.client.llen(queue.name)) for queue in QUEUES}
    except (OperationalError, RedisError, OSError):
        return None


def alarm_unrouted(lengths: Mapping[str, int] | None) -> None:
    """Say so when there are dead letters."""
    n_letters = (lengths or {}).get(UNROUTED, 0)
    if n_letters:
        log.warning(
            "queue.unrouted_not_empty", messages=n_letters, action="somebody sends to a queue that is not served"
        )


def take_back_from_gone_gpu(services: Services) -> int:
    """Trainings with device `auto` that wait for a GPU worker which is gone go to the CPU; how many."""
    if any(GPU_QUEUE in worker.queues for worker in services.ledger.workers(within_s=GPU_SEEN_WITHIN_S)):
        return 0
    n_taken = services.ledger.reroute(GPU_QUEUE)
    if n_taken:
        log.warning("stage.rerouted", stages=n_taken, action="the GPU worker is gone; they train on the CPU")
    return n_taken
