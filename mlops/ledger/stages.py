"""A stage's row at its birth, and the fenced update that every later change of it goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, insert, update

from mlops.errors import LeaseLost
from mlops.ledger import tables
from mlops.ledger.bells import LOST_AFTER_S, handed_out
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.records import Executor, Grant, Stage, StageState
from mlops.ledger.states import StageEvent, stage_sources, stage_target
from mlops.strategies import ExecutionPolicy

_stage = tables.stage.c


_OPEN = (
    insert(tables.stage)
    .values(
        state=StageState.QUEUED,
        token=0,
        attempt=1,
        publish_no=1,
        ring_backoff_s=LOST_AFTER_S,
        queued_at=now(),
        **handed_out(),
    )
    .returning(tables.stage)
)


def open_stage(
    connection: Connection,
    *,
    run_id: str,
    stage: Stage,
    strategy: str,
    policy: Mapping[str, Any],
    executor: Executor,
    parent_task_id: str | None = None,
) -> AnyRow:
    """Insert a queued stage whose first message the caller will send."""
    execution = policy.get("execution", {})
    deadline = f"{stage}_deadline_s"
    return connection.execute(
        _OPEN,
        {
            "run_id": run_id,
            "stage": stage,
            "strategy": strategy,
            "executor": executor,
            "device": policy.get("training", {}).get("device", "auto"),
            "max_attempts": execution.get("max_attempts", ExecutionPolicy.max_attempts),
            "deadline_s": execution.get(deadline, getattr(ExecutionPolicy, deadline)),
            "parent_task_id": parent_task_id,
        },
    ).one()


def held_by(grant: Grant) -> tuple[ColumnElement[bool], ...]:
    """The fence: the stage runs with this token. Time plays no part, so an unclaimed expired lease revives."""
    return (
        _stage.run_id == grant.run_id,
        _stage.stage == grant.stage,
        _stage.token == grant.token,
        _stage.state == StageState.RUNNING,
    )


#: Built once, since building takes as long as running it.
_END = {
    event: update(tables.stage)
    .where(
        _stage.run_id == bindparam("of_run"),
        _stage.stage == bindparam("of_stage"),
        _stage.token == bindparam("of_token"),
        _stage.state == StageState.RUNNING,
    )
    .values(
        state=stage_target(event),
        finished_at=now(),
        lease_until=None,
        result=bindparam("by_result", type_=_stage.result.type),
        error=bindparam("by_error"),
    )
    .returning(_stage.claimed_task_id)
    for event in (StageEvent.COMPLETE, StageEvent.FAIL, StageEvent.CANCEL)
}


def end_stage(
    connection: Connection, grant: Grant, event: StageEvent, *, result: dict[str, Any] | None, error: str | None
) -> AnyRow:
    """Take the stage out of `running` for good; its `claimed_task_id`. Raises LeaseLost."""
    row = connection.execute(
        _END[event],
        {
            "of_run": grant.run_id,
            "of_stage": grant.stage,
            "of_token": grant.token,
            "by_result": result,
            "by_error": error,
        },
    ).one_or_none()
    if row is None:
        raise lease_lost(grant)
    return row


def cancel_queued(connection: Connection, run_id: str) -> bool:
    """Cancel the run's stage where it waits in the queue; False where it does not."""
    cancelled = connection.execute(
        update(tables.stage)
        .where(_stage.run_id == run_id, _stage.state == StageState.QUEUED)
        .where(_stage.state.in_(stage_sources(StageEvent.CANCEL)))
        .values(state=stage_target(StageEvent.CANCEL), finished_at=now())
    )
    return cancelled.rowcount > 0


def lease_lost(grant: Grant) -> LeaseLost:
    """The error for a worker whose token is not the stage's any more."""
    return LeaseLost(
        f"stage {grant.stage} of run {grant.run_id} is not held with token {grant.token} any more: "
        "another worker took it, its deadline passed, or the run ended; nothing was written"
    )


def in_words(error: str) -> str:
    """An error as it is stored: no NUL (PostgreSQL refuses it), no more than a page."""
    return error.replace("\x00", "\ufffd")[:4000]
