"""A drift check as a line of a list: the columns beside its report that it is read from, and the line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from sqlalchemy import CTE, Select, select

from mlops.ledger import tables
from mlops.ledger.columns import AnyRow

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


def check_line_columns() -> tuple[Any, ...]:
    """What a `CheckLine` is read from."""
    return (
        _report.id,
        _report.run_id,
        _report.strategy,
        _report.as_of,
        _report.created_at,
        _report.verdict,
        _report.rule,
        _report.raw_verdict,
        _report.share,
        _report.alert_share,
        _report.p_value,
        _report.alpha,
        _report.n_placements,
    )


def check_line(row: AnyRow) -> CheckLine:
    """A row with those columns."""
    return CheckLine(
        id=row.id,
        run_id=row.run_id,
        strategy=row.strategy,
        as_of=row.as_of,
        checked_at=row.created_at,
        verdict=row.verdict,
        rule=row.rule,
        raw_verdict=row.raw_verdict,
        share=row.share,
        alert_share=row.alert_share,
        p_value=row.p_value,
        alpha=row.alpha,
        n_placements=row.n_placements,
    )


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
