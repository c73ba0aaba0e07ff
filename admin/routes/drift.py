"""Data drift: every strategy's newest check and rule, and checks of one, some or all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

from fastapi import Form
from starlette.responses import Response

from admin.listing import shown_strategies
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.responses import NothingChosen, NotValid
from mlops.domain.policies import DriftPolicy
from mlops.domain.records import Kind, Stage
from mlops.ledger.queries.checks import CheckLine
from mlops.ledger.queries.strategy_status import OpenRun
from mlops.strategies.book import Unfit
from mlops.strategies.overlay import is_edit
from tasks import dispatch

pages = Pages()

CHECKS = 30
"""In a spark line."""
_NAMED = 3
Show = Literal["", "drifted", "stable", "insufficient", "never checked", "edited", "checking now"]
Which = Literal["chosen", "found", "all"]


@dataclass(frozen=True, kw_only=True)
class DriftLine:
    """A strategy in the table."""

    strategy: str
    check: CheckLine | None
    policy: DriftPolicy
    is_edited: bool
    """A person set a value of its drift policy on top of the file."""
    fault: str
    """Why its edits do not fit; then `policy` is the file's"""
    checking: OpenRun | None

    @property
    def verdict(self) -> str:
        """Of the newest check."""
        return (self.check.verdict or "") if self.check else ""

    @property
    def as_of(self) -> date | None:
        """Of the newest check."""
        return self.check.as_of if self.check else None


SORTS: Mapping[str, Callable[[DriftLine], Any]] = {
    "strategy": lambda line: line.strategy,
    "verdict": lambda line: line.verdict or None,
    "share": lambda line: line.check.share if line.check else None,
    "p": lambda line: line.check.p_value if line.check else None,
    "check": lambda line: line.as_of,
    "threshold": lambda line: line.policy.alert_share,
}
SHOWS: Mapping[str, Callable[[DriftLine], bool]] = {
    "": lambda _: True,
    "drifted": lambda line: line.verdict == "drifted",
    "stable": lambda line: line.verdict == "stable",
    "insufficient": lambda line: line.verdict == "insufficient",
    "never checked": lambda line: line.check is None,
    "edited": lambda line: line.is_edited or bool(line.fault),
    "checking now": lambda line: line.checking is not None,
}


@pages.get("/drift", action="drift.read")
def drift(context: Context, q: str = "", sort: str = "", page: int = 1, show: Show = "", tag: str = "") -> Response:
    """The table of strategies."""
    lines = _lines(context)
    listed = shown_strategies(context, lines, keep=SHOWS[show], tag=tag, q=q, sort=sort, page=page, sorts=SORTS)
    names = [line.strategy for line in listed.rows]
    return context.show(
        "drift.html",
        title="Data drift",
        list=listed,
        show=show,
        tag=tag,
        shows=[name for name in SHOWS if name],
        checks={name: found[-CHECKS:] for name, found in context.ledger.recent_points(names, limit=CHECKS).items()},
        totals=_totals(lines),
    )


@pages.post("/drift/check", action="drift.check")
def check(
    context: Context,
    strategy: Annotated[list[str] | None, Form()] = None,
    which: Annotated[Which, Form()] = "chosen",
    q: Annotated[str, Form(max_length=100)] = "",
    show: Annotated[Show, Form()] = "",
    tag: Annotated[str, Form(max_length=32)] = "",
) -> Response:
    """A drift check, on a worker, of the chosen strategies, of all that a search found, or of all."""
    names = _asked_for(context, which, strategy or [], q=q, show=show, tag=tag)
    context.note(subject=", ".join(names) if len(names) <= _NAMED else f"{len(names)} strategies", which=which)
    if not names:
        raise NothingChosen("no strategy was chosen; tick some in the table, or check all")
    begun = context.now
    waiting = [run.created_at for run in context.ledger.open_runs() if run.kind is Kind.CHECK and run.strategy in names]
    started = dispatch.start_many(
        names,
        Kind.CHECK,
        reason="asked for on the page",
        requested_by=context.person.actor,
        address=context.person.address,
    )
    failed = [one for one in started if one.accepted is None]
    accepted = [one.accepted for one in started if one.accepted is not None]
    joined = sum(not one.created for one in accepted)
    words = f"{len(accepted) - joined} of {len(names)} checks begun." if len(names) > 1 else "The check has begun."
    if joined:
        words += f" {joined} already ran." if len(names) > 1 else " It already ran."
    if failed:
        words += f" {len(failed)} could not begin: {failed[0].error}"
    to = f"/admin/drift/checks?since={min([begun, *waiting]).strftime('%Y-%m-%dT%H:%M:%S.%fZ')}"
    if len(names) == 1 and accepted:
        to = f"/admin/drift/reports/{accepted[0].run_id}"
    if not accepted:
        raise NotValid(words)
    return context.done(words, to=to, runs={one.strategy: one.accepted.run_id for one in started if one.accepted})


def checking_runs(context: RequestContext) -> dict[str, OpenRun]:
    """By strategy, the run that checks its drift now or waits to."""
    return {
        run.strategy: run
        for run in context.ledger.open_runs()
        if run.stage == Stage.DRIFT or (run.stage is None and run.kind in (Kind.CHECK, Kind.PIPELINE))
    }


def _lines(context: RequestContext) -> list[DriftLine]:
    names = list(context.services.strategies)
    checks = context.ledger.newest_of_each(names)
    running = checking_runs(context)
    lines = []
    for name, settled in context.services.policies.all_settled().items():
        base = context.services.strategies.settled(name) if isinstance(settled, Unfit) else settled
        lines.append(
            DriftLine(
                strategy=name,
                check=checks.get(name),
                policy=base.strategy.drift,
                is_edited=any(path.startswith("drift.") and is_edit(origin) for path, origin in base.origins.items()),
                fault=str(settled.error) if isinstance(settled, Unfit) else "",
                checking=running.get(name),
            )
        )
    return lines


def _asked_for(context: RequestContext, which: Which, chosen: list[str], *, q: str, show: Show, tag: str) -> list[str]:
    if which == "all":
        return list(context.services.strategies)
    if which == "found":
        found = shown_strategies(context, _lines(context), keep=SHOWS[show], tag=tag, q=q, sorts=SORTS, n_rows=None)
        return [line.strategy for line in found.rows]
    return list(dict.fromkeys(chosen))


def _totals(lines: list[DriftLine]) -> dict[str, int]:
    return {
        "strategies": len(lines),
        "drifted": sum(line.verdict == "drifted" for line in lines),
        "stable": sum(line.verdict == "stable" for line in lines),
        "insufficient": sum(line.verdict == "insufficient" for line in lines),
        "never checked": sum(line.check is None for line in lines),
        "checking now": sum(line.checking is not None for line in lines),
    }
