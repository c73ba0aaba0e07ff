"""Drift checks that were asked for together, while they go on and after, and a heat map of all by strategy and day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

from starlette.responses import Response

from admin.heat import RATHER_USUAL, USUAL, VERY_RARE, months, rows
from admin.listing import shown, shown_strategies
from admin.pages import Pages
from admin.request_context import Context
from admin.responses import NotValid
from mlops.domain.records import Kind
from mlops.domain.run_states import ACTIVE
from mlops.ledger.queries.checks import DayStrategies, StrategyDays
from mlops.ledger.queries.run_lists import RunLine

pages = Pages()

MOST = 5000
"""Runs that are looked at."""
SORTS: Mapping[str, Callable[[RunLine], Any]] = {
    "state": lambda line: (line.state not in ACTIVE, line.verdict != "drifted", line.strategy),
    "strategy": lambda line: line.strategy,
    "verdict": lambda line: line.verdict,
    "asked": lambda line: line.created_at,
}


@pages.get("/drift/checks", action="drift.checks.read")
def checks(context: Context, since: str = "", q: str = "", sort: str = "", page: int = 1) -> Response:
    """Of a day; or since a time in ISO 8601, with its zone."""
    begun = _time(since) if since else context.now - timedelta(days=1)
    lines = context.ledger.run_lines(kinds=[Kind.CHECK], since=begun, limit=MOST)
    n_done = sum(line.state not in ACTIVE for line in lines)
    return context.show(
        "drift_checks.html",
        title="Drift checks",
        begun=begun,
        since=since,
        list=shown(lines, q=q, sort=sort, page=page, text=lambda line: line.strategy, sorts=SORTS),
        n_done=n_done,
        left_s=_left_s(lines, n_done, context.now),
        states=Counter(line.state.value for line in lines),
        verdicts=Counter(line.verdict for line in lines if line.verdict),
        open={run.run_id: run for run in context.ledger.open_runs() if run.kind is Kind.CHECK},
    )


def _left_s(lines: list[RunLine], n_done: int, now: datetime) -> float | None:
    """At the pace until now; None before the first is done and after the last."""
    if not n_done or n_done == len(lines):
        return None
    took_s = (now - min(line.created_at for line in lines)).total_seconds()
    return took_s / n_done * (len(lines) - n_done)


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise NotValid(f"since={text!r} is no time; write it as 2026-03-02T03:00:00Z") from exc
    if found.tzinfo is None:
        raise NotValid(f"since={text!r} has no zone; write it as 2026-03-02T03:00:00Z")
    return found


# ---- Drift of every strategy, day by day, as a heat map

Days = Literal["14", "30", "60", "90"]
Show = Literal["", "drifted", "failed", "never checked"]
_N_ROWS = 40
"""Strategies on a page: as many as a screen and a reader can hold."""
_HEAT_SORTS: Mapping[str, Callable[[StrategyDays], Any]] = {
    "strategy": lambda one: one.strategy,
    "drifted": lambda one: one.n_drifted,
    "share": lambda one: one.highest_share,
}


@pages.get("/drift/heatmap", action="drift.heatmap.read")
def heatmap(
    context: Context,
    q: str = "",
    sort: str = "",
    page: int = 1,
    days: Days = "30",
    show: Show = "",
    tag: str = "",
) -> Response:
    """Strategy by day; the days end with the newest check, or with today's where one failed."""
    names = list(context.services.strategies)
    last = context.ledger.newest_as_of(names) or context.now.date()
    first = last - timedelta(days=int(days) - 1)
    counted = context.ledger.drift_by_strategy(names, first, last)
    failed = context.ledger.failed_checks(first, max(last, context.now.date()))
    with_failure = {one.strategy for one in failed}
    shows: Mapping[str, Callable[[StrategyDays], bool]] = {
        "": lambda _: True,
        "drifted": lambda one: one.n_drifted > 0,
        "failed": lambda one: one.strategy in with_failure,
        "never checked": lambda one: one.n_checked == 0,
    }
    everything = [
        counted.get(name) or StrategyDays(strategy=name, n_checked=0, n_drifted=0, highest_share=None) for name in names
    ]
    listed = shown_strategies(
        context, everything, keep=shows[show], tag=tag, q=q, sort=sort, page=page, sorts=_HEAT_SORTS, n_rows=_N_ROWS
    )
    on_page = [one.strategy for one in listed.rows]
    by_day = {day.as_of: day for day in context.ledger.drift_by_day(names, first, last)}
    for one in failed:
        by_day.setdefault(one.day, DayStrategies(as_of=one.day, n_checked=0, n_drifted=0))
    columns = sorted(by_day)
    return context.show(
        "drift_heatmap.html",
        title="Drift by strategy and day",
        list=listed,
        rows=rows(on_page, columns, context.ledger.checks_between(on_page, first, last), failed),
        by_day=[by_day[day] for day in columns],
        months=months(columns),
        borders={"usual": USUAL, "rather_usual": RATHER_USUAL, "very_rare": VERY_RARE},
        days=days,
        show=show,
        tag=tag,
        shows=[name for name in shows if name],
    )
