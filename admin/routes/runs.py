"""Runs as a list, and each as a timeline with its evidence; cancel, requeue, ask again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from starlette.responses import Response

from admin import external_links as places
from admin.listing import PAGE_ROWS, at_time, stretch, time_cursor
from admin.model_versions import awaiting
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.wording import indented
from mlops.domain.records import Kind, RunState, RunView, Stage, StageView
from mlops.domain.run_states import ACTIVE, FAILURES, TERMINAL
from mlops.ledger.queries.attempts import Attempt
from mlops.reporting.narrative import stage_lines, why
from tasks import dispatch

# ---- A run's attempts as bars on one line of time; pure

WIDTH = 1000.0
"""Of the picture, in its own units."""
_LEAST = 2.0
"""A bar that took no time is still seen."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An attempt: how long it waited and how long it worked."""

    attempt: Attempt
    wait_s: float
    work_s: float | None
    """None: it has not begun."""
    wait_x: float
    wait_width: float
    work_x: float
    work_width: float


def bars(attempts: Sequence[Attempt], *, now: datetime) -> list[Bar]:
    """One for each attempt, on a scale from the first one's wait to the last one's end."""
    if not attempts:
        return []
    begin = min(attempt.queued_at for attempt in attempts)
    end = max(attempt.ended_at or now for attempt in attempts)
    scale = WIDTH / max((end - begin).total_seconds(), 0.001)

    def x(at: datetime) -> float:
        return round(max(0.0, (at - begin).total_seconds()) * scale, 1)

    found = []
    for attempt in attempts:
        claimed, ended = attempt.claimed_at or now, attempt.ended_at or now
        found.append(
            Bar(
                attempt=attempt,
                wait_s=max(0.0, (claimed - attempt.queued_at).total_seconds()),
                work_s=None if attempt.claimed_at is None else max(0.0, (ended - claimed).total_seconds()),
                wait_x=x(attempt.queued_at),
                wait_width=max(0.0, x(claimed) - x(attempt.queued_at)),
                work_x=min(x(claimed), WIDTH - _LEAST),
                work_width=0.0 if attempt.claimed_at is None else max(_LEAST, x(ended) - x(claimed)),
            )
        )
    return found


pages = Pages()

RUNS = "/admin/runs"
State = Literal["", "active", "failed or dead"] | RunState
DAY_S = 86400.0


@pages.get("/runs", action="runs.read")
def runs(
    context: Context,
    q: str = "",
    strategy: str = "",
    state: State = "",
    kind: Literal[""] | Kind = "",
    tag: str = "",
    before: str = "",
) -> Response:
    """Newest first. q : a strategy's name, or a run's id"""
    wanted = q.strip()
    if wanted and wanted not in context.services.strategies and len(wanted) > 20:
        return context.done("", to=f"{RUNS}/{context.ledger.run(wanted).run_id}")
    name = wanted or strategy
    several = {"active": ACTIVE, "failed or dead": FAILURES}.get(state)
    states = [one.value for one in several] if several else [state] if state else []
    names = (
        [name] if name else [one for one in context.services.strategies if context.has_tag(one, tag)] if tag else None
    )
    lines = context.ledger.run_lines(
        strategies=names, states=states, kinds=[kind] if kind else [], before=at_time(before), limit=PAGE_ROWS + 1
    )
    return context.show(
        "runs.html",
        title="Runs",
        list=stretch(lines, lambda line: time_cursor(line.created_at, line.run_id)),
        q=name,
        state=str(state),
        kind=str(kind),
        tag=tag,
        kinds=list(Kind),
        states=["active", "failed or dead", *RunState],
        strategies=list(context.services.strategies),
        counts=context.ledger.state_counts(within_s=DAY_S),
        open={run.run_id: run for run in context.ledger.open_runs()},
    )


@pages.get("/runs/{run_id}", action="run.read")
def run(context: Context, run_id: str) -> Response:
    """One run. Raises RunNotFound."""
    found = context.ledger.run(run_id)
    promotion = context.ledger.promotion_of(run_id)
    waits = found.state is RunState.AWAITING_APPROVAL
    return context.show(
        "run.html",
        title=f"{found.kind.value} of {found.strategy}",
        run=found,
        why=why(found),
        bars=bars(context.ledger.attempts(found), now=context.now),
        lines={stage.stage.value: _said(found, stage) for stage in found.stages},
        links=_links(context, found),
        promotion=promotion,
        evidence=promotion.evidence if promotion else {},
        awaiting=[one for one in awaiting(context, found.strategy) if one["run_id"] == run_id] if waits else [],
        is_active=found.state in ACTIVE,
        can_ask_again=found.state in TERMINAL and "answers" not in found.params and found.state is not RunState.SKIPPED,
        has_report=any(stage.stage is Stage.DRIFT and stage.result for stage in found.stages),
    )


@pages.post("/runs/{run_id}/cancel", action="run.cancel")
def cancel(context: Context, run_id: str) -> Response:
    """A run that waits ends at once; one that works is asked to stop. Raises RunNotFound, InvalidTransition."""
    state = dispatch.cancel(run_id, actor=context.person.actor)
    context.note(state=state.value)
    words = "The run is cancelled." if state is RunState.CANCELLED else "The run is asked to stop; it does soon."
    return context.done(words, to=f"{RUNS}/{run_id}")


@pages.post("/runs/{run_id}/requeue", action="run.requeue")
def requeue(context: Context, run_id: str) -> Response:
    """A dead run goes on where it was, with new attempts. Raises RunNotFound, InvalidTransition."""
    is_sent = dispatch.requeue(run_id, actor=context.person.actor)
    words = "The run is in its queue again." if is_sent else "The run will start when Redis is back."
    return context.done(words, to=f"{RUNS}/{run_id}")


@pages.post("/runs/{run_id}/again", action="run.again")
def again(context: Context, run_id: str) -> Response:
    """The same question anew, under today's policy. Raises RunNotFound, InvalidTransition."""
    accepted = dispatch.ask_again(run_id, requested_by=context.person.actor)
    context.note(run_id=accepted.run_id, created=accepted.created)
    words = "Asked again; this is the new run." if accepted.created else "This run is active already; it answers."
    return context.done(words, to=f"{RUNS}/{accepted.run_id}", run_id=accepted.run_id, created=accepted.created)


def _said(found: RunView, stage: StageView) -> list[str]:
    """What the command line would print; the result as it is, where another version wrote it."""
    try:
        return stage_lines(found.strategy, found.kind, stage)
    except (KeyError, TypeError):
        return [indented(stage.result)]


def _links(context: RequestContext, found: RunView) -> dict[str, str]:
    """Where other pages show it, by words."""
    settings = context.services.settings
    links: dict[str, str | None] = {}
    for stage in found.stages:
        links[f"Flower: {stage.stage} task"] = places.flower_task(settings, stage.task_id)
        result = stage.result or {}
        links["MLflow: the training"] = links.get("MLflow: the training") or places.mlflow_run(
            settings, result.get("mlflow_run_id")
        )
        links["MLflow: the check"] = links.get("MLflow: the check") or places.mlflow_run(
            settings, result.get("mlflow_report_run_id")
        )
    return {words: address for words, address in links.items() if address}
