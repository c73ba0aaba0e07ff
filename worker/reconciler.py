"""Makes good what died in between; a small process of its own.

Any number may run: one works at a time, under a lock in the database. It needs neither beat nor a worker to
be right, and with Redis down it does what needs no Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.bootstrap import Services
from mlops.errors import AcisError, LedgerUnavailable
from mlops.ledger.records import WorkerBeat
from mlops.mlflow.repair import RegistryRepair
from mlops.ports import Dispatcher
from tasks.outcomes import deliver_outcomes
from worker.health import health_file, touch
from worker.routing import QUEUES, ROLES
from worker.timetable import open_due_slots

log = structlog.get_logger(__name__)

#: How long to wait for the workers' answers; they answer within milliseconds when they live.
INSPECT_TIMEOUT_S = 1.0


def run_forever(app: Celery, services: Services, stop: threading.Event) -> None:
    """Pass after pass until `stop` is set; a pass that fails is logged, and the next one comes."""
    repair = RegistryRepair()
    alive = health_file(services.settings.var_dir, "reconciler")
    while not stop.is_set():
        touch(alive)
        try:
            with services.ledger.try_reconcile_lock() as mine:
                if mine:
                    reconcile(app, services, repair)
        except LedgerUnavailable as exc:
            log.warning("reconcile.waits", error=str(exc))
        stop.wait(services.settings.reconcile_s)


def reconcile(app: Celery, services: Services, repair: RegistryRepair) -> None:
    """One pass. Each step stands alone: one that fails does not keep the others from their work."""
    dispatcher = services.dispatcher
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("workers", lambda: note_workers(app, services)),
        ("inline", services.ledger.fail_lost_inline),
        ("publish", lambda: republish(app, services, dispatcher)),
        ("slots", lambda: open_due_slots(services, dispatcher)),
        ("outcomes", lambda: deliver_outcomes(app, services.ledger)),
        ("registry", lambda: repair.step(services)),
    )
    for name, step in steps:
        try:
            step()
        except LedgerUnavailable:
            raise
        except AcisError as exc:
            log.warning("reconcile.step_failed", step=name, error=str(exc))
        except Exception:
            log.exception("reconcile.step_crashed", step=name)


def republish(app: Celery, services: Services, dispatcher: Dispatcher) -> int:
    """Ring every bell that is missing; how many."""
    publications = services.ledger.due_publications(queue_lengths(app))
    for publication in publications:
        log.info("stage.republished", run_id=publication.run_id, stage=publication.stage.value)
        dispatcher.publish(publication)
    return len(publications)


def queue_lengths(app: Celery) -> dict[str, int] | None:
    """Messages that wait in each queue; None when the broker does not answer."""
    try:
        with app.connection_for_read(
            transport_options={"socket_timeout": 5, "socket_connect_timeout": 3}
        ) as connection:
            channel: Any = connection.default_channel
            return {queue.name: int(channel.client.llen(queue.name)) for queue in QUEUES}
    except (OperationalError, RedisError, OSError):
        return None


def note_workers(app: Celery, services: Services) -> int:
    """Ask the workers for a sign of life and note it; how many answered.

    The workers' main processes fork children and keep away from the database, so this asks for them.
    """
    try:
        inspect = app.control.inspect(timeout=INSPECT_TIMEOUT_S)
        queues = inspect.active_queues() or {}
        stats = inspect.stats() or {}
    except (OperationalError, RedisError, OSError):
        return 0
    for name, served in queues.items():
        names = tuple(sorted(queue["name"] for queue in served))
        about: Any = stats.get(name, {})
        services.ledger.worker_seen(
            WorkerBeat(
                name=name,
                role=next((role for role, spec in ROLES.items() if spec.queue in names), "other"),
                queues=names,
                device="gpu" if "train.gpu" in names else "cpu",
                pid=int(about.get("pid", 0)),
                host=name.partition("@")[2],
                concurrency=int(about.get("pool", {}).get("max-concurrency", 0)),
            )
        )
    unrouted = (queue_lengths(app) or {}).get("unrouted", 0)
    if unrouted:
        log.warning(
            "queue.unrouted_not_empty", messages=unrouted, action="somebody sends to a queue that is not served"
        )
    return len(queues)
