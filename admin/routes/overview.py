"""Every strategy in one table, what runs now, what comes next, and what a person should look at."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Literal

from starlette.responses import Response

from admin.alerts import alerts
from admin.jobs import JOBS
from admin.listing import shown_strategies
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from mlops.domain.policies import ScheduledJob
from mlops.domain.records import ScheduleEntry
from mlops.domain.run_states import FAILURES
from mlops.ledger.queries.checks import CheckPoint
from mlops.ledger.queries.strategy_status import Awaiting, OpenRun, StrategyStatus
from mlops.strategies.book import Unfit
from mlops.strategies.file import Settled
from tasks.slots import next_due

pages = Pages()

CHECKS = 30
"""In a spark line."""
_NEXT_JOBS = 5
Show = Literal["", "drifted", "failed", "running", "awaits approval", "paused", "no champion"]


@dataclass(frozen=True, kw_only=True)
class OverviewLine:
    """A strategy in the table."""

    strategy: str
    standing: StrategyStatus
    open_runs: tuple[OpenRun, ...]
    next_at: datetime | None
    paused: tuple[ScheduledJob, ...]
    """Scheduled jobs that open nothing now."""
    awaiting: Awaiting | None
    """The newest decision that waits for a person."""

    @property
    def has_failed(self) -> bool:
        """Its newest run ended by an error."""
        return self.standing.run is not None and self.standing.run.state in FAILURES

    @property
    def has_champion(self) -> bool:
        """A version is in production."""
        return self.standing.champion is not None and self.standing.champion.version is not None

    @property
    def trained_as_of(self) -> date | None:
        """The champion's age counts from here."""
        champion = self.standing.champion
        return champion.as_of if champion and champion.version else None

    @property
    def verdict(self) -> str:
        """Of the newest check."""
        return (self.standing.check.verdict or "") if self.standing.check else ""

    @property
    def rarity(self) -> float | None:
        """Of the newest check's shift: the share of earlier ones that were smaller; None: not compared with any."""
        p = self.standing.check.p_value if self.standing.check else None
        return None if p is None else 1.0 - p

    @property
    def checked_as_of(self) -> date | None:
        """The newest check's day."""
        return self.standing.check.as_of if self.standing.check else None


SORTS: Mapping[str, Callable[[OverviewLine], Any]] = {
    "strategy": lambda line: line.strategy,
    "champion": lambda line: line.trained_as_of,
    "check": lambda line: line.checked_as_of,
    "drift": lambda line: line.rarity,
    "run": lambda line: line.standing.run.created_at if line.standing.run else None,
    "next": lambda line: line.next_at,
}
SHOWS: Mapping[str, Callable[[OverviewLine], bool]] = {
    "": lambda _: True,
    "drifted": lambda line: line.verdict == "drifted",
    "failed": lambda line: line.has_failed,
    "awaits approval": lambda line: line.awaiting is not None,
    "paused": lambda line: bool(line.paused),
    "running": lambda line: bool(line.open_runs),
    "no champion": lambda line: not line.has_champion,
}


@pages.get("/", action="overview.read")
def overview(context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = "") -> Response:
    """The first page."""
    schedule = context.ledger.schedule()
    lines = _lines(context, schedule)
    found = partial(shown_strategies, context, lines, keep=SHOWS[show], tag=tag, q=q, sorts=SORTS)
    listed = found(sort=sort, page=page)
    return context.show(
        "overview.html",
        title="Overview",
        list=listed,
        show=show,
        shows=[name for name in SHOWS if name],
        tag=tag,
        jobs=list(JOBS),
        seen=[line.awaiting for line in found(n_rows=None).rows if line.awaiting],
        checks=_checks(context, [line.strategy for line in listed.rows]),
        lives=context.ledger.live_lines([line.strategy for line in listed.rows]),
        experiments={one.strategy: one for one in context.ledger.running_experiments()},
        totals=_totals(lines),
        alerts=alerts(context),
        next_jobs=_next_jobs(schedule, context.now),
    )


def found_lines(context: RequestContext, *, q: str, show: Show, tag: str) -> tuple[OverviewLine, ...]:
    """Every strategy that a search finds, on whatever page of the list."""
    lines = _lines(context, context.ledger.schedule())
    return shown_strategies(context, lines, keep=SHOWS[show], tag=tag, q=q, sorts=SORTS, n_rows=None).rows


def _lines(context: RequestContext, schedule: list[ScheduleEntry]) -> list[OverviewLine]:
    names = list(context.services.strategies)
    standings = context.ledger.standings(names)
    running: dict[str, list[OpenRun]] = defaultdict(list)
    for run in context.ledger.open_runs():
        running[run.strategy].append(run)
    following: dict[str, datetime] = {}
    for entry in schedule:
        at = next_due(entry, context.now)
        if at is not None:
            following[entry.strategy] = min(at, following.get(entry.strategy, at))
    awaiting = {one.strategy: one for one in context.ledger.awaiting()}
    policies = context.services.policies.all_settled()
    return [
        OverviewLine(
            strategy=name,
            paused=_paused(policies[name]),
            awaiting=awaiting.get(name),
            standing=standings[name],
            open_runs=tuple(running.get(name, ())),
            next_at=following.get(name),
        )
        for name in names
    ]


def _paused(settled: Settled | Unfit) -> tuple[ScheduledJob, ...]:
    return () if isinstance(settled, Unfit) else settled.strategy.schedule.paused


def _checks(context: RequestContext, names: list[str]) -> dict[str, list[CheckPoint]]:
    return {name: lines[-CHECKS:] for name, lines in context.ledger.recent_points(names, limit=CHECKS).items()}


def _totals(lines: list[OverviewLine]) -> dict[str, int]:
    return {
        "strategies": len(lines),
        "in production": sum(line.has_champion for line in lines),
        "drifted at the last check": sum(line.verdict == "drifted" for line in lines),
        "failed at the last run": sum(line.has_failed for line in lines),
        "runs now": sum(len(line.open_runs) for line in lines),
    }


def _next_jobs(schedule: list[ScheduleEntry], now: datetime) -> list[tuple[datetime, ScheduleEntry]]:
    due = ((next_due(entry, now), entry) for entry in schedule)
    coming = [(at, entry.key, entry) for at, entry in due if at is not None]
    return [(at, entry) for at, _, entry in heapq.nsmallest(_NEXT_JOBS, coming, key=lambda one: one[:2])]
