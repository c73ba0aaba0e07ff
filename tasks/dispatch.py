"""Start runs and follow them by program: what a backend with this code base calls.

    from tasks.dispatch import start_pipeline, wait
    run_id = start_pipeline("growth", reason="nightly").run_id
    run = wait(run_id, timeout_s=600)

Another code base needs nothing but celery, see docs/dispatch.md. A run is accepted when its row commits:
with Redis down it waits and starts later; with PostgreSQL down LedgerUnavailable says that it was not
accepted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import date
from typing import Any

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import Accepted, Kind, RunRequest, RunState, RunView
from mlops.domain.run_states import TERMINAL
from mlops.runs.approval import Answer, approval_request, refuse_joined
from mlops.runs.bulk import Asker, Outcome, open_runs
from mlops.runs.request import comparison_request, prediction_request, rollback_request, run_request, submit
from tasks.services import process_services


class RunUnfinished(TimeoutError):
    """The run goes on, but the caller waits no longer."""


def start_pipeline(
    strategy: str,
    *,
    reason: str,
    as_of: date | None = None,
    drift_threshold: float | None = None,
    min_accuracy: float | None = None,
    requested_by: str = "program",
) -> Accepted:
    """Drift check, then training and promotion where it drifted. `created` False: one was active already."""
    return _start(
        strategy,
        Kind.PIPELINE,
        reason=reason,
        requested_by=requested_by,
        as_of=as_of,
        drift_threshold=drift_threshold,
        min_accuracy=min_accuracy,
    )


def start_retrain(
    strategy: str,
    *,
    reason: str,
    as_of: date | None = None,
    min_accuracy: float | None = None,
    promote: bool = True,
    incremental: bool = False,
    tune: int | None = None,
    requested_by: str = "program",
) -> Accepted:
    """Training whatever the drift, then promotion where `promote`.

    `incremental`: continues the champion. `tune`: searches parameters in so many trials first.
    """
    return _start(
        strategy,
        Kind.RETRAIN if promote else Kind.TRAIN,
        reason=reason,
        requested_by=requested_by,
        as_of=as_of,
        min_accuracy=min_accuracy,
        incremental=incremental,
        tune=tune,
    )


def start_check(
    strategy: str,
    *,
    reason: str,
    as_of: date | None = None,
    requested_by: str = "program",
) -> Accepted:
    """Drift check alone, whatever it finds.

    >>> accepted = start_check("dividend", reason="features reloaded")
    >>> str(wait(accepted.run_id, timeout_s=600).state)
    'succeeded'
    """
    return _start(strategy, Kind.CHECK, reason=reason, requested_by=requested_by, as_of=as_of)


def start_promotion(
    strategy: str, *, version: str | None, reason: str, override: str | None = None, requested_by: str = "program"
) -> Accepted:
    """A decision about a version, or about the newest in Staging: it is judged like any other.

    override : why the named version goes to Production whatever it fails; what it fails is kept with it, and audited
    `created` False: the strategy's decision that is active already, perhaps about another version.
    """
    return _start(strategy, Kind.PROMOTE, reason=reason, requested_by=requested_by, version=version, override=override)


def start_prediction(
    strategy: str, *, reason: str, as_of: date | None = None, requested_by: str = "program"
) -> Accepted:
    """The champion's predictions of a date's universe; None: of the newest complete date.

    `created` False: that date's run, which may have ended, or a prediction that is active.
    """
    services = process_services()
    request = prediction_request(
        services.policies, services.ledger, strategy, as_of, reason=reason, requested_by=requested_by
    )
    return dispatch(request)


def start_scoring(strategy: str, *, reason: str, as_of: date | None = None, requested_by: str = "program") -> Accepted:
    """Predictions against their outcomes, as known as of the date; None: of the newest complete one."""
    return _start(strategy, Kind.SCORE, reason=reason, requested_by=requested_by, as_of=as_of)


def start_rollback(strategy: str, *, version: str, reason: str, requested_by: str = "program") -> Accepted:
    """A former champion becomes the champion again; never blocked by another run. Raises NoRollback for others."""
    services = process_services()
    return dispatch(
        rollback_request(
            services.policies, services.ledger, strategy, version, reason=reason, requested_by=requested_by
        )
    )


def start_comparison(strategy: str, first: str, second: str, *, requested_by: str = "program") -> Accepted:
    """Two versions side by side on a worker: the second is tested against the first. Nothing is decided."""
    return dispatch(comparison_request(process_services().policies, strategy, first, second, requested_by=requested_by))


def start_many(
    strategies: Sequence[str],
    kind: Kind,
    *,
    reason: str,
    requested_by: str,
    incremental: bool = False,
    tune: int | None = None,
    address: str | None = None,
    batch_id: str | None = None,
) -> list[Outcome]:
    """One run for each strategy; one that cannot be opened says why and stops no other. Each is audited.

    address : where the request came from, for the audit
    batch_id : what the ledger knows them by together, at most 32 characters; None: one of its own
    Raises LedgerUnavailable where nothing was opened yet.
    """
    by = Asker(actor=requested_by, address=address, batch_id=batch_id or uuid.uuid4().hex)
    return open_runs(process_services(), strategies, kind, by=by, reason=reason, incremental=incremental, tune=tune)


def ask_again(run_id: str, *, requested_by: str) -> Accepted:
    """The same question as an ended run's, under the policy of today and as of now. Raises RunNotFound, LedgerError."""
    services = process_services()
    old = services.ledger.run(run_id)
    if old.state not in TERMINAL:
        raise InvalidTransition(f"run {run_id} is {old.state}; it can be asked again when it has ended")
    if "answers" in old.params:
        raise InvalidTransition(f"run {run_id} was a person's answer; answer again where it is asked")
    if old.kind is Kind.PREDICT:
        return start_prediction(old.strategy, as_of=old.as_of, reason=f"run {run_id} again", requested_by=requested_by)
    if old.kind is Kind.COMPARE:
        return start_comparison(old.strategy, old.params["first"], old.params["second"], requested_by=requested_by)
    return _start(old.strategy, old.kind, reason=f"run {run_id} again", requested_by=requested_by, **old.params)


