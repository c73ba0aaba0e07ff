"""Every grant of a stage: when it was claimed, by whom, how long it waited before, and what ended the one before it.

One row per claim. Where an attempt ended follows from the next one, and from the stage for the last one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, insert, select

from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.part import LedgerPart
from mlops.ledger.records import RunView, Stage, StageState, StageView

_attempt = tables.attempt.c


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A grant of a stage as a reader sees it, or the wait for the next one."""

    stage: Stage
    token: int
    attempt: int
    worker: str | None
    task_id: str | None
    queued_at: datetime
    claimed_at: datetime | None
    """None: it waits."""
    ended_at: datetime | None
    """None: it goes on."""
    state: str
    """`queued`, `running`, a stage's terminal state, or `given back`: another attempt followed."""
    error: str | None


def note_attempt(connection: Connection, held: AnyRow) -> None:
    """The claim that made this stage's row; in its transaction."""
    connection.execute(
        insert(tables.attempt).values(
            run_id=held.run_id,
            stage=held.stage,
            token=held.token,
            attempt=held.attempt,
            worker=held.worker,
            task_id=held.claimed_task_id,
            queued_at=held.queued_at,
            claimed_at=now(),
            cause=held.error,
        )
    )


class Attempts(LedgerPart):
    """Reading them."""

    def attempts(self, run: RunView) -> list[Attempt]:
        """All attempts of a run in the order in which they happened, and a wait that goes on.

        A run of before they were noted has its stages, each as one attempt.
        """
        query = select(tables.attempt).where(_attempt.run_id == run.run_id).order_by(_attempt.claimed_at)
        with self.database.reading() as connection:
            rows = list(connection.execute(query))
        found: list[Attempt] = []
        for stage in run.stages:
            found += attempts_of(stage, [row for row in rows if row.stage == stage.stage])
        return found


def attempts_of(stage: StageView, rows: list[AnyRow]) -> list[Attempt]:
    """One stage's attempts; pure. rows : its grants, oldest first"""
    noted = [
        Attempt(
            stage=stage.stage,
            token=row.token,
            attempt=row.attempt,
            worker=row.worker,
            task_id=row.task_id,
            queued_at=_since(row, rows[place - 1] if place else None),
            claimed_at=row.claimed_at,
            ended_at=_since(rows[place + 1], row) if place + 1 < len(rows) else None,
            state="given back",
            error=rows[place + 1].cause if place + 1 < len(rows) else None,
        )
        for place, row in enumerate(rows)
    ]
    if not noted:
        return [_as_one(stage)]
    last = noted[-1]
    if stage.state is StageState.QUEUED:
        wait = _as_one(replace(stage, worker=None, started_at=None, task_id=None))
        return [*noted[:-1], replace(last, ended_at=stage.queued_at, error=stage.error), wait]
    noted[-1] = replace(last, ended_at=stage.finished_at, state=stage.state.value, error=_own_error(stage))
    return noted


def _own_error(stage: StageView) -> str | None:
    """A stage keeps the last error of all attempts; one that ended well had none."""
    return stage.error if stage.state in (StageState.FAILED, StageState.DEAD, StageState.CANCELLED) else None


def _since(row: AnyRow, before: AnyRow | None) -> datetime:
    """Since when it waited: a lease that ran out was taken from the worker, and nobody put the stage into the queue."""
    queued_at: datetime = row.queued_at
    claimed_at: datetime = row.claimed_at
    return claimed_at if before is not None and queued_at <= before.claimed_at else queued_at


def _as_one(stage: StageView) -> Attempt:
    return Attempt(
        stage=stage.stage,
        token=stage.token,
        attempt=stage.attempt,
        worker=stage.worker,
        task_id=stage.task_id,
        queued_at=stage.queued_at,
        claimed_at=stage.started_at,
        ended_at=stage.finished_at,
        state=stage.state.value,
        error=stage.error,
    )
