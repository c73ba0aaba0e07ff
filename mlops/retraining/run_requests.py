"""Turns what a caller asks for into a run request with the policy it will be judged by."""

from __future__ import annotations

from datetime import date
from typing import Any, Protocol

from mlops.errors import ConfigurationError
from mlops.ledger.records import LIVE, RUN_ID_LENGTH, Executor, Kind, RunRequest
from mlops.strategies import MAX_FOLDS, MAX_TRIALS, Reference, Rule
from mlops.strategy_file import Settled, run_policy

#: Where the policy has what a caller may give instead.
_PATHS = {
    "drift_threshold": "drift.alert_share",
    "drift_rule": "drift.rule",
    "reference": "data.reference",
    "min_accuracy": "promotion.min_accuracy",
    "folds": "training.folds",
    "leak_check": "training.leak_check",
}


class Policies(Protocol):
    """`Services.policies`, or the strategies of a file alone."""

    def settled(self, name: str) -> Settled:
        """A strategy's policy, with each value's origin."""
        ...


def run_request(  # noqa: PLR0913 -- one keyword per thing a caller may ask for
    policies: Policies,
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
    reference: Reference | None = None,
    min_accuracy: float | None = None,
    folds: int | None = None,
    leak_check: bool | None = None,
    incremental: bool = False,
    tune: int | None = None,
    version: str | None = None,
    executor: Executor = Executor.CELERY,
) -> RunRequest:
    """The request. Thresholds left out mean the policy's; given, they are recorded.

    Raises UnknownStrategy, InvalidPolicyEdit, LedgerUnavailable; ConfigurationError for a threshold that is no share
    or an id that is too long.
    """
    if run_id is not None and not 0 < len(run_id) <= RUN_ID_LENGTH:
        message = (
            f"run id of {len(run_id)} characters, which begins {run_id[:40]!r}, cannot be kept; "
            f"give the task an id of 1 to {RUN_ID_LENGTH} characters"
        )
        raise ConfigurationError(message)
    if drift_threshold is not None and not 0 < drift_threshold <= 1:
        message = f"alert threshold {drift_threshold} is no share of features; give more than 0 and at most 1"
        raise ConfigurationError(message)
    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        message = f"accuracy {min_accuracy} is no share of predictions; give 0 to 1"
        raise ConfigurationError(message)
    if folds is not None and not 0 <= folds <= MAX_FOLDS:
        message = f"{folds} folds cannot be made; give 0 (none) to {MAX_FOLDS}"
        raise ConfigurationError(message)
    if tune is not None and not 1 <= tune <= MAX_TRIALS:
        message = f"{tune} trials cannot be made; give 1 to {MAX_TRIALS}"
        raise ConfigurationError(message)
    if incremental and tune:
        message = "an incremental training keeps the champion's trees and tunes nothing; ask for one of the two"
        raise ConfigurationError(message)
    if incremental and (folds or leak_check):
        message = "an incremental training makes no folds and no random split; ask for them with a full training"
        raise ConfigurationError(message)
    settled = policies.settled(strategy)
    policy = settled.strategy.overridden(
        drift_threshold=drift_threshold,
        drift_rule=drift_rule,
        reference=reference,
        min_accuracy=min_accuracy,
        folds=folds,
        leak_check=leak_check,
    )
    given: dict[str, Any] = {
        "drift_threshold": drift_threshold,
        "drift_rule": drift_rule,
        "reference": reference,
        "min_accuracy": min_accuracy,
        "folds": folds,
        "leak_check": leak_check,
        "incremental": incremental or None,
        "tune": tune,
        "version": version,
    }
    asked = {path: "asked for with this run" for name, path in _PATHS.items() if given[name] is not None}
    return RunRequest(
        strategy=strategy,
        kind=kind,
        policy=run_policy(Settled(strategy=policy, origins={**settled.origins, **asked})),
        reason=reason,
        requested_by=requested_by,
        run_id=run_id,
        slot=slot,
        namespace=namespace,
        as_of=as_of,
        params={key: value for key, value in given.items() if value is not None},
        executor=executor,
    )


def comparison_request(policies: Policies, strategy: str, first: str, second: str, *, requested_by: str) -> RunRequest:
    """A run that tests version `second` against `first` and decides nothing.

    Raises UnknownStrategy, InvalidPolicyEdit, ConfigurationError where the two are one.
    """
    if first == second:
        raise ConfigurationError(f"version {first} would be compared with itself; name two versions")
    return RunRequest(
        strategy=strategy,
        kind=Kind.COMPARE,
        policy=run_policy(policies.settled(strategy)),
        reason=f"version {second} beside version {first}",
        requested_by=requested_by,
        params={"first": first, "second": second},
    )
