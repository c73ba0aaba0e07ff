"""`acis runs`, `acis cancel`, `acis requeue`."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.options import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.ledger.records import RunView


def runs(
    run_id: Annotated[str | None, typer.Argument(help="One run, whole.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Only this strategy's.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Only runs whose attempts are used up.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    json: AsJson = False,
) -> None:
    """List runs, or show one with its stages."""
    from mlops.bootstrap import connect
    from mlops.console import guarded, out, print_json
    from mlops.ledger.records import RunState

    def body() -> int:
        ledger = connect().ledger
        if run_id is not None:
            view = ledger.run(run_id)
            if json:
                print_json(view)
            else:
                out.print(_one(view))
            return 0
        views = ledger.runs(strategy=strategy, states=[RunState.DEAD] if dead else [], limit=limit)
        if json:
            print_json(views)
        else:
            out.print(_table(views) if views else "No runs.")
        return 0

    raise typer.Exit(guarded(body))


def cancel(run_id: Annotated[str, typer.Argument(help="The run.")], json: AsJson = False) -> None:
    """Stop a run: a queued one at once, a running one at its next border."""
    from mlops.bootstrap import connect
    from mlops.console import guarded, out, print_json

    def body() -> int:
        state = connect().ledger.cancel(run_id, actor=getpass.getuser())
        if json:
            print_json({"run_id": run_id, "state": state})
        else:
            out.print(f"Run {run_id}: {state}" + ("; asked to stop" if state == "running" else ""))
        return 0

    raise typer.Exit(guarded(body))


def requeue(run_id: Annotated[str, typer.Argument(help="A dead run.")], json: AsJson = False) -> None:
    """Bring a dead run back with fresh attempts."""
    from mlops.bootstrap import connect
    from mlops.console import guarded, out, print_json

    def body() -> int:
        services = connect()
        publication = services.ledger.requeue(run_id, actor=getpass.getuser())
        sent = services.dispatcher.publish(publication)
        if json:
            print_json({"run_id": run_id, "published": sent})
        else:
            out.print(f"Run {run_id}: queued" + ("" if sent else "; Redis does not answer, it starts when it does"))
        return 0

    raise typer.Exit(guarded(body))


def _table(views: Sequence[RunView]) -> Table:
    from rich.table import Table

    from mlops.console import out

    # A run's id must be there to be copied; the reason has room on a wide terminal alone.
    is_wide = out.width >= 130
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("run", "strategy", "kind", "as of", "state"):
        table.add_column(column, no_wrap=True)
    if is_wide:
        table.add_column("opened", no_wrap=True)
        table.add_column("took", justify="right", no_wrap=True)
        table.add_column("reason")
    for view in views:
        took = f"{(view.finished_at - view.created_at).total_seconds():.1f} s" if view.finished_at else ""
        more = [f"{view.created_at:%Y-%m-%d %H:%M:%S}", took, view.reason] if is_wide else []
        table.add_row(view.run_id, view.strategy, view.kind, str(view.as_of or ""), view.state, *more)
    return table


def _one(view: RunView) -> str:
    from mlops.retraining.narrative import stage_lines

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
