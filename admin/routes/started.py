"""What somebody started together, as it comes along; all of it can be cancelled at once."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Form
from starlette.responses import Response

from admin.listing import PAGE_ROWS, at_time, stretch, time_cursor
from admin.pages import Pages
from admin.request_context import Visit, Visiting
from admin.training_form import MOST_AT_ONCE
from mlops.domain.errors import InvalidTransition
from mlops.domain.run_states import ACTIVE
from mlops.ledger.queries.run_lists import Start
from tasks import dispatch

pages = Pages()


@pages.get("/training/started", action="training.started")
def started(visit: Visiting, batch: str = "", before: str = "") -> Response:
    """The runs, newest first, with their progress; without a batch, what one started oneself in the last day."""
    found = _start(visit, batch)
    lines = visit.ledger.started(found, before=at_time(before), limit=PAGE_ROWS + 1)
    counts = visit.ledger.started_counts(found)
    return visit.show(
        "started.html",
        title="Started trainings",
        list=stretch(lines, lambda line: time_cursor(line.created_at, line.run_id)),
        counts=dict(sorted(counts.items())),
        n=sum(counts.values()),
        n_active=sum(counts[state.value] for state in ACTIVE),
        start=found,
    )


@pages.post("/training/started/cancel", action="training.cancel")
def cancel(visit: Visiting, batch: Annotated[str, Form(max_length=32)] = "") -> Response:
    """All of them that wait or work."""
    found = _start(visit, batch)
    n_cancelled = 0
    for line in visit.ledger.started(found, limit=MOST_AT_ONCE):
        if line.state in ACTIVE:
            with suppress(InvalidTransition):  # it ended meanwhile
                dispatch.cancel(line.run_id, actor=visit.person.actor)
                n_cancelled += 1
    visit.note(subject=found.requested_by, runs=n_cancelled)
    runs = f"{n_cancelled:,} {'run' if n_cancelled == 1 else 'runs'}"
    words = f"{runs} cancelled, or asked to stop." if n_cancelled else "Nothing of it runs any more."
    return visit.done(words, to=started_address(batch), cancelled=n_cancelled)


def started_address(batch_id: str) -> str:
    """The page of what was started."""
    return f"/admin/training/started?{urlencode({'batch': batch_id})}"


def _start(visit: Visit, batch_id: str) -> Start:
    if batch_id:
        return visit.ledger.batch(batch_id)
    return Start(requested_by=visit.person.actor, since=visit.now - timedelta(days=1))
