"""`acis promote`, `acis rollback`, `acis compare`."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from mlops.cli.options import AsJson, MinAccuracy, OnWorkers, StrategyName


def promote(
    strategy: StrategyName,
    version: Annotated[str | None, typer.Option(help="Default: the newest in Staging.")] = None,
    min_accuracy: MinAccuracy = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """Judge a challenger and put it into Production where the policy allows. Exit code 1 where it is refused."""
    from mlops.ledger.records import Kind

    raise typer.Exit(
        _decide(strategy, Kind.PROMOTE, version, f"acis promote by {getpass.getuser()}", min_accuracy, queue, json)
    )


def rollback(
    strategy: StrategyName,
    to: Annotated[str, typer.Option(help="Version that becomes the champion again.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")],
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """Make an earlier version the champion again."""
    from mlops.ledger.records import Kind

    raise typer.Exit(_decide(strategy, Kind.ROLLBACK, to, reason, None, queue, json))


def compare(
    strategies: Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")] = None,
    stage: Annotated[str, typer.Option(help="Production, Staging, Archived or None.")] = "Production",
    json: AsJson = False,
) -> None:
    """Metrics of the strategies' models in one stage, side by side."""
    from config.log_setup import set_up_logging
    from mlops.bootstrap import connect
    from mlops.console import guarded, out, print_json
    from mlops.mlflow.mlflow_client import ACISMLflowClient

    def body() -> int:
        services = connect()
        names = [services.strategies[name].model_name for name in strategies or services.strategies]
        frame = ACISMLflowClient().compare_models(names, stage=stage)
        if json:
            print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
        else:
            out.print(frame.to_string() if len(frame) else f"No model is in stage {stage}.", markup=False)
        return 0

    set_up_logging(level="WARNING")
    raise typer.Exit(guarded(body))


def _decide(
    strategy: str, kind: str, version: str | None, reason: str, min_accuracy: float | None, queue: bool, json: bool
) -> int:
    from config.log_setup import set_up_logging
    from mlops.bootstrap import connect
    from mlops.console import ERROR, FINDING, OK, StageDisplay, err, guarded, print_json
    from mlops.ledger.records import Kind, RunState
    from mlops.retraining.launch import launch
    from mlops.retraining.narrative import error_of, is_error
    from mlops.retraining.run_requests import run_request

    set_up_logging(level="WARNING")

    def body() -> int:
        services = connect()
        request = run_request(
            services.strategies,
            strategy,
            Kind(kind),
            reason=reason,
            requested_by=getpass.getuser(),
            version=version,
            min_accuracy=min_accuracy,
        )
        display = StageDisplay(quiet=json)
        with display.live():
            view = launch(services, request, queue=queue, on_accept=display.accepted, on_stage=display.stage)
        if json:
            print_json(view)
        elif is_error(view):
            err.print(f"Error: {error_of(view)}", style="red", markup=False)
        if is_error(view):
            return ERROR
        return OK if view.state is RunState.SUCCEEDED else FINDING

    return guarded(body)
