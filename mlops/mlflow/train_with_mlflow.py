"""The documented training script and its functions.

    python mlops/mlflow/train_with_mlflow.py --strategy growth [--promote]

Exit code 0 where a version was registered (with `--promote`: whether it was promoted or refused), 2 for an error.
"""

from __future__ import annotations

import argparse
import sys
from datetime import date

from mlops.bootstrap import connect
from mlops.domain.errors import AcisError
from mlops.domain.policies import strategy_of_model
from mlops.domain.records import Kind, RunView, Stage
from mlops.invocation import command_line_actor, command_log
from mlops.reporting.narrative import error_of, is_error
from mlops.reporting.terminal import ERROR, OK, StageDisplay, err, guarded, out, print_json
from mlops.runs.launch import launch
from mlops.runs.request import run_request


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
    view = train(
        strategy,
        promote=promote,
        min_accuracy=min_accuracy,
        as_of=as_of,
        folds=folds,
        leak_check=leak_check,
        incremental=incremental,
        tune=tune,
        queue=False,
        display=StageDisplay(quiet=True),
    )
    result = _result(view, Stage.TRAIN)
    if is_error(view) or "mlflow_run_id" not in result:
        raise TrainingFailed(error_of(view))
    return str(result["mlflow_run_id"])


def promote_model_to_production(model_name: str, min_accuracy: float | None = None) -> bool:
    """Put the model's newest Staging version into Production if it meets the policy; whether it did.

    `min_accuracy` None: the policy's (0.70). Raises PromotionFailed, UnknownStrategy, LedgerUnavailable.
    """
    display = StageDisplay(quiet=True)
    services = connect()
    request = run_request(
        services.policies,
        strategy_of_model(model_name),
        Kind.PROMOTE,
        reason="promote_model_to_production",
        requested_by=command_line_actor(),
        min_accuracy=min_accuracy,
    )
    view = launch(services, request, queue=False, on_accept=display.accepted, on_stage=display.stage)
    if is_error(view):
        raise PromotionFailed(error_of(view))
    return bool(_result(view, Stage.PROMOTE).get("promoted"))


def train(  # noqa: PLR0913 -- one keyword per option of the script
    strategy: str,
    *,
    promote: bool,
    min_accuracy: float | None,
    as_of: date | None,
    queue: bool,
    display: StageDisplay,
    folds: int | None = None,
    leak_check: bool | None = None,
    incremental: bool = False,
    tune: int | None = None,
) -> RunView:
    """Run a training, and a promotion where asked, and wait for its end."""
    services = connect()
    request = run_request(
        services.policies,
        strategy,
        Kind.RETRAIN if promote else Kind.TRAIN,
        reason="asked for on the command line",
        requested_by=command_line_actor(),
        as_of=as_of,
        min_accuracy=min_accuracy,
        folds=folds,
        leak_check=leak_check,
        incremental=incremental,
        tune=tune,
    )
    return launch(services, request, queue=queue, on_accept=display.accepted, on_stage=display.stage)


def main(arguments: list[str] | None = None) -> int:
    """The script."""
    parser = argparse.ArgumentParser(description="Train a strategy's model and register it in MLflow.")
    parser.add_argument("--strategy", required=True)
    parser.add_argument("--promote", action="store_true", help="promote to Production if it meets the policy")
    parser.add_argument("--min-accuracy", type=float, help="gate in place of the policy's")
    parser.add_argument("--as-of", type=date.fromisoformat, metavar="DATE", help="train as of this day")
    parser.add_argument("--folds", type=int, metavar="N", help="walk-forward folds in place of the policy's; 0: none")
    parser.add_argument(
        "--leak-check", action="store_true", default=None, help="measure the documented random split as well"
    )
    parser.add_argument("--tune", type=int, metavar="N", help="search parameters in N trials first")
    parser.add_argument("--incremental", action="store_true", help="continue the champion on recent days, fast")
    parser.add_argument("--queue", action="store_true", help="let the workers do it, and follow")
    parser.add_argument("--json", action="store_true", help="print the run as JSON")
    options = parser.parse_args(arguments)
    command_log()

    def body() -> int:
        display = StageDisplay(quiet=options.json)
        if not options.json:
            out.print(f"Training XGBoost model for {options.strategy}...")
        with display.live():
            view = train(
                options.strategy,
                promote=options.promote,
                min_accuracy=options.min_accuracy,
                as_of=options.as_of,
                folds=options.folds,
                leak_check=options.leak_check,
                incremental=options.incremental,
                tune=options.tune,
                queue=options.queue,
                display=display,
            )
        if options.json:
            print_json(view)
        elif is_error(view):
            err.print(f"Error: {error_of(view)}", style="red", markup=False)
        return ERROR if is_error(view) else OK

    return guarded(body)


def _result(view: RunView, stage: Stage) -> dict[str, object]:
    return next((item.result or {} for item in view.stages if item.stage is stage), {})


if __name__ == "__main__":
    sys.exit(main())
