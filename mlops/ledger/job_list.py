"""What became of the timetable's lines: the newest run that each of them opened."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from mlops.domain.records import LIVE, Kind
from mlops.ledger import tables
from mlops.ledger.names import pairs_as_rows
from mlops.ledger.repository import LedgerPart
from mlops.ledger.run_lines import RunLine, run_line, run_line_columns

_run = tables.run.c


class JobList(LedgerPart):
    """Runs that the schedule opened, or skipped."""

    def last_of_jobs(
        self, lines: Sequence[tuple[str, Kind]], *, namespace: str = LIVE
    ) -> dict[tuple[str, Kind], RunLine]:
        """The newest run of each strategy and kind, whether beat or a person asked for it; one query."""
        if not lines:
            return {}
        pairs = [(strategy, kind.value) for strategy, kind in lines]
        asked = pairs_as_rows(pairs, "strategy", "kind")
        newest = (
            select(_run.run_id)
            .where(
                _run.namespace == namespace,
                _run.strategy == asked.c.strategy,
                _run.kind == asked.c.kind,
            )
            .order_by(_run.created_at.desc(), _run.run_id.desc())
            .limit(1)
            .correlate(asked)
            .scalar_subquery()
        )
        query = select(*run_line_columns()).select_from(asked).join(tables.run, _run.run_id == newest)
        with self.database.reading() as connection:
            found = [run_line(row) for row in connection.execute(query)]
        return {(line.strategy, line.kind): line for line in found}
