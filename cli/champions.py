"""`acis promote`, `acis rollback`, `acis compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.runs.command_line import AsJson, MinAccuracy, OnWorkers, StrategyName, command, run_option

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.table import Table

    from mlops.bootstrap import Services
    from mlops.domain.records import RunView
    from mlops.reporting.terminal import StageDisplay


@command
def promote(
    strategy: StrategyName,
    version: Annotated[str | None, run_option("version")] = None,
    min_accuracy: MinAccuracy = None,
    override: Annotated[str | None, run_option("override", metavar="REASON")] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Judge a challenger and put it into Production where the policy allows. Exit code 1 where it is refused."""
    from mlops.domain.records import Kind
    from mlops.runs.launch import command_run
    from tasks.services import connect

    services = connect()
    return _decided(
        lambda display: command_run(
            services,
            strategy,
            Kind.PROMOTE,
            display,
            queue=queue,
            version=version,
            min_accuracy=min_accuracy,
            override=override,
        ),
        json=json,
    )


@command
def rollback(
    strategy: StrategyName,
    to: Annotated[str, typer.Option(help="Former champion that becomes the champion again.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the promotion.")],
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Make a former champion the champion again; any other version is refused, since it passed no gate."""
    from mlops.invocation import command_line_actor
    from mlops.reporting.terminal import OK, out, print_json
    from mlops.runs.launch import launch
    from mlops.runs.request import rollback_request
    from tasks.services import connect

    services = connect()
    if services.ledger.champion(strategy).version == to:
        words = f"version {to} is the champion of {strategy!r} already; nothing was changed"
        print_json({"strategy": strategy, "version": to, "words": words}) if json else out.print(words)
        return OK
    request = rollback_request(
        services.policies, services.ledger, strategy, to, reason=reason, requested_by=command_line_actor()
    )
    return _decided(
        lambda display: launch(services, request, queue=queue, on_accept=display.accepted, on_stage=display.stage),
        json=json,
    )


@command
def compare(
    strategies: Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")] = None,
    stage: Annotated[str, typer.Option(help="Production, Staging, Archived or None.")] = "Production",
    version: Annotated[
        list[str] | None, typer.Option(help="Twice, with one strategy: the second is tested against the first.")
    ] = None,
    json: AsJson = False,
) -> int:
    """Metrics of the strategies' models in one stage side by side, or of two versions of one strategy with the test."""
    from mlops.domain.errors import ConfigurationError
    from mlops.mlflow.mlflow_client import ACISMLflowClient
    from mlops.reporting.terminal import out, print_json
    from tasks.services import connect

    services = connect()
    if version:
        if len(version) != 2 or len(strategies or []) != 1:
            message = "two versions of one strategy are compared: acis compare STRATEGY --version 1 --version 2"
            raise ConfigurationError(message)
        return _compare_versions(services, (strategies or [""])[0], version[0], version[1], json)
    names = [services.strategies[name].model_name for name in strategies or services.strategies]
    frame = ACISMLflowClient().compare_models(names, stage=stage)
    if json:
        print_json(frame.astype(object).where(frame.notna(), None).to_dict("records"))
    else:
        out.print(_side_by_side(frame) if len(frame) else f"No model is in stage {stage}.")
    return 0


def _side_by_side(frame: DataFrame) -> Table:
    """One row per model; metrics that no model has are left out."""
    from rich.table import Table

    named = [name for name in frame.columns if name not in ("model_name", "version") and frame[name].notna().any()]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("version", *named):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold", min_width=5)
    for row in frame.to_dict("records"):
        cells = ["" if row[name] != row[name] else f"{row[name]:.3f}" for name in named]
        table.add_row(str(row["model_name"]), f"v{row['version']}", *cells)
    return table


def _compare_versions(services: Services, strategy: str, first: str, second: str, json: bool) -> int:
    from rich.table import Table

    from mlops.domain.training.metric_names import COUNTS
    from mlops.reporting.terminal import out, print_json
    from mlops.stages.paired_evaluation import compare_versions

    found = compare_versions(
        services.registry, services.source, services.policies[strategy], first, second, today=services.feature_day()
    )
    if json:
        print_json(found)
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("as logged, on its own held-out dates")
    for one in (found.champion, found.challenger):
        table.add_column(f"v{one.version} ({one.stage})", justify="right")
    for name in sorted(set(found.champion.metrics) | set(found.challenger.metrics)):
        cells = [one.metrics.get(name) for one in (found.champion, found.challenger)]
        form = ",.0f" if name in COUNTS else ".4f"
        table.add_row(name, *("" if cell is None else format(cell, form) for cell in cells))
    out.print(table)
    for line in (f"v{second} against v{first}: {found.words}", *found.findings):
        out.print(line, markup=False)
    return 0


def _decided(run: Callable[[StageDisplay], RunView], *, json: bool) -> int:
    from mlops.domain.records import RunState
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import ERROR, FINDING, OK
    from mlops.runs.launch import shown

    view = shown(run, json=json)
    if is_error(view):
        return ERROR
    return OK if view.state is RunState.SUCCEEDED else FINDING
