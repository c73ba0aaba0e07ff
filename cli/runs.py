"""`acis runs`, `acis cancel`, `acis requeue`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.invocation import command_line_actor
from mlops.runs.command_line import AsJson, RunId, Tags, command

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.domain.records import RunView


@command
def runs(
    run_id: Annotated[str | None, typer.Argument(help="One run, whole; its id or the beginning of it.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Only this strategy's.")] = None,
    tag: Tags = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that ended by an error, dead ones too.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Only runs whose attempts are used up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    json: AsJson = False,
) -> int:
    """List runs, or show one with its stages."""
    from mlops.domain.records import RunState
    from mlops.domain.run_states import FAILURES
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    ledger = services.ledger
    if run_id is not None:
        view = ledger.run(ledger.full_run_id(run_id))
        if json:
            print_json(view)
        else:
            out.print(_one(view))
        return 0
    names = services.strategies.chosen([strategy] if strategy else [], tag) if tag else None
    states = FAILURES if failed else [RunState.DEAD] if dead else []
    views = ledger.runs(strategy=None if tag else strategy, strategies=names, states=states, limit=limit)
    if json:
        print_json(views)
    else:
        out.print(_table(views) if views else "No runs.")
    return 0


@command
def cancel(run_id: RunId, json: AsJson = False) -> int:
    """Stop a run: a queued one at once, a running one at its next border."""
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    ledger = connect().ledger
    whole_id = ledger.full_run_id(run_id)
    state = ledger.cancel(whole_id, actor=command_line_actor())
    if json:
        print_json({"run_id": whole_id, "state": state})
    else:
        out.print(f"Run {whole_id}: {state}" + ("; asked to stop" if state == "running" else ""))
    return 0


@command
def requeue(run_id: RunId, json: AsJson = False) -> int:
    """Bring a dead run back with fresh attempts."""
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    whole_id = services.ledger.full_run_id(run_id)
    publication = services.ledger.requeue(whole_id, actor=command_line_actor())
    sent = services.dispatcher.publish(publication)
    if json:
        print_json({"run_id": whole_id, "published": sent})
    else:
        out.print(f"Run {whole_id}: queued" + ("" if sent else "; Redis does not answer, it starts when it does"))
    return 0


def _table(views: Sequence[RunView]) -> Table:
    from rich.table import Table

    from mlops.reporting.terminal import short_run_id

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("run", "opened (UTC)", "strategy", "kind", "state", "took"):
        table.add_column(column, no_wrap=True, justify="right" if column == "took" else "left")
    table.add_column("why", min_width=16)
    for view in views:
        table.add_row(
            short_run_id(view.run_id),
            f"{view.created_at:%m-%d %H:%M:%S}",
            view.strategy,
            view.kind,
            view.state,
            _took(view),
            _why(view),
        )
    return table


def _took(view: RunView) -> str:
    from mlops.reporting.terminal import time_left

    if view.finished_at is None:
        return ""
    seconds = (view.finished_at - view.created_at).total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else time_left(seconds)


def _why(view: RunView) -> str:
    """Who asked for the run and why, and what went wrong where it has no answer."""
    from mlops.reporting.narrative import error_of

    error = error_of(view)
    asked = f"{view.reason} ({view.requested_by})"
    return f"{asked}: {error}" if error else asked


def _one(view: RunView) -> str:
    from mlops.reporting.narrative import stage_lines

    lines = [
        f"Run {view.run_id}: {view.kind} of {view.strategy}, {view.state}",
        f"  reason: {view.reason} (by {view.requested_by})",
        f"  opened: {view.created_at:%Y-%m-%d %H:%M:%S} UTC, as of {view.as_of or 'not decided yet'}",
    ]
    for stage in view.stages:
        lines.append(f"\n{stage.stage}: {stage.state}, attempt {stage.attempt}, worker {stage.worker or '-'}")
        if stage.error:
            lines.append(f"  last error: {stage.error}")
        lines += [f"  {line}" for line in stage_lines(view.strategy, view.kind, stage) if line]
    return "\n".join(lines)
