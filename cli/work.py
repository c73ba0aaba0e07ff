"""`acis check`, `acis train`, `acis retrain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import AsJson, AsOf, DriftThreshold, MinAccuracy, OnWorkers, StrategyName, Tags, day


def check(
    strategy: StrategyName,
    alert_threshold: Annotated[float | None, typer.Option(min=0, max=1, help="Share of features.")] = None,
    rule: Annotated[str | None, typer.Option(help="raw or calibrated, in place of the policy's.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="trailing, champion or season, in place of the policy's.")
    ] = None,
    as_of: AsOf = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report's page to this file.")] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """Check a strategy's features for drift. Exit code 1 where retraining is needed."""
    from mlops.drift_detection.drift_detector import main

    raise typer.Exit(
        main(
            [
                "--strategy",
                strategy,
                *_option("--alert-threshold", alert_threshold),
                *_option("--rule", rule),
                *_option("--reference", reference),
                *_option("--as-of", day(as_of)),
                *_option("--html", html),
                *_flags(queue=queue, json=json),
            ]
        )
    )


def train(
    strategy: StrategyName,
    promote: Annotated[bool, typer.Option("--promote", help="Promote where the policy allows.")] = False,
    min_accuracy: MinAccuracy = None,
    folds: Annotated[
        int | None, typer.Option(min=0, max=20, help="Walk-forward folds for a stability table; 0: none.")
    ] = None,
    leak_check: Annotated[
        bool, typer.Option("--leak-check", help="Measure the documented random split beside the honest one.")
    ] = False,
    tune: Annotated[int | None, typer.Option(min=1, help="Search parameters in so many trials first.")] = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Continue the champion on recent days, in place of a full training.")
    ] = False,
    as_of: AsOf = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> None:
    """Train, evaluate and register a strategy's model."""
    from mlops.mlflow.train_with_mlflow import main

    raise typer.Exit(
        main(
            [
                "--strategy",
                strategy,
                *(["--promote"] if promote else []),
                *_option("--min-accuracy", min_accuracy),
                *_option("--folds", folds),
                *(["--leak-check"] if leak_check else []),
                *_option("--tune", tune),
                *(["--incremental"] if incremental else []),
                *_option("--as-of", day(as_of)),
                *_flags(queue=queue, json=json),
            ]
        )
    )


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
    from mlops.retraining.auto_retrain import main

    raise typer.Exit(
        main(
            [
                *(["--strategies", *strategies] if strategies else []),
                *(["--tags", *tag] if tag else []),
                *_option("--drift-threshold", drift_threshold),
                *_option("--min-accuracy", min_accuracy),
                *_option("--as-of", day(as_of)),
                *(["--summary"] if summary else []),
                *_flags(queue=queue, json=json),
            ]
        )
    )


def _option(name: str, value: object) -> list[str]:
    return [] if value is None else [name, str(value)]


def _flags(*, queue: bool, json: bool) -> list[str]:
    return [*(["--queue"] if queue else []), *(["--json"] if json else [])]
