"""The documented drift script and its functions.

    python mlops/drift_detection/drift_detector.py --strategy growth --alert-threshold 0.3

Exit code 1 where retraining is needed, 0 where not, 2 for an error.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.domain.policies import Reference, Rule
from mlops.runs.command_line import (
    AsJson,
    AsOf,
    DriftThreshold,
    OnWorkers,
    StrategyName,
    StrategyOption,
    command,
    run_option,
    run_script,
)

if TYPE_CHECKING:
    import pandas as pd


class DriftCheckFailed(RuntimeError):
    """The check ended without a verdict; the message says why."""


def monitor_drift_and_alert(
    strategy: str,
    alert_threshold: float | None = None,
    *,
    as_of: date | None = None,
) -> bool:
    """Return True where the strategy's features have drifted, so that retraining is needed.

    `alert_threshold` is the share of features that must have drifted; None: the policy's (0.3).
    The check and its report are in the ledger afterwards. Raises DriftCheckFailed, UnknownStrategy,
    LedgerUnavailable, NothingConfigured.

    >>> monitor_drift_and_alert("growth", as_of=date(2008, 10, 10))  # in the crash, on the sample
    True
    """
    from mlops.domain.records import Kind, Stage
    from mlops.reporting.narrative import error_of, is_error, result_of
    from mlops.reporting.terminal import StageDisplay
    from mlops.runs.launch import command_run
    from tasks.services import connect

    view = command_run(
        connect(), strategy, Kind.CHECK, StageDisplay(quiet=True), as_of=as_of, drift_threshold=alert_threshold
    )
    if is_error(view):
        raise DriftCheckFailed(error_of(view))
    return bool(result_of(view, Stage.DRIFT).get("retrain"))


def load_data_for_drift_detection(
    db_url: str,
    strategy: str,
    *,
    as_of: date | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load reference and current rows of a strategy's features, as the drift check would read them.

    Windows are those of the strategies file (90 and 7 days), the current one longer where that has too few rows for a
    verdict. Raises UnknownStrategy, SourceUnavailable.

    >>> from mlops.bootstrap import connect
    >>> url = connect().settings.database_url.get_secret_value()
    >>> reference, current = load_data_for_drift_detection(url, "growth")
    >>> reference["date"].max() < current["date"].min()
    True
    """
    from mlops.domain.windows import resolve_as_of
    from mlops.features.source import open_source
    from mlops.stages.drift_windows import read_windows, with_enough_rows
    from tasks.services import connect

    services = connect()
    settings = services.settings
    source = open_source(db_url, relation=settings.feature_relation, time_zone=settings.feature_time_zone)
    policy = services.strategies[strategy]
    without_history = replace(policy, drift=replace(policy.drift, calibration_days=0))
    with source.snapshot() as one:
        decided = resolve_as_of(as_of, without_history, one, today=services.feature_day())
        fitting = with_enough_rows(one, without_history, as_of=decided)
        read = read_windows(one, fitting, as_of=decided, today=services.feature_day())
    columns = ["ticker", "date", *read.features]
    return read.reference.select(columns).to_pandas(), read.current.select(columns).to_pandas()


@command
def check(
    strategy: StrategyName,
    alert_threshold: DriftThreshold = None,
    rule: Annotated[Rule | None, run_option("drift_rule")] = None,
    reference: Annotated[Reference | None, run_option("reference")] = None,
    as_of: AsOf = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report's page to this file.")] = None,
    queue: OnWorkers = False,
    json: AsJson = False,
) -> int:
    """Check a strategy's features for drift. Exit code 1 where retraining is needed."""
    from mlops.domain.records import Kind, Stage
    from mlops.reporting.narrative import is_error, result_of
    from mlops.reporting.report_files import page_place, save_page
    from mlops.reporting.terminal import ERROR, FINDING, OK, err, out
    from mlops.runs.launch import command_run, shown
    from tasks.services import connect

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


def main(arguments: list[str] | None = None) -> int:
    """The script."""
    return run_script(check, arguments, strategy=StrategyOption)


if __name__ == "__main__":
    sys.exit(main())
