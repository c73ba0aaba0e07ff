"""Scheduled jobs: when each falls due and what came of it; run now, pause and resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import Form
from starlette.responses import Response

from admin import policy_values
from admin.jobs import JOBS, Job, Word, jobs
from admin.listing import shown_strategies
from admin.pages import Pages
from admin.refusals import NotValid
from admin.request_context import Visit, Visiting
from mlops.domain.records import Kind
from tasks import dispatch

pages = Pages()

SCHEDULE = "/admin/schedule"
State = Literal["", "on", "paused", "late", "not scheduled", "policy does not fit"]
STATES = ("on", "paused", "late", "not scheduled", "policy does not fit")
SORTS: Mapping[str, Callable[[Job], Any]] = {
    "strategy": lambda job: (job.strategy, job.word),
    "next": lambda job: job.next_at,
    "cron": lambda job: job.cron or None,
}


@pages.get("/schedule", action="schedule.read")
def schedule(
    visit: Visiting,
    q: str = "",
    sort: str = "",
    page: int = 1,
    job: Literal[""] | Word = "",
    state: State = "",
    tag: str = "",
) -> Response:
    """Every strategy's jobs."""
    everything = jobs(visit)
    listed = shown_strategies(
        visit,
        everything,
        keep=lambda one: job in ("", one.word) and state in ("", one.state(visit.now)),
        tag=tag,
        q=q,
        sort=sort,
        page=page,
        sorts=SORTS,
    )
    found = [one.state(visit.now) for one in everything]
    return visit.show(
        "schedule.html",
        title="Scheduled jobs",
        list=listed,
        last=visit.ledger.last_of_jobs([(one.strategy, one.kind) for one in listed.rows]),
        job=job,
        jobs=list(JOBS),
        state=state,
        tag=tag,
        states=STATES,
        totals={name: found.count(name) for name in STATES if found.count(name)},
    )


@pages.post("/schedule/{strategy}/{word}/pause", action="schedule.pause")
def pause(
    visit: Visiting, strategy: str, word: Word, reason: Annotated[str, Form(max_length=500)] = "paused on the page"
) -> Response:
    """It opens nothing until it is resumed; what falls due meanwhile is not made up for."""
    _set_paused(visit, strategy, word, paused=True, reason=reason)
    return visit.done(
        f"{_named(strategy, word)} is paused; what falls due meanwhile is not made up for.", to=_back(visit)
    )


@pages.post("/schedule/{strategy}/{word}/resume", action="schedule.resume")
def resume(
    visit: Visiting, strategy: str, word: Word, reason: Annotated[str, Form(max_length=500)] = "resumed on the page"
) -> Response:
    """From its next time on."""
    _set_paused(visit, strategy, word, paused=False, reason=reason)
    return visit.done(f"{_named(strategy, word)} goes on with its next time.", to=_back(visit))


@pages.post("/schedule/{strategy}/{word}/run", action="schedule.run")
def run_now(visit: Visiting, strategy: str, word: Word) -> Response:
    """What the job would open, beside the timetable. Raises UnknownStrategy, InvalidPolicyEdit, LedgerUnavailable."""
    start = dispatch.start_pipeline if JOBS[word][0] is Kind.PIPELINE else dispatch.start_retrain
    accepted = start(strategy, reason="a scheduled job, run now", requested_by=visit.person.actor)
    visit.note(run_id=accepted.run_id, created=accepted.created)
    words = "The run has begun." if accepted.created else "Such a run is active already; this is it."
    return visit.done(words, to=f"/admin/runs/{accepted.run_id}", run_id=accepted.run_id, created=accepted.created)


def _set_paused(visit: Visit, strategy: str, word: Word, *, paused: bool, reason: str) -> None:
    now = policy_values.standing(visit, strategy).strategy.schedule.paused
    if (word in now) is paused:
        raise NotValid(f"{_named(strategy, word)} {'is paused already' if paused else 'is not paused'}")
    others = [one for one in now if one != word]
    policy_values.edit(
        visit, strategy, {"schedule.paused": [*others, word] if paused else others}, reason=reason or "on the page"
    )


def _named(strategy: str, word: Word) -> str:
    return f"The {word.replace('_', ' ')} of {strategy}"


def _back(visit: Visit) -> str:
    """The list as it was filtered, or the job's own page."""
    before = visit.request.headers.get("referer", "").partition(visit.request.headers.get("host", ""))[2]
    return before if before.startswith(SCHEDULE) else SCHEDULE
