"""Scheduled jobs: when each falls due and what came of it; run now, pause and resume; one job with its next times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Form, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin import policy_values
from admin.jobs import JOBS, Job, Word, in_words, job, jobs, next_times
from admin.listing import shown_strategies
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.responses import NotValid
from mlops.domain.cron import cron_fault
from mlops.domain.records import Kind
from tasks import dispatch

if TYPE_CHECKING:
    from mlops.ledger.people.auditing import PolicyEdit

pages = Pages()

_SCHEDULE = "/admin/schedule"
State = Literal["", "on", "paused", "late", "not scheduled", "policy does not fit"]
_STATES = ("on", "paused", "late", "not scheduled", "policy does not fit")
SORTS: Mapping[str, Callable[[Job], Any]] = {
    "strategy": lambda job: (job.strategy, job.word),
    "next": lambda job: job.next_at,
    "cron": lambda job: job.cron or None,
}


@pages.get("/schedule", action="schedule.read")
def schedule(
    context: Context,
    q: str = "",
    sort: str = "",
    page: int = 1,
    job: Literal[""] | Word = "",
    state: State = "",
    tag: str = "",
) -> Response:
    """Every strategy's jobs."""
    everything = jobs(context)
    listed = shown_strategies(
        context,
        everything,
        keep=lambda one: job in ("", one.word) and state in ("", one.state(context.now)),
        tag=tag,
        q=q,
        sort=sort,
        page=page,
        sorts=SORTS,
    )
    found = [one.state(context.now) for one in everything]
    return context.show(
        "schedule.html",
        title="Scheduled jobs",
        list=listed,
        last=context.ledger.last_of_jobs([(one.strategy, one.kind) for one in listed.rows]),
        job=job,
        jobs=list(JOBS),
        state=state,
        tag=tag,
        states=_STATES,
        totals={name: found.count(name) for name in _STATES if found.count(name)},
    )


@pages.post("/schedule/{strategy}/{word}/pause", action="schedule.pause")
def pause(
    context: Context, strategy: str, word: Word, reason: Annotated[str, Form(max_length=500)] = "paused on the page"
) -> Response:
    """It opens nothing until it is resumed; what falls due meanwhile is not made up for."""
    _set_paused(context, strategy, word, paused=True, reason=reason)
    return context.done(
        f"{_named(strategy, word)} is paused; what falls due meanwhile is not made up for.", to=_back(context)
    )


@pages.post("/schedule/{strategy}/{word}/resume", action="schedule.resume")
def resume(
    context: Context, strategy: str, word: Word, reason: Annotated[str, Form(max_length=500)] = "resumed on the page"
) -> Response:
    """From its next time on."""
    _set_paused(context, strategy, word, paused=False, reason=reason)
    return context.done(f"{_named(strategy, word)} goes on with its next time.", to=_back(context))


@pages.post("/schedule/{strategy}/{word}/run", action="schedule.run")
def run_now(context: Context, strategy: str, word: Word) -> Response:
    """What the job would open, beside the timetable. Raises UnknownStrategy, InvalidPolicyEdit, LedgerUnavailable."""
    start = dispatch.start_pipeline if JOBS[word][0] is Kind.PIPELINE else dispatch.start_retrain
    accepted = start(strategy, reason="a scheduled job, run now", requested_by=context.person.actor)
    context.note(run_id=accepted.run_id, created=accepted.created)
    words = "The run has begun." if accepted.created else "Such a run is active already; this is it."
    return context.done(words, to=f"/admin/runs/{accepted.run_id}", run_id=accepted.run_id, created=accepted.created)


def _set_paused(context: RequestContext, strategy: str, word: Word, *, paused: bool, reason: str) -> None:
    now = policy_values.standing(context, strategy).strategy.schedule.paused
    if (word in now) is paused:
        raise NotValid(f"{_named(strategy, word)} {'is paused already' if paused else 'is not paused'}")
    others = [one for one in now if one != word]
    policy_values.edit(
        context, strategy, {"schedule.paused": [*others, word] if paused else others}, reason=reason or "on the page"
    )


