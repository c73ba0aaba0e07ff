"""Drift checks that were asked for together, while they go on and after: how many are done, and what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from starlette.responses import Response

from admin.listing import shown
from admin.pages import Pages
from admin.refusals import NotValid
from admin.request_context import Visiting
from mlops.domain.records import Kind
from mlops.domain.run_states import ACTIVE
from mlops.ledger.run_lines import RunLine

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
def checks(visit: Visiting, since: str = "", q: str = "", sort: str = "", page: int = 1) -> Response:
    """Of a day; or since a time in ISO 8601, with its zone."""
    begun = _time(since) if since else visit.now - timedelta(days=1)
    lines = visit.ledger.run_lines(kinds=[Kind.CHECK], since=begun, limit=MOST)
    n_done = sum(line.state not in ACTIVE for line in lines)
    return visit.show(
        "drift_checks.html",
        title="Drift checks",
        begun=begun,
        since=since,
        list=shown(lines, q=q, sort=sort, page=page, text=lambda line: line.strategy, sorts=SORTS),
        n_done=n_done,
        left_s=_left_s(lines, n_done, visit.now),
        states=Counter(line.state.value for line in lines),
        verdicts=Counter(line.verdict for line in lines if line.verdict),
        open={run.run_id: run for run in visit.ledger.open_runs() if run.kind is Kind.CHECK},
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
