"""A stage's row at its birth, and the fenced update that every later change of it goes through.

Statements are built once: building one takes SQLAlchemy as long as running it takes PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    Insert,
    Label,
    String,
    Update,
    bindparam,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert

from mlops.domain.errors import LeaseLost
from mlops.domain.policies import ExecutionPolicy
from mlops.domain.records import Executor, Grant, Publication, Stage, StageState
from mlops.domain.run_states import StageEvent, stage_sources, stage_target
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, after, now

_stage = tables.stage.c

# ---- When a stage's message is sent, and sent again; the columns `publish_no`, `published_at`, `ring_at`
#
# A publication is handed out by the transaction that made the stage due. It is sent at once by whoever got it;
# where `published` does not confirm that within 5 s, the reconciler hands out the next number.

UNCONFIRMED_S = 5.0
"""A publication that was handed out and not confirmed for so long is handed out again."""
LOST_AFTER_S = 60.0
"""A confirmed message may be missed from its queue after so long; doubles with each repetition."""
LOST_AFTER_MAX_S = 900.0
"""15 min: the longest wait between two repetitions."""

_OF_PUBLICATION: tuple[Column[Any], ...] = (
    _stage.run_id, _stage.stage, _stage.strategy, _stage.device, _stage.executor, _stage.deadline_s,
    _stage.publish_no, _stage.claimed_task_id, _stage.parent_task_id, _stage.token, _stage.ring_backoff_s,
    _stage.traceparent,
)  # fmt: skip
"""What `publication_of` reads."""


def handed_out() -> dict[str, Any]:
    """Columns of a stage whose next message the caller will send."""
    return {"published_at": None, "ring_at": after(UNCONFIRMED_S), "not_before": None}


def to_be_rung() -> dict[str, Any]:
    """Columns of a stage whose next message the reconciler sends, now."""
    return {"published_at": None, "ring_at": now(), "not_before": None}


def to_be_sent_after(delay_s: float) -> dict[str, Any]:
    """Columns of a stage whose next message the reconciler sends, after a delay."""
    return {"published_at": None, "ring_at": after(delay_s), "not_before": after(delay_s)}


def publication_of(row: AnyRow) -> Publication | None:
    """The message of a queued stage, or None for an inline run, which nobody rings. row : has `_OF_PUBLICATION`"""
    if row.executor == Executor.INLINE:
        return None
    return Publication(
        run_id=row.run_id,
        stage=Stage(row.stage),
        publish_no=row.publish_no,
        strategy=row.strategy,
        device=row.device,
        previous_task_id=row.claimed_task_id or row.parent_task_id,
        deadline_s=row.deadline_s,
        # It was claimed before, or was in the queue before: both are older than what waits there.
        keeps_its_place=row.token > 0 or row.ring_backoff_s > LOST_AFTER_S,
        traceparent=row.traceparent,
    )


_run = tables.run.c
_other = tables.stage.alias("other")


_BORN: dict[str, Any] = {
    "state": StageState.QUEUED,
    "token": 0,
    "attempt": 1,
    "publish_no": 1,
    "ring_backoff_s": LOST_AFTER_S,
    "queued_at": now(),
    **handed_out(),
}


def birth_of(
    stage: Stage, *, strategy: str, policy: Mapping[str, Any], executor: Executor, traceparent: str | None
) -> dict[str, Any]:
    """What a stage has of its own from the start, by column."""
    execution = policy.get("execution", {})
    deadline = f"{stage}_deadline_s"
    return {
        "stage": stage,
        "strategy": strategy,
        "executor": executor,
        "device": policy.get("training", {}).get("device", "auto"),
        "max_attempts": execution.get("max_attempts", ExecutionPolicy.max_attempts),
        "deadline_s": execution.get(deadline, getattr(ExecutionPolicy, deadline)),
        "traceparent": traceparent,
    }


_OWN = ("stage", "strategy", "executor", "device", "max_attempts", "deadline_s", "traceparent")


def opening_after(before: CTE, *, parent_task_id: ColumnElement[Any] | None = None) -> ReturningInsert[Any]:
    """Insert a queued stage for the run that `before` gives, if any; its parameters are those of `new_stage`."""
    born = {
        name: value if isinstance(value, ColumnElement) else literal(value, _stage[name].type)
        for name, value in _BORN.items()
        if value is not None
    }
    values: dict[str, ColumnElement[Any]] = {
        "run_id": before.c.run_id,
        **born,
        **{name: bindparam(f"new_{name}", type_=_stage[name].type) for name in _OWN},
    }
    if parent_task_id is not None:
        values["parent_task_id"] = parent_task_id
    opening: Insert = insert(tables.stage).from_select(list(values), select(*values.values()))
    return opening.returning(*_OF_PUBLICATION)


def new_stage(birth: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a statement that has `opening_after`."""
    return {f"new_{name}": value for name, value in birth.items()}


def results_of(run_id: str) -> list[Label[Any]]:
    """What the stages of the run of that bind parameter left, for a query; `found_results` reads it from a row."""
    return [
        select(_other.c.result)
        .where(_other.c.run_id == bindparam(run_id), _other.c.stage == stage)
        .scalar_subquery()
        .label(f"result_{stage}")
        for stage in Stage
    ]


def found_results(row: AnyRow) -> dict[str, dict[str, Any]]:
    """By stage, in the order of the loop; none of a stage that has left nothing."""
    found = {stage.value: getattr(row, f"result_{stage}") for stage in Stage}
    return {name: result for name, result in found.items() if result is not None}


def held_by(grant: Grant) -> tuple[ColumnElement[bool], ...]:
    """The fence: the stage runs with this token. Time plays no part, so an unclaimed expired lease revives."""
    return (
        _stage.run_id == grant.run_id,
        _stage.stage == grant.stage,
        _stage.token == grant.token,
        is_grant(grant.key),
        _stage.state == StageState.RUNNING,
    )


def is_grant(key: str | ColumnElement[str]) -> ColumnElement[bool]:
    """The stage was granted under this key. A ledger that went back in time grants a number a second time."""
    return func.coalesce(_stage.grant_key, "") == key


def ending_of_stage(event: StageEvent) -> Update:
    """Take the stage of a grant out of `running` for good; its parameters are those of `ended_stage`."""
    return (
        update(tables.stage)
        .where(
            _stage.run_id == bindparam("of_run"),
            _stage.stage == bindparam("of_stage"),
            _stage.token == bindparam("of_token"),
            is_grant(bindparam("of_key", type_=String)),
            _stage.state == StageState.RUNNING,
        )
        .values(
            state=stage_target(event),
            finished_at=now(),
            lease_until=None,
            result=bindparam("by_result", type_=_stage.result.type),
            error=bindparam("by_error"),
        )
    )


def ended_stage(grant: Grant, *, result: dict[str, Any] | None, error: str | None) -> dict[str, Any]:
    """Parameters of a statement that has `ending_of_stage`."""
    return {
        "of_run": grant.run_id,
        "of_stage": grant.stage,
        "of_token": grant.token,
        "of_key": grant.key,
        "by_result": result,
        "by_error": error,
    }


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
