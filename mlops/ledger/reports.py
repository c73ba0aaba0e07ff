"""Stored drift reports, one by one, and what a page shows of the earlier ones."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import select

from mlops.errors import ReportNotFound
from mlops.ledger import tables
from mlops.ledger.part import LedgerPart
from mlops.ledger.records import LIVE, StoredReport

_report = tables.drift_report.c


class Reports(LedgerPart):
    """Reports are written with the end of their stage, and never changed."""

    def stored_report(self, run_id: str) -> StoredReport:
        """Raises ReportNotFound."""
        columns = (_report.run_id, _report.namespace, _report.strategy, _report.as_of, _report.report)
        with self.database.reading() as connection:
            row = connection.execute(select(*columns).where(_report.run_id == run_id)).one_or_none()
        if row is None:
            raise ReportNotFound(
                f"run {run_id} has no drift report: it is not known, checked no drift, or has not finished the check; "
                f"`acis runs {run_id}` shows which"
            )
        return StoredReport(
            run_id=row.run_id, namespace=row.namespace, strategy=row.strategy, as_of=row.as_of, document=row.report
        )

    def earlier_checks(
        self, strategy: str, *, before: date, limit: int = 60, namespace: str = LIVE
    ) -> list[dict[str, Any]]:
        """`windows`, `psi` and `verdict` of reports as of earlier dates, newest first; a tenth of a whole report."""
        parts = [_report.report[key].label(key) for key in ("windows", "psi", "verdict")]
        query = (
            select(*parts)
            .where(_report.namespace == namespace, _report.strategy == strategy, _report.as_of < before)
            .order_by(_report.as_of.desc(), _report.id.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [dict(row._mapping) for row in rows if row.windows and row.psi and row.verdict]  # noqa: SLF001 -- its name
