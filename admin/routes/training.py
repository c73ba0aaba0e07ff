"""Start trainings of one, some or all strategies, with an estimate of their duration before."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

from fastapi import Form, Query
from starlette.responses import Response

from admin.alerts import ALIVE_S
from admin.listing import PAGE_ROWS, at_time, stretch, time_cursor
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.trainable import SHOWS, Show, open_trainings, trainable, with_trainings
from admin.training_form import MOST_AT_ONCE, OFFERS, TrainingForm, TrainingQuestion, estimate
from mlops.domain.errors import InvalidTransition
from mlops.domain.policies import MAX_TRIALS
from mlops.domain.run_states import ACTIVE
from mlops.ledger.queries.run_lists import Start
from tasks import dispatch

if TYPE_CHECKING:
    from mlops.runs.bulk import Outcome

pages = Pages()

TRAINING = "/admin/training"
EARLIER = 2000
"""Trainings that an estimate looks at."""
NOW_ROWS, LATELY_ROWS = 12, 8
NAMED = 8
"""Strategies that are named; of more it is said how many."""
_TRAIN_QUEUES = frozenset({"train.cpu", "train.gpu"})


@pages.get("/training", action="training.read")
def training(context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = "") -> Response:
    """What can be started, what runs, and what was trained lately."""
    open_runs = open_trainings(context)
    return context.show(
        "training.html",
        title="Model training",
        list=with_trainings(context, trainable(context, open_runs, q=q, show=show, tag=tag, sort=sort, page=page)),
        show=show,
        tag=tag,
        shows=[name for name in SHOWS if name],
        offers=list(OFFERS.values()),
        most_trials=MAX_TRIALS,
        n_strategies=len(context.services.strategies),
        n_open=len(open_runs),
        open_runs=sorted(open_runs, key=lambda run: run.stage_state != "running")[:NOW_ROWS],
        lately=context.ledger.version_lines(limit=LATELY_ROWS),
    )


@pages.get("/training/estimate", action="training.estimate")
def estimated(context: Context, form: Annotated[TrainingForm, Query()]) -> Response:
    """What a start would do and how long it would take; the question before it shows this."""
    asked = form.considered(context)
    open_runs = context.ledger.open_runs()
    trained = _likely_to_train(context, asked) if asked.offer.name == "auto" else asked.strategies
    earlier = context.ledger.newest_trainings(limit=EARLIER)
    n_slots = _slots(context)
    return context.show(
        "estimate.html",
        title="Estimate",
        offer=asked.offer,
        kind=asked.kind,
        n=len(asked.strategies),
        names=asked.strategies[:NAMED],
        n_trials=asked.n_trials,
        n_trained=len(trained),
        estimate=estimate(asked.offer, trained, earlier, n_trials=asked.n_trials, n_slots=n_slots),
        full=estimate(OFFERS["train"], trained, earlier, n_trials=0, n_slots=n_slots),
        n_slots=n_slots,
        running=sorted({run.strategy for run in open_runs if run.kind is asked.kind} & set(asked.strategies)),
        n_waiting=sum(run.stage == "train" and run.stage_state == "queued" for run in open_runs),
    )


@pages.post("/training", action="training.start")
def start(context: Context, form: Annotated[TrainingForm, Form()]) -> Response:
    """Opens a run for each; one that cannot be opened says why and stops no other."""
    asked = form.asked(context)
    context.note(subject=asked.offer.name, strategies=len(asked.strategies), kind=asked.kind.value)
    started = dispatch.start_many(
        asked.strategies,
        asked.kind,
        reason=form.reason.strip() or f"{asked.offer.title} on the page",
        requested_by=context.person.actor,
        address=context.person.address,
        incremental=asked.options.incremental,
        tune=asked.options.tune,
        batch_id=(batch_id := uuid.uuid4().hex),
    )
    n_opened = sum(one.accepted is not None and one.accepted.created for one in started)
    context.note(opened=n_opened, failed=sum(bool(one.error) for one in started))
    return context.done(
        _said(asked, started, n_opened),
        to=_started_address(batch_id) if n_opened else TRAINING,
        started=[_told(one) for one in started],
    )


def _said(asked: TrainingQuestion, started: list[Outcome], n_opened: int) -> str:
    runs = f"{n_opened:,} {'run' if n_opened == 1 else 'runs'}"
    lines = [f"{asked.offer.title}: {runs} started."] if n_opened else ["Nothing new was started."]
    rest = [
        f"{one.strategy}: {one.error or 'a run of this kind is active already, and goes on'}"
        for one in started
        if one.accepted is None or not one.accepted.created
    ]
    more = [f"The like for {len(rest) - NAMED:,} more."] if len(rest) > NAMED else []
    return "\n".join([*lines, *rest[:NAMED], *more])


def _told(one: Outcome) -> dict[str, object]:
    """For a program."""
    if one.accepted is None:
        return {"strategy": one.strategy, "run_id": None, "created": False, "error": one.error}
    return {"strategy": one.strategy, "run_id": one.accepted.run_id, "created": one.accepted.created, "error": ""}


def _likely_to_train(context: RequestContext, asked: TrainingQuestion) -> tuple[str, ...]:
    """Those that drifted at their last check, or have no champion."""
    return tuple(
        name
        for name, standing in context.ledger.standings(asked.strategies).items()
        if (standing.check is not None and standing.check.verdict == "drifted")
        or standing.champion is None
        or standing.champion.version is None
    )


def _slots(context: RequestContext) -> int:
    """Trainings that the workers who are alive can run at a time."""
    alive = context.ledger.workers(within_s=ALIVE_S)
    return sum(worker.concurrency for worker in alive if _TRAIN_QUEUES & set(worker.queues))


# ---- What somebody started together, as it comes along; all of it can be cancelled at once


@pages.get("/training/started", action="training.started")
def started(context: Context, batch: str = "", before: str = "") -> Response:
    """The runs, newest first, with their progress; without a batch, what one started oneself in the last day."""
    found = _start(context, batch)
    lines = context.ledger.started(found, before=at_time(before), limit=PAGE_ROWS + 1)
    counts = context.ledger.started_counts(found)
    return context.show(
        "started.html",
        title="Started trainings",
        list=stretch(lines, lambda line: time_cursor(line.created_at, line.run_id)),
        counts=dict(sorted(counts.items())),
        n=sum(counts.values()),
        n_active=sum(counts[state.value] for state in ACTIVE),
        start=found,
    )


@pages.post("/training/started/cancel", action="training.cancel")
def cancel(context: Context, batch: Annotated[str, Form(min_length=1, max_length=32)]) -> Response:
    """Cancel all of a batch that wait or work."""
    found = _start(context, batch)
    n_cancelled = 0
    for line in context.ledger.started(found, limit=MOST_AT_ONCE):
        if line.state in ACTIVE:
            with suppress(InvalidTransition):  # it ended meanwhile
                dispatch.cancel(line.run_id, actor=context.person.actor)
                n_cancelled += 1
    context.note(subject=found.requested_by, batch=batch, runs=n_cancelled)
    runs = f"{n_cancelled:,} {'run' if n_cancelled == 1 else 'runs'}"
    words = f"{runs} cancelled, or asked to stop." if n_cancelled else "Nothing of it runs any more."
    return context.done(words, to=_started_address(batch), cancelled=n_cancelled)


def _started_address(batch_id: str) -> str:
    """The page of what was started."""
    return f"/admin/training/started?{urlencode({'batch': batch_id})}"


def _start(context: RequestContext, batch_id: str) -> Start:
    if batch_id:
        return context.ledger.batch(batch_id)
    return Start(requested_by=context.person.actor, since=context.now - timedelta(days=1))
