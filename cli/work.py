"""`acis check`, `acis train`, `acis retrain`; the documented scripts are the same commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import AsJson, AsOf, DriftThreshold, MinAccuracy, OnWorkers, StrategyName, Tags, run_option
from mlops.domain.policies import Reference, Rule

if TYPE_CHECKING:
    from mlops.domain.records import RunView
    from mlops.reporting.terminal import StageDisplay


def shown(run: Callable[[StageDisplay], RunView], *, json: bool) -> RunView:
    """The terminal run, shown while it works; at its end as JSON, or its error in words."""
    from mlops.reporting.narrative import error_of, is_error
    from mlops.reporting.terminal import StageDisplay, err, print_json

    display = StageDisplay(quiet=json)
    with display.live():
        view = run(display)
    if json:
        print_json(view)
    elif is_error(view):
        err.print(f"Error: {error_of(view)}", style="red", markup=False)
    return view


def check(
    strategy: StrategyName,
    alert_threshold: DriftThreshold = None,
    rule: Annotated[Rule | None, run_option("drift_rule")] = None,
    reference: Annotated[Reference | None, run_option("reference")] = None,
    as_of: AsOf = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report's page to this file.")] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """Check a strategy's features for drift. Exit code 1 where retraining is needed."""
    from mlops.bootstrap import connect
    from mlops.domain.records import Kind, Stage
    from mlops.reporting.narrative import is_error, result_of
    from mlops.reporting.report_files import page_place, save_page
    from mlops.reporting.terminal import ERROR, FINDING, OK, err, guarded, out
    from mlops.runs.launch import command_run

    def body() -> int:
        if html is not None:
            page_place(html)
        if not json:
            out.print(f"Checking data drift for {strategy}...")
        services = connect()
        view = shown(
            lambda display: command_run(
                services,
                strategy,
                Kind.CHECK,
                display,
                queue=queue,
                as_of=as_of,
                drift_threshold=alert_threshold,
                drift_rule=rule,
                reference=reference,
            ),
            json=json,
        )
        if is_error(view):
            return ERROR
        if html is not None:
            save_page(services.ledger, view.run_id, html)
            err.print(f"Page written to: {html}", markup=False)
        return FINDING if result_of(view, Stage.DRIFT).get("retrain") else OK

    raise typer.Exit(guarded(body))


def train(
    strategy: StrategyName,
    promote: Annotated[bool, typer.Option("--promote", help="Promote where the policy allows.")] = False,
    min_accuracy: MinAccuracy = None,
    folds: Annotated[int | None, run_option("folds", metavar="N")] = None,
    leak_check: Annotated[bool, run_option("leak_check", "--leak-check")] = False,
    tune: Annotated[int | None, run_option("tune", metavar="N")] = None,
    incremental: Annotated[bool, run_option("incremental", "--incremental")] = False,
    as_of: AsOf = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """Train, evaluate and register a strategy's model in MLflow."""
    from mlops.bootstrap import connect
    from mlops.domain.records import Kind
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import ERROR, OK, guarded, out
    from mlops.runs.launch import command_run

    def body() -> int:
        if not json:
            out.print(f"Training XGBoost model for {strategy}...")
        services = connect()
        view = shown(
            lambda display: command_run(
                services,
                strategy,
                Kind.RETRAIN if promote else Kind.TRAIN,
                display,
                queue=queue,
                as_of=as_of,
                min_accuracy=min_accuracy,
                folds=folds,
                leak_check=leak_check or None,
                incremental=incremental,
                tune=tune,
            ),
            json=json,
        )
        return ERROR if is_error(view) else OK

    raise typer.Exit(guarded(body))


def retrain(
    strategies: Annotated[list[str] | None, typer.Argument(help="Default: all strategies.")] = None,
    tag: Tags = None,
    drift_threshold: DriftThreshold = None,
    min_accuracy: MinAccuracy = None,
    as_of: AsOf = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print the summary alone.")] = False,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """The whole loop: drift check, retraining where needed, promotion. Exit code 1 where any had an error."""
    from mlops.bootstrap import connect
    from mlops.reporting.narrative import summary_lines
    from mlops.reporting.terminal import FINDING, OK, StageDisplay, err, guarded, out, print_json
    from mlops.runs import launch

    def body() -> int:
        quiet = json or summary
        display = StageDisplay(quiet=quiet)
        services = connect()
        names = services.strategies.chosen(strategies or (), tag) if tag else strategies or list(services.strategies)
        for name in names:
            services.strategies[name]
        results: list[launch.PipelineResult] = []
        with display.live():
            for name in names:
                if not quiet:
                    out.print(f"Processing strategy: {name}\nChecking data drift for {name}...")
                result = launch.pipeline_pass(
                    services,
                    name,
                    display,
                    queue=queue,
                    as_of=as_of,
                    drift_threshold=drift_threshold,
                    min_accuracy=min_accuracy,
                )
                results.append(result)
                if result.error:
                    err.print(f"Error: {name}: {result.error}", style="red", markup=False)
                if not quiet:
                    out.print()
        numbers = launch.summary(results)
        if json:
            print_json({"summary": numbers, "runs": results})
        else:
            out.print("\n".join(summary_lines(numbers)))
        return FINDING if numbers["errors"] else OK

    raise typer.Exit(guarded(body))
