"""A drift check as a line of a list: the columns beside its report that it is read from, and the line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import CTE, ColumnElement, Select, select

from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, columns_of, mapped

_report = tables.drift_report.c


@dataclass(frozen=True, kw_only=True)
class CheckLine:
    """A drift check in short."""

    id: int
    run_id: str
    strategy: str
    as_of: date | None
    checked_at: datetime
    verdict: str | None
    rule: str | None
    raw_verdict: str | None
    share: float | None
    alert_share: float | None
    p_value: float | None
    alpha: float | None
    n_placements: int | None


class CheckPoint(NamedTuple):
    """A drift check as a point of a picture."""

    as_of: date | None
    id: int
    verdict: str | None
    p_value: float | None


def check_line_columns() -> list[ColumnElement[Any]]:
    """What a `CheckLine` is read from."""
    return columns_of(CheckLine, _report, checked_at=_report.created_at)


def check_line(row: AnyRow) -> CheckLine:
    """A row with those columns."""
    return mapped(CheckLine, row)


def newest_check_of_each(asked: CTE, namespace: str) -> Select[Any]:
    """Rows for `check_line`: of each strategy that is asked for, its check of the newest date."""
    newest = (
        select(_report.id)
        .where(_report.namespace == namespace, _report.strategy == asked.c.strategy)
        .order_by(_report.as_of.desc(), _report.id.desc())
        .limit(1)
        .correlate(asked)
        .scalar_subquery()
    )
    return select(*check_line_columns()).select_from(asked).join(tables.drift_report, _report.id == newest)
