"""Asks the workers for a sign of life and notes it in the ledger.

The workers' main processes fork children and keep away from the database, so the reconciler asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mlops.domain.ports import Ledger
from mlops.domain.records import WorkerBeat
from worker.broker_connection import impatient_connection
from worker.routing import ROLES

#: How long to wait for the workers' answers; they answer within milliseconds when they live.
INSPECT_TIMEOUT_S = 1.0


def note_workers(app: Celery, ledger: Ledger) -> int:
    """Note who answers; how many. With Redis down nobody is asked."""
    try:
        with impatient_connection(app) as connection:
            inspect = app.control.inspect(timeout=INSPECT_TIMEOUT_S, connection=connection)
            queues = inspect.active_queues() or {}
            stats = inspect.stats() or {}
    except (OperationalError, RedisError, OSError):
        return 0
    for name, served in queues.items():
        names = tuple(sorted(queue["name"] for queue in served))
        about: Any = stats.get(name, {})
        ledger.worker_seen(
            WorkerBeat(
                name=name,
                role=next((role for role, spec in ROLES.items() if spec.queue in names), "other"),
                queues=names,
                device="gpu" if "train.gpu" in names else "cpu",
                pid=int(about.get("pid", 0)),
                host=name.partition("@")[2],
                concurrency=int(about.get("pool", {}).get("max-concurrency", 0)),
                uptime_s=_uptime(about),
            )
        )
    return len(queues)


def _uptime(about: Mapping[str, Any]) -> float | None:
    """None where it was not told, or the host's clock was set back since its start."""
    uptime_s = about.get("uptime")
    return float(uptime_s) if isinstance(uptime_s, int | float) and uptime_s >= 0 else None
