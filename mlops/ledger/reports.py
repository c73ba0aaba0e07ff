"""Stored drift reports, one by one, what a page shows of the earlier ones, and which the registry lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import func, select, update

from mlops.domain.drift_history import check_record
from mlops.domain.errors import ReportNotFound
from mlops.domain.records import LIVE, Stage, StageState, StoredReport
from mlops.ledger import tables
from mlops.ledger.columns import as_rows, now
from mlops.ledger.engine import Repository

_report = tables.drift_report.c
_stage = tables.stage.c


class Reports(Repository):
    """Reports are written with the end of their stage; what they say never changes."""

    def stored_report(self, run_id: str) -> StoredReport:
        """Raises ReportNotFound."""
        columns = (
            _report.run_id,
            _report.namespace,
            _report.strategy,
            _report.as_of,
            _report.report,
            _report.registry_run_id,
        )
        with self.database.reading() as connection:
            row = connection.execute(select(*columns).where(_report.run_id == run_id)).one_or_none()
        if row is None:
            raise ReportNotFound(
                f"run {run_id} has no drift report: it is not known, checked no drift, or has not finished the check; "
                f"`acis runs {run_id}` shows which"
            )
        return StoredReport(
            run_id=row.run_id,
            namespace=row.namespace,
            strategy=row.strategy,
            as_of=row.as_of,
            document=row.report,
            registry_run_id=row.registry_run_id,
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

    def unlogged_reports(self, *, limit: int = 50) -> list[str]:
        """Runs whose report the registry does not show yet, newest first; live ones alone."""
        query = (
            select(_report.run_id)
            .where(_report.logged_at.is_(None), _report.namespace == LIVE)
            .order_by(_report.id.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            return list(connection.execute(query).scalars())

    def named_in_registry(self, run_ids: Sequence[str]) -> dict[tuple[str, str], str]:
        """Registry's run of each report and training, and number of each version: (run, kind) → name."""
        asked = as_rows(sorted(set(run_ids)))
        reports = select(_report.run_id, _report.registry_run_id.label("name")).join(
            asked, _report.run_id == asked.c.strategy
        )
        result = _stage.result
        trainings = (
            select(_stage.run_id, result["mlflow_run_id"].as_string(), result["version"].as_string())
            .join(asked, _stage.run_id == asked.c.strategy)
            .where(_stage.stage == Stage.TRAIN, _stage.state == StageState.SUCCEEDED)
        )
        named: dict[tuple[str, str], str | None] = {}
        with self.database.reading() as connection:
            for run_id, name in connection.execute(reports):
                named[run_id, "report"] = name
            for run_id, training, version in connection.execute(trainings):
                named[run_id, "training"], named[run_id, "version"] = training, version
        return {key: name for key, name in named.items() if name}

    def fill_check_columns(self, *, among_newest: int | None = None, limit: int = 100) -> int:
        """Write what reports say in short beside those that an older version stored without it; how many.

        among_newest : of so many reports alone, which costs next to nothing; None: of all, by reading the table once
        """
        empty = select(_report.id, _report.report).where(_report.verdict.is_(None)).order_by(_report.id.desc())
        if among_newest is not None:
            empty = empty.where(_report.id > select(func.max(_report.id) - among_newest).scalar_subquery())
        with self.database.reading() as connection:
            rows = connection.execute(empty.limit(limit)).all()
        said = {row.id: columns for row in rows if (columns := check_columns(row.report))["verdict"] is not None}
        if not said:
            return 0
        with self.database.transaction("ledger.fill_check_columns") as connection:
            for report_id, columns in said.items():
                connection.execute(update(tables.drift_report).where(_report.id == report_id).values(columns))
        return len(said)

    def report_logged(self, run_id: str, *, registry_run_id: str, url: str | None) -> bool:
        """Note where the registry shows the report, beside it and in its stage's result.

        False, and nothing changes, where it was noted already.
        """
        with self.database.transaction("ledger.report_logged") as connection:
            noted = connection.execute(
                update(tables.drift_report)
                .where(_report.run_id == run_id, _report.logged_at.is_(None))
                .values(logged_at=now(), registry_run_id=registry_run_id)
            )
            if noted.rowcount == 0:
                return False
            its_stage = (_stage.run_id == run_id, _stage.stage == Stage.DRIFT)
            result = connection.execute(select(_stage.result).where(*its_stage)).scalar_one_or_none()
            if result is not None:
                shown = {**result, "mlflow_report_run_id": registry_run_id, "mlflow_report_url": url}
                connection.execute(update(tables.stage).where(*its_stage).values(result=shown))
        return True


def check_columns(document: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of `mlops_drift_report`; None where the report does not say."""
    record = check_record(document)
    verdict, calibration = document.get("verdict") or {}, document.get("calibration") or {}
    calibrated = verdict.get("calibrated") or {}
    decides = document["champion_reference"] if calibrated.get("decided_by") == "champion" else calibration
    return {
        "verdict": record.verdict,
        "rule": record.rule,
        "raw_verdict": record.raw_verdict,
        "share": record.share,
        "alert_share": (verdict.get("raw") or {}).get("alert_share"),
        "p_value": record.p_value,
        "alpha": calibrated.get("alpha", calibration.get("alpha")),
        "n_placements": decides.get("n_placements"),
    }
