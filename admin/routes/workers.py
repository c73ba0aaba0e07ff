"""Who is alive, on which queue and device, and what it does; how long each queue is; the stream of live events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from starlette.responses import Response, StreamingResponse

from admin.alerts import ALIVE_S
from admin.events import MOST_LISTENERS
from admin.pages import Pages
from admin.request_context import Context
from admin.responses import TooOften
from mlops.domain.records import WorkerBeat
from mlops.ledger.queries.strategy_status import OpenRun
from tasks.broker import QUEUES

pages = Pages()

_LATELY_S = 86400.0


@dataclass(frozen=True, kw_only=True)
class WorkerLine:
    """A worker that was seen within a day."""

    worker: WorkerBeat
    is_alive: bool
    works_on: tuple[OpenRun, ...]


@dataclass(frozen=True, kw_only=True)
class QueueLine:
    """A queue as Redis has it, and what the ledger expects on it."""

    name: str
    depth: int | None
    """Messages; None: Redis does not answer."""
    n_waiting: int
    """Stages that wait for a worker of this queue."""
    oldest_at: datetime | None
    """Since when the oldest of them waits."""
    n_workers: int


@pages.get("/workers", action="workers.read")
def workers(context: Context) -> Response:
    """Workers and queues."""
    runs = context.ledger.open_runs(namespace=None)
    broker = context.look_at_broker()
    lines = _workers(context.ledger.workers(within_s=_LATELY_S), runs, context.now)
    return context.show(
        "workers.html",
        title="Workers and queues",
        workers=lines,
        queues=_queues(lines, runs, broker.depths),
        broker_error=broker.error,
        waiting=[run for run in runs if run.stage_state == "queued"][:50],
        n_waiting=sum(run.stage_state == "queued" for run in runs),
    )


def _workers(beats: list[WorkerBeat], runs: list[OpenRun], now: datetime) -> list[WorkerLine]:
    works_on: dict[str, list[OpenRun]] = defaultdict(list)
    for run in runs:
        if run.stage_state == "running" and run.worker:
            works_on[run.worker].append(run)
    return [
        WorkerLine(
            worker=beat,
            is_alive=beat.seen_at is not None and (now - beat.seen_at).total_seconds() < ALIVE_S,
            works_on=tuple(works_on[beat.name]),
        )
        for beat in beats
    ]


def _queues(lines: list[WorkerLine], runs: list[OpenRun], depths: object) -> list[QueueLine]:
    waiting: dict[str, list[datetime]] = defaultdict(list)
    for run in runs:
        if run.stage_state == "queued" and run.queue and run.queued_at:
            waiting[run.queue].append(run.queued_at)
    alive = [queue for line in lines if line.is_alive for queue in line.worker.queues]
    return [
        QueueLine(
            name=name,
            depth=depths.get(name) if isinstance(depths, dict) else None,
            n_waiting=len(waiting[name]),
            oldest_at=min(waiting[name], default=None),
            n_workers=alive.count(name),
        )
        for name in QUEUES
    ]


# ---- The stream of what happens now; one for each open page that shows it


@pages.get("/events", action="events.follow")
def events(context: Context) -> Response:
    """`progress` with run, stage, done, total, unit and time left; `changed` with the run."""
    person = context.person
    user, session = person.name, person.session.digest if person.session else person.actor
    words = context.events.why_not(user, session)
    if context.events.n_listeners >= MOST_LISTENERS:
        words = f"{MOST_LISTENERS} pages are open already; close some"
    if words:
        context.audit("events.follow", refused=words)
        raise TooOften(words, again_after_s=30)
    stream = context.events.stream(user, session)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
