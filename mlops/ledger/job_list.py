"""What became of the timetable's lines: the newest run that each of them opened."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from mlops.ledger import tables
from mlops.ledger.names import pairs_as_rows
from mlops.ledger.part import LedgerPart
from mlops.ledger.records import LIVE, Kind, RunState
from mlops.ledger.run_list import RunLine

_run = tables.run.c


class JobList(LedgerPart):
    """Runs that the schedule opened, or skipped."""

    def last_scheduled(
        self, lines: Sequence[tuple[str, Kind]], *, namespace: str = LIVE
    ) -> dict[tuple[str, Kind], RunLine]:
        """The newest run with a slot of each strategy and kind; one query."""
        if not lines:
            return {}
        pairs = [(strategy, kind.value) for strategy, kind in lines]
        asked = pairs_as_rows(self.database, pairs, "strategy", "kind")
        newest = (
            select(_run.run_id)
            .where(
                _run.namespace == namespace,
                _run.strategy == asked.c.strategy,
                _run.kind == asked.c.kind,
                _run.slot.is_not(None),
            )
            .order_by(_run.created_at.desc())
            .limit(1)
            .correlate(asked)
            .scalar_subquery()
        )
        columns = (
            _run.run_id,
            _run.strategy,
            _run.kind,
            _run.state,
            _run.as_of,
            _run.reason,
            _run.requested_by,
            _run.created_at,
            _run.finished_at,
            _run.outcome["version"].as_string().label("version"),
            _run.outcome[("stages", "drift", "verdict")].as_string().label("verdict"),
            _run.outcome["error"].as_string().label("error"),
        )
        query = select(*columns).select_from(asked).join(tables.run, _run.run_id == newest)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return {
            (row.strategy, Kind(row.kind)): RunLine(
                **{**dict(row._mapping), "kind": Kind(row.kind), "state": RunState(row.state)}  # noqa: SLF001 -- its name
            )
            for row in rows
        }