def _named(strategy: str, word: Word) -> str:
    return f"The {word.replace('_', ' ')} of {strategy}"


def _back(context: RequestContext) -> str:
    """The list as it was filtered, or the job's own page."""
    before = context.request.headers.get("referer", "").partition(context.request.headers.get("host", ""))[2]
    return before if before.startswith(_SCHEDULE) else _SCHEDULE


# ---- One scheduled job: its next times, its runs, its values with their origins; edited with a preview

RUNS = 15


class ScheduleQuestion(BaseModel):
    """What can be edited of a job. The spread and the grace are the strategy's: both of its jobs have them."""

    cron: str = Field(default="", max_length=127)
    spread_minutes: int
    grace_hours: float
    reason: str = Field(default="", max_length=500)

    def values(self, word: Word) -> dict[str, Any]:
        """By path."""
        return {
            f"schedule.{word}": " ".join(self.cron.split()),
            "schedule.spread_minutes": self.spread_minutes,
            "schedule.grace_hours": self.grace_hours,
        }


@pages.get("/schedule/{strategy}/{word}", action="schedule.job.read")
def one_job(context: Context, strategy: str, word: Word) -> Response:
    """Raises UnknownStrategy."""
    standing = policy_values.standing(context, strategy)
    found = job(context, standing.strategy, word, fault=standing.fault)
    runs = context.ledger.run_lines(strategy=strategy, kinds=[found.kind], limit=RUNS)
    return context.show(
        "schedule_job.html",
        title=f"{word.replace('_', ' ').capitalize()} of {strategy}",
        job=found,
        standing=standing,
        policy=standing.strategy.schedule,
        held=_of_the_schedule(standing.held),
        runs=runs,
        **previewed(found.cron, context.now),
    )


@pages.get("/schedule/{strategy}/{word}/preview", action="schedule.preview.read")
def preview(context: Context, strategy: str, word: Word, cron: Annotated[str, Query(max_length=127)] = "") -> Response:
    """Another cron in words, with its next times; a part of the job's page."""
    return context.part("parts/cron_preview.html", strategy=strategy, word=word, **previewed(cron, context.now))


@pages.post("/schedule/{strategy}/{word}/edit", action="schedule.edit")
def edit(context: Context, strategy: str, word: Word, asked: Annotated[ScheduleQuestion, Form()]) -> Response:
    """Other times from now on; beat takes them over within seconds. Raises NotValid, InvalidPolicyEdit."""
    values = policy_values.edit(context, strategy, asked.values(word), reason=asked.reason)
    said = ", ".join(f"{path} = {value}" for path, value in values.items())
    return context.done(f"Set for {strategy}: {said}. Beat takes it over within seconds.", to=_page(strategy, word))


@pages.post("/schedule/{strategy}/{word}/take-back", action="schedule.take_back")
def take_back(
    context: Context,
    strategy: str,
    word: Word,
    path: Annotated[str, Form(max_length=127, pattern=r"^schedule\.")],
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """The value of the strategies file holds again. Raises NotValid, InvalidPolicyEdit."""
    policy_values.take_back(context, strategy, path, reason=reason)
    return context.done(f"{path} of {strategy} is as the strategies file has it.", to=_page(strategy, word))


def previewed(cron: str, now: datetime) -> dict[str, Any]:
    """A cron in words with its next five times, or what is wrong with it."""
    cron = " ".join(cron.split())
    fault = cron_fault(cron) if cron else None
    if fault:
        return {"words": "", "times": [], "fault": f"{cron!r} is no cron expression: {fault}"}
    return {
        "words": in_words(cron) if cron else "Not scheduled",
        "times": next_times(cron, now) if cron else [],
        "fault": "",
    }


def _of_the_schedule(held: dict[str, PolicyEdit]) -> list[PolicyEdit]:
    return [edit for path, edit in held.items() if path.startswith("schedule.")]


def _page(strategy: str, word: Word) -> str:
    return f"/admin/schedule/{strategy}/{word}"
