"""The end of a run: its state, its outcome, and the outcome's place in the outbox, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import Connection, func, select, update

from mlops.errors import InvalidTransition
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.engine import Database
from mlops.ledger.records import RunState
from mlops.ledger.states import SUCCESSES, RunEvent, run_sources, run_target

_run = tables.run.c
_promotion = tables.promotion.c


def close_run(
    database: Database,
    connection: Connection,
    run_id: str,
    event: RunEvent,
    *,
    error: str | None = None,
    as_of: date | None = None,
) -> RunState:
    """End the run, whose stages have all ended already in this transaction. Raises InvalidTransition."""
    state = run_target(event)
    run = connection.execute(
        select(
            tables.run,
            _promotion.decision,
            _promotion.version,
            _promotion.reasons,
        )
        .outerjoin(tables.promotion, _promotion.run_id == _run.run_id)
        .where(_run.run_id == run_id)
    ).one()
    stages = connection.execute(
        select(tables.stage.c.stage, tables.stage.c.result)
        .where(tables.stage.c.run_id == run_id)
        .order_by(tables.stage.c.queued_at)
    ).all()
    closed = connection.execute(
        update(tables.run)
        .where(_run.run_id == run_id, _run.state.in_(run_sources(event)))
        .values(
            state=state,
            as_of=func.coalesce(_run.as_of, as_of) if as_of else _run.as_of,
            outcome=outcome_of(run, stages, state=state, error=error),
            finished_at=now(),
        )
    )
    if closed.rowcount == 0:
        raise InvalidTransition(f"run {run_id} is {run.state} and cannot {event}")
    celery_state = "SUCCESS" if state in SUCCESSES else "FAILURE"
    connection.execute(
        database.insert(tables.outbox)
        .values(run_id=run_id, state=celery_state, created_at=now())
        .on_conflict_do_update(
            index_elements=[tables.outbox.c.run_id],
            set_={"state": celery_state, "created_at": now(), "delivered_at": None},
        )
    )
    return state


def outcome_of(run: AnyRow, stages: Sequence[AnyRow], *, state: RunState, error: str | None) -> dict[str, Any]:
    """What `AsyncResult(run_id).get()` returns, or shows as the error.

    `version` and `reasons` come from the run's promotion, else from its stages' results.
    """
    results: dict[str, Mapping[str, Any]] = {row.stage: row.result for row in stages if row.result is not None}
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
        "promoted": run.decision in {"promote", "rollback"},
        "reasons": list(run.reasons if decided else found.get("reasons", ())),
        "error": error,
    }
