"""Drift reports: all of them as a list, and each as the page that the check made, in a frame."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, cast

from starlette.responses import JSONResponse, Response

from admin import external_links as places
from admin.listing import PAGE_ROWS
from admin.pages import Pages
from admin.request_context import Context, RequestContext
from admin.responses import NotThere, NotValid
from mlops.domain.records import RunView, Stage
from mlops.domain.run_states import ACTIVE
from mlops.ledger.queries.checks import CHECK_SORTS, CheckSort
from mlops.reporting.report_files import page_of

pages = Pages()

Verdict = Literal["", "drifted", "stable", "insufficient"]
Days = Literal["", "7", "30", "90", "365"]


@pages.get("/drift/reports", action="drift.reports.read")
def reports(
    context: Context, q: str = "", verdict: Verdict = "", days: Days = "", sort: str = "", page: int = 1
) -> Response:
    """Every check of every strategy, newest first unless another order is asked for."""
    column = sort.removeprefix("-") or "made"
    if column not in CHECK_SORTS:
        raise NotValid(f"reports are not sorted by {column!r}; one of: {', '.join(CHECK_SORTS)}")
    newest = context.ledger.newest_as_of(list(context.services.strategies)) if days else None
    page = max(1, page)
    found = context.ledger.sorted_checks(
        strategies=_named(context, q),
        verdict=verdict,
        since=newest - timedelta(days=int(days) - 1) if newest else None,
        sort=cast("CheckSort", column),
        descending=sort.startswith("-") or not sort,
        skip=(page - 1) * PAGE_ROWS,
        limit=PAGE_ROWS + 1,
    )
    return context.show(
        "drift_reports.html",
        title="Drift reports",
        rows=found[:PAGE_ROWS],
        is_last=len(found) <= PAGE_ROWS,
        page=page,
        q=q,
        sort=sort,
        verdict=verdict,
        days=days,
    )


@pages.get("/drift/reports/{run_id}", action="drift.report.read")
def report(context: Context, run_id: str) -> Response:
    """The report of a run's check; before there is one, how far the check is. Raises RunNotFound."""
    run = context.ledger.run(run_id)
    stage = next((stage for stage in run.stages if stage.stage is Stage.DRIFT), None)
    if stage is None:
        raise NotThere(f"run {run_id} is a {run.kind} and checks no drift")
    line = context.ledger.check_of(run_id)
    earlier, later = context.ledger.checks_beside(line) if line and run.namespace == "live" else (None, None)
    return context.show(
        "drift_report.html",
        title=f"Drift of {run.strategy}",
        run=run,
        stage=stage,
        check=line,
        is_active=run.state in ACTIVE,
        n_before=_before(context, run),
        earlier=earlier,
        later=later,
        mlflow=places.mlflow_run(context.services.settings, (stage.result or {}).get("mlflow_report_run_id")),
    )


@pages.get("/drift/reports/{run_id}/page", action="drift.report.page")
def report_page(context: Context, run_id: str, form: Literal["page", "json"] = "page") -> Response:
    """The check's own page, for the frame; the document itself as JSON. Raises ReportNotFound."""
    if form == "json" or context.wants_json:
        return JSONResponse(context.ledger.stored_report(run_id).document)
    return context.embedded(page_of(context.ledger, run_id))


def _named(context: RequestContext, q: str) -> list[str]:
    """Strategies with every word of the search in their name; one that the file has no more is found by its name."""
    wanted = q.lower().split()
    if not wanted:
        return []
    found = [name for name in context.services.strategies if all(word in name.lower() for word in wanted)]
    return found or [q.strip()]


def _before(context: RequestContext, run: RunView) -> int:
    """Runs that wait in front of a waiting one, in all queues."""
    if run.state not in ACTIVE:
        return 0
    waiting = [one for one in context.ledger.open_runs() if one.stage_state == "queued"]
    return sum(one.created_at < run.created_at for one in waiting)
