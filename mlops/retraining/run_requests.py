"""Turns what a caller asks for into a run request with the policy it will be judged by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from mlops.ledger.records import LIVE, Executor, Kind, RunRequest
from mlops.strategies import Rule, Strategy
from mlops.strategy_file import snapshot


def run_request(  # noqa: PLR0913 -- one keyword per thing a caller may ask for
    strategies: Mapping[str, Strategy],
    strategy: str,
    kind: Kind,
    *,
    reason: str,
    requested_by: str,
    run_id: str | None = None,
    slot: str | None = None,
    namespace: str = LIVE,
    as_of: date | None = None,
    drift_threshold: float | None = None,
    drift_rule: Rule | None = None,
    min_accuracy: float | None = None,
    version: str | None = None,
    executor: Executor = Executor.CELERY,
) -> RunRequest:
    """The request. Raises UnknownStrategy. Thresholds left out mean the policy's; given, they are recorded."""
    policy = strategies[strategy].overridden(
        drift_threshold=drift_threshold, drift_rule=drift_rule, min_accuracy=min_accuracy
    )
    given: dict[str, Any] = {
        "drift_threshold": drift_threshold,
        "drift_rule": drift_rule,
        "min_accuracy": min_accuracy,
        "version": version,
    }
    return RunRequest(
        strategy=strategy,
        kind=kind,
        policy=snapshot(policy),
        reason=reason,
        requested_by=requested_by,
        run_id=run_id,
        slot=slot,
        namespace=namespace,
        as_of=as_of,
        params={key: value for key, value in given.items() if value is not None},
        executor=executor,
    )
