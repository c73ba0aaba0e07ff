"""Turns what a caller asks for into a run request with its policy, and submits it to the workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any, Protocol

from mlops.domain.errors import ConfigurationError, InvalidTransition
from mlops.domain.ports import UNKNOWN
from mlops.domain.records import Kind, RunRequest
from mlops.domain.run_states import ACTIVE
from mlops.runs.options import RunOptions
from mlops.strategies.file import Settled, run_policy

if TYPE_CHECKING:
    from mlops.domain.ports import Ledger
    from mlops.domain.promotion.records import Champion, ModelIdentity, Promotion
    from mlops.domain.records import Accepted
    from mlops.ledger.ledger import SqlLedger
    from mlops.runs.services import RunServices


class Policies(Protocol):
    """`Services.policies`, or the strategies of a file alone."""

    def settled(self, name: str) -> Settled:
        """A strategy's policy, with each value's origin."""
        ...


def run_request(
    policies: Policies,
    strategy: str,
    kind: Kind,
    *,
    reason: str,
    requested_by: str,
    **options: Any,  # noqa: ANN401 -- RunOptions checks them
) -> RunRequest:
    """The request with the policy that it is judged by: the strategy's own, with what `options` replace in it.

    options : those of RunOptions
    Raises UnknownStrategy, InvalidPolicyEdit, LedgerUnavailable, ConfigurationError for an option that cannot be.
    """
    asked = RunOptions(**options)
    settled = policies.settled(strategy)
    policy = settled.strategy.overridden(**{name: getattr(asked, name) for name in asked.replaced})
    origins = {**settled.origins, **dict.fromkeys(asked.replaced.values(), "asked for with this run")}
    return RunRequest(
        strategy=strategy,
        kind=kind,
        policy=run_policy(Settled(strategy=policy, origins=origins)),
        reason=reason,
        requested_by=requested_by,
        params=asked.params,
        **asked.of_request,
    )


def submit(
    services: RunServices,
    request: RunRequest,
    *,
    on_accept: Callable[[Accepted], None] = lambda _: None,
    accept: Callable[[RunRequest], Accepted] | None = None,
) -> Accepted:
    """Accept the request and send the message of its first stage; where that fails, the reconciler sends it.

    on_accept : called before the message is sent; what it raises keeps the message back
    accept : how the ledger is asked; None: once
    Raises LedgerUnavailable; NothingConfigured before anything is accepted where no broker is named.
    """
    dispatcher = services.dispatcher
    accepted = (accept or services.ledger.accept)(request)
    on_accept(accepted)
    if accepted.publication is not None:
        dispatcher.publish(accepted.publication)
    return accepted


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


def prediction_request(
    policies: Policies,
    ledger: SqlLedger,
    strategy: str,
    day: date | None,
    *,
    reason: str,
    requested_by: str,
    n_rows: int | None = None,
    **options: Any,  # noqa: ANN401 -- RunOptions checks them
) -> RunRequest:
    """A run in which the champion predicts a date's universe: one for a date, whoever asks for it, and however often.

    day : None for the newest complete one, which the run finds for itself and which has no slot
    n_rows : that the date has now; None: not looked at
    Another run is opened where the date's last one left no predictions, another model is the champion since, or the
    date has more rows now.
    Raises as `run_request` does.
    """
    slot = None if day is None else _slot_of_date(ledger, strategy, day, n_rows)
    return run_request(
        policies,
        strategy,
        Kind.PREDICT,
        reason=reason,
        requested_by=requested_by,
        as_of=day,
        slot=slot,
        **options,
    )


def _slot_of_date(ledger: SqlLedger, strategy: str, day: date, n_rows: int | None) -> str:
    """`2026-11-27`; `2026-11-27/2` where that one's run is no answer any more."""
    runs = [run for run in ledger.predict_runs([strategy], since=day) if run.as_of == day and run.slot is not None]
    if not runs:
        return day.isoformat()
    newest = max(runs, key=lambda run: run.created_at)
    if newest.state in ACTIVE:
        return str(newest.slot)
    has_all = n_rows is None or not newest.has_grown(n_rows)
    if newest.has_predicted and has_all and newest.is_of(ledger.champion(strategy)):
        return str(newest.slot)
    return f"{day.isoformat()}/{len(runs) + 1}"


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
