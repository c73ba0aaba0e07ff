"""One scheduled job: its next times, its runs, its values with their origins; edited with a preview."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Form, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin import policy_values
from admin.cron_words import in_words, next_times
from admin.jobs import Word, job
from admin.pages import Pages
from admin.request_context import Visiting
from mlops.domain.cron import cron_fault

if TYPE_CHECKING:
    from mlops.ledger.policies import PolicyEdit

pages = Pages()

RUNS = 15


class Asked(BaseModel):
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
def one_job(visit: Visiting, strategy: str, word: Word) -> Response:
    """Raises UnknownStrategy."""
    standing = policy_values.standing(visit, strategy)
    found = job(visit, standing.strategy, word, fault=standing.fault)
    runs = visit.ledger.run_lines(strategy=strategy, kinds=[found.kind], limit=RUNS)
    return visit.show(
        "schedule_job.html",
        title=f"{word.replace('_', ' ').capitalize()} of {strategy}",
        job=found,
        standing=standing,
        policy=standing.strategy.schedule,
        held=_of_the_schedule(standing.held),
        runs=runs,
        **previewed(found.cron, visit.now),
    )


@pages.get("/schedule/{strategy}/{word}/preview", action="schedule.preview.read")
def preview(visit: Visiting, strategy: str, word: Word, cron: Annotated[str, Query(max_length=127)] = "") -> Response:
    """Another cron in words, with its next times; a part of the job's page."""
    return visit.part("parts/cron_preview.html", strategy=strategy, word=word, **previewed(cron, visit.now))


@pages.post("/schedule/{strategy}/{word}/edit", action="schedule.edit")
def edit(visit: Visiting, strategy: str, word: Word, asked: Annotated[Asked, Form()]) -> Response:
    """Other times from now on; beat takes them over within seconds. Raises NotValid, InvalidPolicyEdit."""
    values = policy_values.edit(visit, strategy, asked.values(word), reason=asked.reason)
    said = ", ".join(f"{path} = {value}" for path, value in values.items())
    return visit.done(f"Set for {strategy}: {said}. Beat takes it over within seconds.", to=_page(strategy, word))


@pages.post("/schedule/{strategy}/{word}/take-back", action="schedule.take_back")
def take_back(
    visit: Visiting,
    strategy: str,
    word: Word,
    path: Annotated[str, Form(max_length=127, pattern=r"^schedule\.")],
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """The value of the strategies file holds again. Raises NotValid, InvalidPolicyEdit."""
    policy_values.take_back(visit, strategy, path, reason=reason)
    return visit.done(f"{path} of {strategy} is as the strategies file has it.", to=_page(strategy, word))


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
