"""What somebody started together: the runs of one batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select

from mlops.domain.errors import RunNotFound
from mlops.domain.records import LIVE, Kind, RunState
from mlops.ledger import tables
from mlops.ledger.columns import columns_of, mapped, older_than
from mlops.ledger.repository import LedgerPart
from mlops.ledger.run_lines import outcome_columns

_run = tables.run.c
_stage = tables.stage.c


@dataclass(frozen=True, kw_only=True)
class Start:
    """Who started runs, and since when."""

    requested_by: str
    since: datetime
    batch_id: str | None = None
    """None: all that they started since then."""


@dataclass(frozen=True, kw_only=True)
class StartedLine:
    """A run that was started, with the stage that it is at and what came of it."""

    run_id: str
    strategy: str
    kind: Kind
    state: RunState
    created_at: datetime
    finished_at: datetime | None
    cancel_requested: bool
    stage: str | None
    stage_state: str | None
    progress: dict[str, Any] | None
    version: str | None
    verdict: str | None
    error: str | None


class StartList(LedgerPart):
    """Reads no policy and no result as a whole."""

    def batch(self, batch_id: str) -> Start:
        """The start of those runs. Raises RunNotFound."""
        query = select(_run.requested_by, _run.created_at).where(_run.batch_id == batch_id)
        with self.database.reading() as connection:
            first = connection.execute(query.order_by(_run.created_at).limit(1)).one_or_none()
        if first is None:
            raise RunNotFound(f"no run of batch {batch_id!r} is in the ledger; `acis runs` lists those that are")
        return Start(requested_by=first.requested_by, since=first.created_at, batch_id=batch_id)

    def started(
        self, start: Start, *, before: tuple[datetime, str] | None = None, limit: int = 50, namespace: str = LIVE
    ) -> list[StartedLine]:
        """Newest first; `before`: time and id of the last line of the page before."""
        query = (
            select(*columns_of(StartedLine, _run, _stage, stage_state=_stage.state, **outcome_columns()))
            .outerjoin(tables.stage, and_(_stage.run_id == _run.run_id, _stage.state.in_(["queued", "running"])))
            .where(*_of(start, namespace))
            .order_by(_run.created_at.desc(), _run.run_id.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(older_than(before, _run.created_at, _run.run_id))
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [mapped(StartedLine, row, kind=Kind(row.kind), state=RunState(row.state)) for row in rows]

    def started_counts(self, start: Start, *, namespace: str = LIVE) -> Counter[str]:
        """How many of them are in each state."""
        query = select(_run.state, func.count().label("n")).where(*_of(start, namespace)).group_by(_run.state)
        with self.database.reading() as connection:
            return Counter({row.state: row.n for row in connection.execute(query)})


def _of(start: Start, namespace: str) -> tuple[ColumnElement[bool], ...]:
    if start.batch_id is not None:
        return (_run.namespace == namespace, _run.batch_id == start.batch_id)
    return (_run.namespace == namespace, _run.created_at >= start.since, _run.requested_by == start.requested_by)
