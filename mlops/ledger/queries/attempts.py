"""Every grant of a stage as a reader sees it: when it was claimed, by whom, how long it waited, and what ended it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import (
    select,
)

from mlops.domain.records import RunView, Stage, StageState, StageView
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow
from mlops.ledger.engine import Repository

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


class Attempts(Repository):
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
            found += _attempts_of(stage, [row for row in rows if row.stage == stage.stage])
        return found


def _attempts_of(stage: StageView, rows: list[AnyRow]) -> list[Attempt]:
    """One stage's attempts; pure. rows : its grants that ended and left it to another, oldest first"""
    noted = [
        Attempt(
            stage=stage.stage,
            token=row.token,
            attempt=row.attempt,
            worker=row.worker,
            task_id=row.task_id,
            queued_at=_since(row.queued_at, row.claimed_at, rows[place - 1] if place else None),
            claimed_at=row.claimed_at,
            ended_at=row.ended_at,
            state="given back",
            error=row.error,
        )
        for place, row in enumerate(rows)
    ]
    if stage.state is StageState.QUEUED:
        return [*noted, _as_one(replace(stage, worker=None, claimed_at=None, started_at=None, task_id=None))]
    last = _as_one(stage)
    queued_at = _since(last.queued_at, last.claimed_at or last.queued_at, rows[-1] if rows else None)
    return [*noted, replace(last, queued_at=queued_at, error=_own_error(stage))]


def _own_error(stage: StageView) -> str | None:
    """A stage keeps the last error of all attempts; one that ended well had none."""
    return stage.error if stage.state in (StageState.FAILED, StageState.DEAD, StageState.CANCELLED) else None


def _since(queued_at: datetime, claimed_at: datetime, before: AnyRow | None) -> datetime:
    """Since when it waited: a lease that ran out was taken from the worker, and nobody put the stage into the queue."""
    return claimed_at if before is not None and queued_at <= before.claimed_at else queued_at


def _as_one(stage: StageView) -> Attempt:
    return Attempt(
        stage=stage.stage,
        token=stage.token,
        attempt=stage.attempt,
        worker=stage.worker,
        task_id=stage.task_id,
        queued_at=stage.queued_at,
        claimed_at=stage.claimed_at or stage.started_at,
        ended_at=stage.finished_at,
        state=stage.state.value,
        error=stage.error,
    )
