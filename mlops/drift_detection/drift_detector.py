"""The documented drift script and its functions.

    python mlops/drift_detection/drift_detector.py --strategy growth --alert-threshold 0.3

Exit code 1 where retraining is needed, 0 where not, 2 for an error.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mlops.bootstrap import connect
from mlops.domain.policies import Reference, Rule
from mlops.domain.records import Kind, RunView, Stage
from mlops.invocation import command_line_actor, command_log
from mlops.reporting.narrative import error_of, is_error
from mlops.reporting.report_files import page_place, save_page
from mlops.reporting.terminal import ERROR, FINDING, OK, StageDisplay, err, guarded, out, print_json
from mlops.runs.launch import launch
from mlops.runs.request import run_request

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

    >>> monitor_drift_and_alert("growth", as_of=date(2020, 3, 16))  # in the crash, on the sample
    True
    """
    view = check(strategy, alert_threshold, as_of=as_of, queue=False, display=StageDisplay(quiet=True))
    if is_error(view):
        raise DriftCheckFailed(error_of(view))
    return needs_retraining(view)


def load_data_for_drift_detection(
    db_url: str,
    strategy: str,
    *,
    as_of: date | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load reference and current rows of a strategy's features, as the drift check would read them.

    Windows are those of the strategies file (90 and 7 days), the current one longer where that has too few rows for a
    verdict. Raises UnknownStrategy, SourceUnavailable.

    >>> url = connect().settings.database_url.get_secret_value()
    >>> reference, current = load_data_for_drift_detection(url, "growth")
    >>> reference["date"].max() < current["date"].min()
    True
    """
    from mlops.features.source import open_source  # noqa: PLC0415 -- pandas and Arrow only where they are used
    from mlops.stages.as_of import resolve_as_of  # noqa: PLC0415
    from mlops.stages.drift_windows import read_windows, with_enough_rows  # noqa: PLC0415

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


def check(
    strategy: str,
    alert_threshold: float | None,
    *,
    as_of: date | None,
    queue: bool,
    display: StageDisplay,
    rule: Rule | None = None,
    reference: Reference | None = None,
) -> RunView:
    """Run a drift check and wait for its end."""
    services = connect()
    request = run_request(
        services.policies,
        strategy,
        Kind.CHECK,
        reason="asked for on the command line",
        requested_by=command_line_actor(),
        as_of=as_of,
        drift_threshold=alert_threshold,
        drift_rule=rule,
        reference=reference,
    )
    return launch(services, request, queue=queue, on_accept=display.accepted, on_stage=display.stage)


def needs_retraining(view: RunView) -> bool:
    """Return the finished check's answer."""
    return any(bool((stage.result or {}).get("retrain")) for stage in view.stages if stage.stage is Stage.DRIFT)


def exit_code(view: RunView) -> int:
    """Return 0 where no retraining is needed, 1 where it is, 2 without an answer."""
    if is_error(view):
        return ERROR
    return FINDING if needs_retraining(view) else OK


def main(arguments: list[str] | None = None) -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description="Check a strategy's features for drift.")
    parser.add_argument("--strategy", required=True)
    parser.add_argument(
        "--alert-threshold", type=float, help="share of features that must have drifted (default: policy's, 0.3)"
    )
    parser.add_argument("--rule", choices=get_args(Rule), help="rule in force (default: policy's, calibrated)")
    parser.add_argument(
        "--reference", choices=get_args(Reference), help="what to compare with (default: policy's, trailing)"
    )
    parser.add_argument("--as-of", type=date.fromisoformat, metavar="DATE", help="check as of this day")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report's page to this file")
    parser.add_argument("--queue", action="store_true", help="let the workers do it, and follow")
    parser.add_argument("--json", action="store_true", help="print the run as JSON")
    options = parser.parse_args(arguments)
    command_log()

    def body() -> int:
        if options.html is not None:
            page_place(options.html)
        display = StageDisplay(quiet=options.json)
        if not options.json:
            out.print(f"Checking data drift for {options.strategy}...")
        with display.live():
            view = check(
                options.strategy,
                options.alert_threshold,
                as_of=options.as_of,
                queue=options.queue,
                display=display,
                rule=options.rule,
                reference=options.reference,
            )
        if options.html is not None and not is_error(view):
            save_page(connect().ledger, view.run_id, options.html)
            err.print(f"Page written to: {options.html}", markup=False)
        if options.json:
            print_json(view)
        elif is_error(view):
            err.print(f"Error: {error_of(view)}", style="red", markup=False)
        return exit_code(view)

    return guarded(body)


if __name__ == "__main__":
    sys.exit(main())
