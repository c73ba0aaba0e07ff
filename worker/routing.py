"""Queues, the roles of the processes that serve them, and where a message without a queue goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kombu import Queue

from tasks.publish import TASK_OF_STAGE


@dataclass(frozen=True, kw_only=True)
class Role:
    """How a worker of a queue runs."""

    queue: str
    concurrency: int
    """Pool processes; 0: one per core."""
    start_method: Literal["fork", "spawn"]
    """`spawn` where OpenMP or CUDA is used: forked children of a process that touched them hang."""
    max_tasks_per_child: int | None
    """1 frees a training's memory; None keeps the process and its imports."""
    preloaded: tuple[str, ...] = ()
    """Modules that the main process imports before it forks: a new child works at once, where each would take seconds
    of a core to import them. None of these may start a thread, run OpenMP or open a connection when it is imported."""


ROLES: Mapping[str, Role] = {
    "control": Role(
        queue="control",
        concurrency=2,
        start_method="fork",
        max_tasks_per_child=None,
        preloaded=("mlops.ledger.ledger",),
    ),
    "drift": Role(
        queue="drift",
        concurrency=0,
        start_method="fork",
        max_tasks_per_child=200,
        preloaded=(
            "mlops.ledger.ledger",
            "mlops.features.source",
            "mlops.features.postgres",
            "mlops.stages.drift",
            "mlops.stages.live.predict",
            "mlops.stages.live.score",
        ),
    ),
    "train.cpu": Role(queue="train.cpu", concurrency=1, start_method="spawn", max_tasks_per_child=20),
    "train.gpu": Role(queue="train.gpu", concurrency=1, start_method="spawn", max_tasks_per_child=1),
    "promote": Role(queue="promote", concurrency=1, start_method="spawn", max_tasks_per_child=100),
}

UNROUTED = "unrouted"
"""Dead letters of the transport; alarmed when not empty, read by nobody."""

#: Without a routing key of its own each would get the default queue's, and with it its messages.
QUEUES = tuple(Queue(name, routing_key=name) for name in (*ROLES, UNROUTED))


def route_task(
    name: str,
    args: tuple[Any, ...],  # noqa: ARG001 -- celery's signature of a router
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],  # noqa: ARG001
    task: Any = None,  # noqa: ANN401, ARG001
    **_: Any,  # noqa: ANN401
) -> dict[str, str]:
    """A start goes to `control`; a stage's message names its queue itself, so one that comes here is dead mail."""
    if name in TASK_OF_STAGE.values() and "strategy" not in (kwargs or {}):
        return {"queue": UNROUTED}
    return {"queue": "control"}
