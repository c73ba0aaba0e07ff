"""Drift of every strategy, day by day, as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal

from starlette.responses import Response

from admin.heat import RATHER_USUAL, USUAL, VERY_RARE, months, rows
from admin.listing import shown_strategies
from admin.pages import Pages
from admin.request_context import Visiting
from mlops.ledger.check_list import DayStrategies, StrategyDays

pages = Pages()

Days = Literal["14", "30", "60", "90"]
Show = Literal["", "drifted", "failed", "never checked"]
N_ROWS = 40
"""Strategies on a page: as many as a screen and a reader can hold."""
SORTS: Mapping[str, Callable[[StrategyDays], Any]] = {
    "strategy": lambda one: one.strategy,
    "drifted": lambda one: one.n_drifted,
    "share": lambda one: one.highest_share,
}


@pages.get("/drift/heatmap", action="drift.heatmap.read")
def heatmap(
    visit: Visiting,
    q: str = "",
    sort: str = "",
    page: int = 1,
    days: Days = "30",
    show: Show = "",
    tag: str = "",
) -> Response:
    """Strategy by day; the days end with the newest check, or with today's where one failed."""
    names = list(visit.services.strategies)
    last = visit.ledger.newest_as_of(names) or visit.now.date()
    first = last - timedelta(days=int(days) - 1)
    counted = visit.ledger.drift_by_strategy(names, first, last)
    failed = visit.ledger.failed_checks(first, max(last, visit.now.date()))
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
        visit, everything, keep=shows[show], tag=tag, q=q, sort=sort, page=page, sorts=SORTS, n_rows=N_ROWS
    )
    on_page = [one.strategy for one in listed.rows]
    by_day = {day.as_of: day for day in visit.ledger.drift_by_day(names, first, last)}
    for one in failed:
        by_day.setdefault(one.day, DayStrategies(as_of=one.day, n_checked=0, n_drifted=0))
    columns = sorted(by_day)
    return visit.show(
        "drift_heatmap.html",
        title="Drift by strategy and day",
        list=listed,
        rows=rows(on_page, columns, visit.ledger.checks_between(on_page, first, last), failed),
        by_day=[by_day[day] for day in columns],
        months=months(columns),
        borders={"usual": USUAL, "rather_usual": RATHER_USUAL, "very_rare": VERY_RARE},
        days=days,
        show=show,
        tag=tag,
        shows=[name for name in shows if name],
    )
