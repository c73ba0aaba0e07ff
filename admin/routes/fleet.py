"""One action for many strategies: pause, resume, run now, approve or reject what waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Form, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.responses import NothingChosen, NotValid
from admin.routes.overview import Show, found_lines
from mlops.domain.policies import ScheduledJob
from mlops.domain.records import Kind
from mlops.runs.bulk import Asker, Outcome, answer_waiting, open_runs, set_paused, summed_up, waiting_of

if TYPE_CHECKING:
    from mlops.ledger.queries.strategy_status import Awaiting

pages = Pages()

_OVERVIEW = "/admin/"
_LIMIT_S = 25.0
"""A browser, and most proxies, wait longer than this for an answer; what was not reached is named."""
NAMED = 8
"""Strategies that the question names; of more it says how many."""
SAID = 1000
"""Characters that the next page can say; an outcome that takes more has a page of its own."""
What = Literal["pause", "resume", "check", "retrain", "approve", "reject"]
JOBS: tuple[ScheduledJob, ...] = ("drift_check", "retrain")
NAMES: dict[ScheduledJob, str] = {"drift_check": "drift check", "retrain": "retraining"}


class _BulkForm(BaseModel):
    """The form under the overview's table; what else a browser sends is left alone."""

    what: What
    strategies: list[str] = Field(default_factory=list)
    """Those that are ticked."""
    everything: bool = False
    """All that the search finds, on whatever page."""
    q: str = Field("", max_length=100)
    show: Show = ""
    tag: str = Field("", max_length=32)
    job: ScheduledJob | Literal[""] = ""
    """Which is paused or resumed; empty: both"""
    seen: list[str] = Field(default_factory=list)
    """`RUN_ID DIGEST` of each decision that waited when the page was made."""
    reason: str = Field("", max_length=500)

    def chosen(self, context: RequestContext) -> list[str]:
        """Raises UnknownStrategy."""
        if self.everything:
            return [line.strategy for line in found_lines(context, q=self.q, show=self.show, tag=self.tag)]
        return context.services.strategies.chosen(self.strategies)

    @property
    def digests(self) -> dict[str, str]:
        """By run."""
        return {run_id: digest for run_id, _, digest in (one.partition(" ") for one in self.seen) if digest}

    @property
    def jobs(self) -> tuple[ScheduledJob, ...]:
        """To pause or resume."""
        return (self.job,) if self.job else JOBS


class Question(_BulkForm):
    """The form before it is sent; an address without an action asks about a pause, and does nothing."""

    what: What = "pause"


@dataclass(frozen=True, kw_only=True)
class Act:
    """One of the buttons."""

    title: str
    words: str
    """What it does, in the question before."""
    done: str
    """Before the number of strategies that it was done for."""
    carry_out: Callable[[RequestContext, _BulkForm, Sequence[str], str], list[Outcome]]


def _paused(context: RequestContext, form: _BulkForm, names: Sequence[str], reason: str) -> list[Outcome]:
    is_pause = form.what == "pause"
    return set_paused(
        context.services, names, form.jobs, paused=is_pause, by=_asker(context), reason=reason, limit_s=_LIMIT_S
    )


def _run(context: RequestContext, form: _BulkForm, names: Sequence[str], reason: str) -> list[Outcome]:
    kind = Kind.PIPELINE if form.what == "check" else Kind.RETRAIN
    return open_runs(context.services, names, kind, by=_asker(context), reason=reason, limit_s=_LIMIT_S)


def _answered(context: RequestContext, form: _BulkForm, names: Sequence[str], reason: str) -> list[Outcome]:
    return answer_waiting(
        context.services,
        names,
        form.digests,
        answer="approve" if form.what == "approve" else "reject",
        by=_asker(context),
        reason=reason,
        limit_s=_LIMIT_S,
    )


