"""Outcomes on their way to the result backend."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, update

from mlops.domain.records import OutcomeMessage
from mlops.ledger import tables
from mlops.ledger.columns import after, now
from mlops.ledger.repository import LedgerPart

_outbox = tables.outbox.c


class Outboxes(LedgerPart):
    """Written with the run's end, emptied by whoever comes first: the worker, or the reconciler."""

    def pending_outcomes(self, *, limit: int = 100) -> list[OutcomeMessage]:
        """Outcomes not yet in the result backend, oldest first."""
        query = (
            select(_outbox.run_id, _outbox.state, tables.run.c.outcome)
            .join(tables.run, tables.run.c.run_id == _outbox.run_id)
            .where(_outbox.delivered_at.is_(None))
            .order_by(_outbox.id)
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [
                OutcomeMessage(run_id=row.run_id, state=row.state, body=row.outcome)
                for row in connection.execute(query)
            ]

    def n_pending_outcomes(self, *, older_than_s: float) -> int:
        """Outcomes that have not been in the result backend for so long."""
        query = select(func.count()).where(_outbox.delivered_at.is_(None), _outbox.created_at < after(-older_than_s))
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def outcomes_delivered(self, run_ids: Sequence[str]) -> None:
        """They are there now."""
        with self.database.statement("ledger.outcomes_delivered") as connection:
            connection.execute(
                update(tables.outbox)
                .where(_outbox.run_id.in_(run_ids), _outbox.delivered_at.is_(None))
                .values(delivered_at=now())
            )

    def redeliver_outcomes(self, *, within_s: float) -> int:
        """Make pending again what was delivered within so many seconds (the result backend was emptied); how many."""
        with self.database.transaction("ledger.redeliver_outcomes") as connection:
            again = connection.execute(
                update(tables.outbox).where(_outbox.delivered_at >= after(-within_s)).values(delivered_at=None)
            )
        return again.rowcount

    def redeliver_outcome(self, run_id: str) -> OutcomeMessage | None:
        """Make one pending again, and give it; None where the run has none."""
        with self.database.transaction("ledger.redeliver_outcome") as connection:
            again = update(tables.outbox).where(_outbox.run_id == run_id).values(delivered_at=None)
            state = connection.execute(again.returning(_outbox.state)).scalar_one_or_none()
            if state is None:
                return None
            query = select(tables.run.c.outcome).where(tables.run.c.run_id == run_id)
            return OutcomeMessage(run_id=run_id, state=state, body=connection.execute(query).scalar_one())
