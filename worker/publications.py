"""Sends every message that is missing, and looks at the queues that they wait in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.bootstrap import Services
from mlops.domain.ports import Dispatcher
from mlops.ledger.reconciliation import PASS_LIMIT
from tasks.broker import Seen, clear_replaced_keys, lists_of, look, set_mark
from worker.replies import drop_late_replies, impatient_connection
from worker.routing import QUEUES, UNROUTED

log = structlog.get_logger(__name__)

MARK = "acis:messages-are-here"
"""Key in the broker."""
MOST_LETTERS = 10_000
"""Dead letters that are kept; the oldest go first."""
_GPU_QUEUE = "train.gpu"
#: A GPU worker that was not seen for so long is gone.
GPU_SEEN_WITHIN_S = 90.0


def republish(app: Celery, services: Services, dispatcher: Dispatcher) -> int:
    """Send every message that is missing; how many. All at once where the broker was emptied or restarted."""
    tidy_queues(app)
    # Before the lengths: what they show then was there after the change.
    seen = broker_seen(app)
    lengths = queue_lengths(app)
    if lengths and lengths[UNROUTED] and drop_late_replies(app):
        lengths = queue_lengths(app)
    alarm_unrouted(lengths)
    if lengths is not None:
        take_back_from_gone_gpu(services)
    is_changed = seen is not None and seen.change != "none"
    n_rung = ring(services, dispatcher, lengths, at_once=is_changed)
    n_newest = n_rung
    # The ledger hands out so many in one transaction.
    while is_changed and lengths is not None and n_newest >= PASS_LIMIT:
        lengths = queue_lengths(app)
        n_newest = ring(services, dispatcher, lengths, at_once=True)
        n_rung += n_newest
    if seen is not None and lengths is not None:
        if is_changed and n_rung:
            log.warning("broker.changed", broker_was=seen.change, stages=n_rung, next="they were sent again")
        _note_broker(app, seen, at=services.ledger.now())
    return n_rung


def ring(
    services: Services, dispatcher: Dispatcher, lengths: Mapping[str, int] | None, *, at_once: bool = False
) -> int:
    """Hand out what is missing from queues of these lengths, and send it; how many."""
    publications = services.ledger.due_publications(lengths, at_once=at_once)
    for publication in publications:
        log.info("stage.republished", run_id=publication.run_id, stage=publication.stage.value)
        dispatcher.publish(publication)
    dispatcher.flush()
    return len(publications)


def tidy_queues(app: Celery) -> list[str]:
    """Delete what somebody put in the place of a queue; which. Keep the newest dead letters."""
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            replaced = clear_replaced_keys(channel.client)
            # A worker adds to it, and may do nothing else with it.
            channel.client.ltrim(UNROUTED, 0, MOST_LETTERS - 1)
    except (OperationalError, RedisError, OSError):
        return []
    if replaced:
        log.warning("queue.key_replaced", keys=replaced, next="deleted; what is missing is sent again")
    return replaced


def broker_seen(app: Celery) -> Seen | None:
    """What happened to the broker since the last look; None where it does not answer or cannot be asked."""
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            return look(channel.client, MARK)
    except (OperationalError, RedisError, OSError):
        return None


def _note_broker(app: Celery, seen: Seen, *, at: datetime) -> None:
    """What the change had cost was sent again."""
    if seen.change == "none":
        return
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            set_mark(channel.client, MARK, seen, at=at)
    except (OperationalError, RedisError, OSError) as exc:
        log.info("broker.not_marked", error=str(exc), next="looked at again in the next pass")


def queue_lengths(app: Celery) -> dict[str, int] | None:
    """Messages that wait in each queue; None when the broker does not answer."""
    try:
        with impatient_connection(app) as connection:
            channel: Any = connection.default_channel
            length = channel.client.llen
            return {queue.name: sum(int(length(one)) for one in lists_of(queue.name)) for queue in QUEUES}
    except (OperationalError, RedisError, OSError):
        return None


def alarm_unrouted(lengths: Mapping[str, int] | None) -> None:
    """Say so when there are dead letters."""
    n_letters = (lengths or {}).get(UNROUTED, 0)
    if n_letters:
        log.warning(
            "queue.unrouted_not_empty",
            messages=n_letters,
            action="somebody sends what no worker can read, or to a queue that is not served; see docs/operations.md",
        )


def take_back_from_gone_gpu(services: Services) -> int:
    """Trainings with device `auto` that wait for a GPU worker which is gone go to the CPU; how many."""
    if any(_GPU_QUEUE in worker.queues for worker in services.ledger.workers(within_s=GPU_SEEN_WITHIN_S)):
        return 0
    n_taken = services.ledger.reroute(_GPU_QUEUE)
    if n_taken:
        log.warning("stage.rerouted", stages=n_taken, action="the GPU worker is gone; they train on the CPU")
    return n_taken
