"""The documented training script and its functions.

    python mlops/mlflow/train_with_mlflow.py --strategy growth [--promote]

Exit code 0 where a version was registered (with `--promote`: whether it was promoted or refused), 2 for an error.
"""

from __future__ import annotations

import sys
from datetime import date
from typing import Annotated

import typer

from mlops.domain.errors import AcisError
from mlops.domain.policies import strategy_of_model
from mlops.runs.command_line import (
    AsJson,
    AsOf,
    MinAccuracy,
    OnWorkers,
    StrategyName,
    StrategyOption,
    command,
    run_option,
    run_script,
)


class TrainingFailed(AcisError):
    """The training ended without a version; the message says why."""


class PromotionFailed(AcisError):
    """The promotion ended without a decision; the message says why."""


def train_model_with_mlflow(
    strategy: str,
    *,
    promote: bool = False,
    min_accuracy: float | None = None,
    as_of: date | None = None,
    folds: int | None = None,
    leak_check: bool | None = None,
    incremental: bool = False,
    tune: int | None = None,
) -> str:
    """Train, evaluate and register a strategy's model; the MLflow run's id.

    `incremental`: continue the champion on recent days; in full, with a warning in the run, where there is none.
    `tune`: search parameters in so many trials first.
    The version waits in Staging unless `promote`. Raises TrainingFailed, UnknownStrategy, LedgerUnavailable.

    >>> mlflow_run_id = train_model_with_mlflow("value")
    >>> len(mlflow_run_id)
    32
    >>> promote_model_to_production("acis_value_classifier", min_accuracy=0.99)
    False
    """
    from mlops.domain.records import Kind, Stage
    from mlops.reporting.narrative import error_of, is_error, result_of
    from mlops.reporting.terminal import StageDisplay
    from mlops.runs.launch import command_run
    from tasks.services import connect

    view = command_run(
        connect(),
        strategy,
        Kind.RETRAIN if promote else Kind.TRAIN,
        StageDisplay(quiet=True),
        min_accuracy=min_accuracy,
        as_of=as_of,
        folds=folds,
        leak_check=leak_check,
        incremental=incremental,
        tune=tune,
    )
    result = result_of(view, Stage.TRAIN)
    if is_error(view) or "mlflow_run_id" not in result:
        raise TrainingFailed(error_of(view))
    return str(result["mlflow_run_id"])


def promote_model_to_production(model_name: str, min_accuracy: float | None = None) -> bool:
    """Put the model's newest Staging version into Production if it meets the policy; whether it did.

    `min_accuracy` None: the policy's (0.70). Raises PromotionFailed, UnknownStrategy, LedgerUnavailable.
    """
    from mlops.domain.records import Kind, Stage
    from mlops.reporting.narrative import error_of, is_error, result_of
    from mlops.reporting.terminal import StageDisplay
    from mlops.runs.launch import command_run
    from tasks.services import connect

    view = command_run(
        connect(),
        strategy_of_model(model_name),
        Kind.PROMOTE,
        StageDisplay(quiet=True),
        reason="promote_model_to_production",
        min_accuracy=min_accuracy,
    )
    if is_error(view):
        raise PromotionFailed(error_of(view))
    return bool(result_of(view, Stage.PROMOTE).get("promoted"))


@command
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
) -> int:
    """Train, evaluate and register a strategy's model in MLflow."""
    from mlops.domain.records import Kind
    from mlops.reporting.narrative import is_error
    from mlops.reporting.terminal import ERROR, OK, out
    from mlops.runs.launch import command_run, shown
    from tasks.services import connect

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


def main(arguments: list[str] | None = None) -> int:
    """The script."""
    return run_script(train, arguments, strategy=StrategyOption)


if __name__ == "__main__":
    sys.exit(main())
