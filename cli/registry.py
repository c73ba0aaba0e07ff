"""`acis registry`: what is wrong with the model registry, and what a person does about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, command

if TYPE_CHECKING:
    from mlops.bootstrap import Services

app = typer.Typer(
    help="What the registry lost or holds under another's number, and how it is mended.", invoke_without_command=True
)
_Strategies = Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")]
_Reason = Annotated[str, typer.Option(help="Why; kept in the ledger and the audit.")]


@app.callback()
def findings(context: typer.Context, json: AsJson = False) -> None:
    """Show what stops promotions. Exit code 1 where something does."""
    if context.invoked_subcommand is None:
        _show_findings(json=json)


@command
def _show_findings(*, json: bool) -> int:
    from mlops.reporting.terminal import FINDING, OK, out, print_json
    from tasks.services import connect

    found = connect().ledger.registry_findings()
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


def _named(services: Services, strategies: list[str] | None) -> list[str]:
    """The strategies that were named, or all. Raises UnknownStrategy."""
    return [services.strategies[name].name for name in strategies or services.strategies]