ACTS: dict[What, Act] = {
    "pause": Act(
        title="Pause",
        words="The scheduled jobs open nothing until they are resumed; what falls due meanwhile is not made up for.",
        done="Paused",
        carry_out=_paused,
    ),
    "resume": Act(
        title="Resume", words="The scheduled jobs go on with their next time.", done="Resumed", carry_out=_paused
    ),
    "check": Act(
        title="Run drift check",
        words="A drift check now, beside the timetable; what drifted is trained again and judged.",
        done="Runs opened",
        carry_out=_run,
    ),
    "retrain": Act(
        title="Run retraining",
        words="A training now, whatever the drift; each new version is judged, and promoted where the policy allows.",
        done="Runs opened",
        carry_out=_run,
    ),
    "approve": Act(
        title="Approve",
        words="What waits for approval goes to Production, as it was judged on this list.",
        done="Approved",
        carry_out=_answered,
    ),
    "reject": Act(
        title="Reject",
        words="What waits for approval goes to Archived; the champions stay.",
        done="Rejected",
        carry_out=_answered,
    ),
}
_NEEDS_REASON = frozenset({"approve", "reject"})


@pages.get("/strategies/question", action="strategies.question.read")
def question(context: Context, form: Annotated[Question, Query()]) -> Response:
    """What an action would do, and to which strategies; the question before it shows this."""
    names = form.chosen(context)
    waiting: dict[str, Awaiting] = waiting_of(context.services, names) if form.what in _NEEDS_REASON else {}
    return context.show(
        "fleet_question.html",
        title=ACTS[form.what].title,
        act=ACTS[form.what],
        what=form.what,
        n=len(names),
        names=names[:NAMED],
        jobs=[NAMES[job] for job in form.jobs] if form.what in ("pause", "resume") else [],
        is_answer=form.what in _NEEDS_REASON,
        waiting=list(waiting.values()),
        n_unseen=sum(one.run_id not in form.digests for one in waiting.values()),
        lacks_reason=form.what in _NEEDS_REASON and len(form.reason.strip()) < 3,
    )


@pages.post("/strategies", action="strategies.act")
def act(context: Context, form: Annotated[_BulkForm, Form()]) -> Response:
    """The action; each strategy is audited by itself, and one that fails stops no other.

    Raises NotValid, UnknownStrategy; LedgerUnavailable or RegistryUnavailable where nothing was done yet.
    """
    context.note(subject=form.what)
    names = form.chosen(context)
    context.note(strategies=len(names), reason=form.reason.strip())
    if not names:
        raise NothingChosen("no strategy is ticked; tick some, or the box for all that the search finds")
    reason = form.reason.strip()
    if form.what in _NEEDS_REASON and len(reason) < 3:
        raise NotValid("an answer to what waits for approval needs a reason; it is kept with each decision")
    one = ACTS[form.what]
    outcomes = one.carry_out(context, form, names, reason or f"{one.title.lower()} of several on the page")
    failed = [outcome for outcome in outcomes if outcome.error]
    context.note(done=sum(outcome.is_changed for outcome in outcomes), failed=len(failed))
    words = "\n".join(summed_up(outcomes, one.done, shown=NAMED))
    if context.wants_json or (len(words) <= SAID and not failed):
        return context.done(words, to=_back(context), outcomes=[_told(outcome) for outcome in outcomes])
    return context.show(
        "fleet_outcome.html",
        status=200 if len(failed) < len(outcomes) else 409,
        title=one.title,
        lines=words.splitlines(),
        outcomes=sorted(outcomes, key=lambda outcome: not outcome.error),
        back=_back(context),
    )


def _asker(context: RequestContext) -> Asker:
    return Asker(actor=context.person.actor, address=context.person.address)


def _told(outcome: Outcome) -> dict[str, object]:
    """For a program."""
    return {
        "strategy": outcome.strategy,
        "done": outcome.words if outcome.is_changed else "",
        "unchanged": "" if outcome.is_changed else outcome.words,
        "error": outcome.error,
        "run_id": outcome.accepted.run_id if outcome.accepted else None,
    }


def _back(context: RequestContext) -> str:
    """The overview as it was filtered."""
    before = context.request.headers.get("referer", "").partition(context.request.headers.get("host", ""))[2]
    return before if before.partition("?")[0] == _OVERVIEW else _OVERVIEW
