"""`acis runs`, `cancel`, `requeue` and `registry`: what is under way, and whether the registry agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.invocation import command_line_actor
from mlops.runs.command_line import AsJson, RunId, StrategyName, Tags, command

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.bootstrap import Services
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


# ---- `acis registry`: what is wrong with the model registry, and what a person does about it

app = typer.Typer(
    help="What the registry lost or holds under another's number, and how it is mended.", invoke_without_command=True
)
_Strategies = Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")]
_Reason = Annotated[str, typer.Option(help="Why; kept in the ledger and the audit.")]


@app.callback()
def findings(context: typer.Context, json: AsJson = False) -> None:
    """Show what stops promotions, and what could not be rolled back to. Exit code 1 where there is something."""
    if context.invoked_subcommand is None:
        _show_findings(json=json)


@command
def _show_findings(*, json: bool) -> int:
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from tasks.services import connect

    ledger = connect().ledger
    found = [*ledger.registry_findings(), *ledger.damaged_targets()]
    if json:
        print_json(found)
    for finding in () if json else found:
        out.print(f"{finding.strategy}, since {finding.found_at:%Y-%m-%d %H:%M} UTC: {finding.words}", markup=False)
    if not found and not json:
        out.print("Nothing is wrong with the registry.")
    return FINDING if found else OK


@app.command()
@command
def restore(
    strategies: _Strategies = None,
    reason: _Reason = "the registry had lost it",
    artifacts: Annotated[
        list[Path] | None, typer.Option(help="A folder where MLflow's artifacts may still lie; may be given again.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Register the ledger's champions again where the registry lost them, and show them in Production.

    The model files come from MLflow's own runs, from the checkpoints' store, or from --artifacts, and are taken only
    with the digest that the ledger knows. A registry that a champion was restored to counts as the true one. Exit code
    1 where a champion is gone.
    """
    from mlops.invocation import command_line_actor
    from mlops.registry.kept_models import restore as restored
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from tasks.services import connect

    services = connect()
    own = services.settings.var_dir / "mlflow-artifacts"
    folders = [*(artifacts or ()), *([own] if own.is_dir() else [])]
    found = [
        restored(services, services.policies[name], actor=command_line_actor(), reason=reason, folders=folders)
        for name in _named(services, strategies)
    ]
    if json:
        print_json(found)
    for one in () if json else found:
        out.print(f"{one.strategy}: {one.words}", markup=False)
    return FINDING if any(one.state == "gone" for one in found) else OK


@app.command()
@command
def accept(
    reason: _Reason,
    strategies: _Strategies = None,
    json: AsJson = False,
) -> int:
    """Say that the registry which is there now is the true one: promotions go on, and numbers may be given again.

    A champion that it lost is gone for good then: the next version that passes its gates takes the place.
    """
    from mlops.domain.errors import ConfigurationError
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import OK, out, print_json
    from tasks.services import connect

    if len(reason.strip()) < 3:
        raise ConfigurationError("an acceptance is kept with its reason; give --reason")
    services = connect()
    names = _named(services, strategies)
    settled = {name: services.ledger.accept_registry(name, actor=command_line_actor(), reason=reason) for name in names}
    if json:
        print_json(settled)
    for name, n_settled in () if json else settled.items():
        out.print(f"{name}: accepted, {n_settled} findings settled", markup=False)
    return OK


@app.command()
@command
def record(
    strategy: StrategyName,
    version: Annotated[str, typer.Argument(help="Number of the version in MLflow.")],
    reason: Annotated[str, typer.Option(help="How you know that the file is what it should be; kept in the audit.")],
    json: AsJson = False,
) -> int:
    """Record the digest of a version's file as it lies in MLflow now, for one that no training here registered.

    From then on the version can be judged like any other (`acis promote STRATEGY --version VERSION`), and its file is
    used as long as it keeps this digest. Refused where the ledger knows another file by that number.
    """
    from mlops.invocation import command_line_actor
    from mlops.registry.adoption import record_version
    from mlops.reporting.terminal import OK, out, print_json
    from tasks.services import connect

    services = connect()
    known = services.policies[strategy]
    found = record_version(
        services.ledger, services.registry, known, version, actor=command_line_actor(), reason=reason
    )
    words = f"version {version} of {known.model_name!r} is recorded as sha256 {found.sha256}, made by {found.made_by}"
    print_json({"strategy": strategy, "version": version, "sha256": found.sha256}) if json else out.print(words)
    return OK


def _named(services: Services, strategies: list[str] | None) -> list[str]:
    """The strategies that were named, or all. Raises UnknownStrategy."""
    return [services.strategies[name].name for name in strategies or services.strategies]