def cancel(run_id: str, *, actor: str) -> RunState:
    """Cancel a queued run at once, ask a running one to stop. Raises RunNotFound, InvalidTransition."""
    return process_services().ledger.cancel(run_id, actor=actor)


def requeue(run_id: str, *, actor: str) -> bool:
    """Bring a dead run back; False: it starts when Redis is back. Raises RunNotFound, InvalidTransition."""
    services = process_services()
    return services.dispatcher.publish(services.ledger.requeue(run_id, actor=actor))


def approve(run_id: str, digest: str | None = None, *, actor: str, reason: str, answer: Answer = "approve") -> Accepted:
    """Answer a run that awaits approval: opens the promote run that carries it out, or with "reject" archives it.

    digest : of the evidence that was looked at (`run.outcome["stages"]["promote"]["evidence_digest"]`); None takes
    what is recorded. Raises RunNotFound, InvalidTransition, StaleApproval, LedgerUnavailable, RegistryUnavailable.
    """
    services = process_services()
    request = approval_request(
        services.ledger, services.registry, run_id, answer=answer, actor=actor, reason=reason, digest=digest
    )
    return submit(services, request, on_accept=lambda accepted: refuse_joined(accepted, request))


def run_status(run_id: str) -> RunView:
    """The run as the ledger has it now. Raises RunNotFound."""
    return process_services().ledger.run(run_id)


def wait(run_id: str, *, timeout_s: float, poll_s: float = 0.5) -> RunView:
    """The run once it is terminal. Raises RunUnfinished after `timeout_s`, RunNotFound."""
    until = time.monotonic() + timeout_s
    while True:
        view = run_status(run_id)
        if view.state in TERMINAL:
            return view
        if time.monotonic() >= until:
            message = f"run {run_id} of {view.strategy} is {view.state} after {timeout_s:.0f} s; it goes on"
            raise RunUnfinished(message)
        time.sleep(poll_s)


def dispatch(request: RunRequest) -> Accepted:
    """Accept the request and send the message of its first stage."""
    return submit(process_services(), request)


def _start(strategy: str, kind: Kind, **asked: Any) -> Accepted:  # noqa: ANN401 -- as in `run_request`
    return dispatch(run_request(process_services().policies, strategy, kind, **asked))
