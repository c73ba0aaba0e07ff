"""Turns what a caller asks for into a run request with the policy it will be judged by."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from mlops.domain.errors import ConfigurationError, InvalidTransition
from mlops.domain.policies import MAX_FOLDS, MAX_TRIALS, Reference, Rule
from mlops.domain.ports import UNKNOWN
from mlops.domain.records import LIVE, RUN_ID_LENGTH, Executor, Kind, RunRequest
from mlops.strategies.file import Settled, run_policy

if TYPE_CHECKING:
    from mlops.domain.ports import Ledger
    from mlops.domain.records import Champion, ModelIdentity, Promotion

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
    override: str | None = None,
    executor: Executor = Executor.CELERY,
) -> RunRequest:
    """The request. Thresholds left out mean the policy's; given, they are recorded.

    override : why the named version goes to Production whatever its gates say

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
    if override is not None and (version is None or len(override.strip()) < 3):
        message = "a promotion whatever the gates say is kept with its reason and names its version; give both"
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
        "override": override,
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


class NoRollback(InvalidTransition):
    """There is nothing to roll back to."""


def rollback_target(
    ledger: Ledger, strategy: str, version: str, champion: Champion, *, identity: ModelIdentity = UNKNOWN
) -> Promotion:
    """The promotion that made the version champion before.

    identity : what the registry's version is, where it was looked at
    Raises NoRollback: it is the champion now, it never was one, or the registry is not the one that the ledger knows.
    """
    if champion.is_version(version, identity):
        raise NoRollback(f"version {version} is the champion of {strategy!r} already; nothing was changed")
    for finding in ledger.registry_findings(strategy):
        raise NoRollback(finding.words)
    former = ledger.former_champions(strategy, namespace=champion.namespace)
    found = next((one for one in former if one.version == version and one.identity.may_be(identity)), None)
    if found is not None:
        return found
    names = ", ".join(one.version for one in former[:10]) or "none"
    another = any(one.version == version for one in former)
    why = f"is another model than the champion of that number was ({identity})" if another else "was never the champion"
    message = (
        f"version {version} of {strategy!r} {why}, so there is nothing to roll back to; former champions: {names}. "
        f"`acis promote {strategy} --version {version}` judges it, and --override REASON promotes it whatever it fails"
    )
    raise NoRollback(message)


def rollback_request(
    policies: Policies, ledger: Ledger, strategy: str, version: str, *, reason: str, requested_by: str
) -> RunRequest:
    """A run that makes a former champion the champion again. Raises UnknownStrategy, InvalidPolicyEdit, NoRollback."""
    request = run_request(policies, strategy, Kind.ROLLBACK, reason=reason, requested_by=requested_by, version=version)
    rollback_target(ledger, strategy, version, ledger.champion(strategy))
    return request


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
