"""The end of a run: its state, its outcome, and the outcome's place in the outbox, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import CTE, Connection, Date, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import Insert, insert

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import OutcomeMessage, RunState
from mlops.domain.run_states import SUCCESSES, RunEvent, run_sources, run_target
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.prepared import PREPARED
from mlops.ledger.stages import found_results, results_of

_run = tables.run.c
_promotion = tables.promotion.c


_ABOUT = (
    select(
        _run.run_id, _run.strategy, _run.kind, _run.state, _run.reason, _run.params,
        _promotion.decision, _promotion.version, _promotion.reasons,
        *results_of("of_run"),
    )
    .outerjoin(tables.promotion, _promotion.run_id == _run.run_id)
    .where(_run.run_id == bindparam("of_run"))
    .execution_options(**PREPARED)
)  # fmt: skip
_CLOSE = {
    event: update(tables.run)
    .where(_run.run_id == bindparam("of_run"), _run.state.in_(run_sources(event)))
    .values(
        state=run_target(event),
        as_of=func.coalesce(_run.as_of, bindparam("by_as_of", type_=Date)),
        outcome=bindparam("by_outcome", type_=tables.run.c.outcome.type),
        finished_at=now(),
    )
    for event in RunEvent
}


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A run that has ended."""

    state: RunState
    outcome: OutcomeMessage


def close_run(
    connection: Connection,
    run_id: str,
    event: RunEvent,
    *,
    error: str | None = None,
    as_of: date | None = None,
) -> Closed:
    """End the run, whose stages have all ended already in this transaction. Raises InvalidTransition."""
    state = run_target(event)
    run = connection.execute(_ABOUT, {"of_run": run_id}).one()
    message = _message(run, found_results(run), state=state, error=error)
    closed = connection.execute(_CLOSE[event], {"of_run": run_id, "by_as_of": as_of, "by_outcome": message.body})
    if closed.rowcount == 0:
        raise InvalidTransition(f"run {run_id} is {run.state} and cannot {event}")
    connection.execute(_TO_OUTBOX, {"run_id": run_id, "state": message.state})
    return Closed(state=state, outcome=message)


def message_of(
    connection: Connection, run_id: str, results: Mapping[str, Mapping[str, Any]], *, state: RunState, error: str | None
) -> OutcomeMessage | None:
    """The outcome of a run that is about to end, with `results` beside those that are in the ledger already."""
    run = connection.execute(_ABOUT, {"of_run": run_id}).one_or_none()
    if run is None:
        return None
    return _message(run, {**found_results(run), **results}, state=state, error=error)


def _message(
    run: AnyRow, results: Mapping[str, Mapping[str, Any]], *, state: RunState, error: str | None
) -> OutcomeMessage:
    outcome = outcome_of(run, results, state=state, error=error)
    return OutcomeMessage(run_id=run.run_id, state="SUCCESS" if state in SUCCESSES else "FAILURE", body=outcome)


def into_outbox(*, after: CTE | None = None) -> Insert:
    """Pending, also where an earlier end of the run, before a requeue, was delivered already.

    Of the parameter `run_id`, or of the run that `after` gives, if any; with the parameter `state`.
    """
    state = bindparam("state", type_=tables.outbox.c.state.type)
    if after is None:
        adding = insert(tables.outbox).values(run_id=bindparam("run_id"), state=state, created_at=now())
    else:
        adding = insert(tables.outbox).from_select(
            ["run_id", "state", "created_at"], select(after.c.run_id, state, now())
        )
    return adding.on_conflict_do_update(
        index_elements=[tables.outbox.c.run_id],
        set_={"state": adding.excluded.state, "created_at": adding.excluded.created_at, "delivered_at": None},
    )


_TO_OUTBOX = into_outbox()


def outcome_of(
    run: AnyRow, results: Mapping[str, Mapping[str, Any]], *, state: RunState, error: str | None
) -> dict[str, Any]:
    """What `AsyncResult(run_id).get()` returns, or shows as the error.

    `version` and `reasons` come from the run's promotion, else from its stages' results.
    """
    found: dict[str, Any] = dict(run.params)
    for result in results.values():
        found.update({key: result[key] for key in ("version", "reasons") if result.get(key) is not None})
    decided = run.decision is not None
    return {
        "run_id": run.run_id,
        "strategy": run.strategy,
        "kind": run.kind,
        "state": state,
        "reason": run.reason,
        "stages": results,
        "version": run.version if decided else found.get("version"),
        "promoted": run.decision in {"promote", "override", "rollback"},
        "reasons": list(run.reasons if decided else found.get("reasons", ())),
        "error": error,
    }
