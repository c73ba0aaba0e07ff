"""Drift checks as a list that can be sorted and filtered, and counted by strategy and by day; no report is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import CTE, ColumnElement, Date, FromClause, Select, and_, case, func, literal, or_, select, tuple_

from mlops.domain.records import LIVE, Kind
from mlops.domain.run_states import FAILURES
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, as_rows, columns_of, mapped
from mlops.ledger.engine import Repository


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


_report = tables.drift_report.c
_run = tables.run.c

CheckSort = Literal["made", "strategy", "as_of", "share", "p_value", "verdict"]
CHECK_SORTS: tuple[str, ...] = get_args(CheckSort)
"""What a list can be sorted by; `made`: the order in which the checks were made."""


@dataclass(frozen=True, kw_only=True)
class StrategyDays:
    """A strategy's days with a check."""

    strategy: str
    n_checked: int
    n_drifted: int
    """Days on which a check said `drifted`"""
    highest_share: float | None


@dataclass(frozen=True, kw_only=True)
class DayStrategies:
    """A day's strategies with a check."""

    as_of: date
    n_checked: int
    n_drifted: int
    """Strategies of which a check said `drifted`"""


@dataclass(frozen=True, kw_only=True)
class FailedCheck:
    """A run that was to check a strategy's drift and ended by an error before it had."""

    run_id: str
    strategy: str
    day: date
    """As of which it was to check; where it did not get so far, the day on which it was opened"""


class CheckList(Repository):
    """Reads the columns beside the reports alone."""

    def sorted_checks(
        self,
        *,
        strategies: Sequence[str] = (),
        verdict: str = "",
        since: date | None = None,
        sort: CheckSort = "made",
        descending: bool = True,
        skip: int = 0,
        limit: int = 50,
        namespace: str = LIVE,
    ) -> list[CheckLine]:
        """Checks in that order, the newest first among equals; those without the value stand last.

        strategies : none: of all      since : as of this day, or later
        """
        chosen: ColumnElement[Any] = _report.id if sort == "made" else _report[sort]
        ordered = (chosen.desc() if descending else chosen.asc()).nulls_last()
        query = (
            select(*check_line_columns())
            .where(_report.namespace == namespace)
            .order_by(ordered, _report.id.desc())
            .offset(skip)
            .limit(limit)
        )
        if strategies:
            query = query.where(_report.strategy.in_(list(strategies)))
        if verdict:
            query = query.where(_report.verdict == verdict)
        if since is not None:
            query = query.where(_report.as_of >= since)
        with self.database.reading() as connection:
            return [check_line(row) for row in connection.execute(query)]

    def check_of(self, run_id: str) -> CheckLine | None:
        """A run's check; None: it has made none, or not yet."""
        with self.database.reading() as connection:
            row = connection.execute(select(*check_line_columns()).where(_report.run_id == run_id)).one_or_none()
        return None if row is None else check_line(row)

    def checks_beside(self, line: CheckLine, *, namespace: str = LIVE) -> tuple[CheckLine | None, CheckLine | None]:
        """The strategy's check before this one and the one after, by as-of date."""
        place = tuple_(literal(line.as_of, Date()), literal(line.id))
        here = tuple_(_report.as_of, _report.id)
        its_own = select(*check_line_columns()).where(
            _report.namespace == namespace, _report.strategy == line.strategy, _report.as_of.is_not(None)
        )
        before = its_own.where(here < place).order_by(_report.as_of.desc(), _report.id.desc()).limit(1)
        later = its_own.where(here > place).order_by(_report.as_of, _report.id).limit(1)
        with self.database.reading() as connection:
            rows = [connection.execute(query).one_or_none() for query in (before, later)]
        first, second = (None if row is None else check_line(row) for row in rows)
        return first, second

    def newest_as_of(self, strategies: Sequence[str], *, namespace: str = LIVE) -> date | None:
        """The newest as-of date of their checks; each strategy's is looked up in an index."""
        asked = as_rows(strategies)
        newest = (
            select(func.max(_report.as_of))
            .where(_report.namespace == namespace, _report.strategy == asked.c.strategy)
            .correlate(asked)
            .scalar_subquery()
        )
        with self.database.reading() as connection:
            return max((day for day in connection.scalars(select(newest).select_from(asked)) if day), default=None)

    def newest_of_each(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, CheckLine]:
        """Each strategy's check of the newest date."""
        asked = as_rows(strategies)
        with self.database.reading() as connection:
            return {row.strategy: check_line(row) for row in connection.execute(newest_check_of_each(asked, namespace))}

    def drift_by_strategy(
        self, strategies: Sequence[str], first: date, last: date, *, namespace: str = LIVE
    ) -> dict[str, StrategyDays]:
        """Days with a check and with drift of each strategy, from `first` to `last`."""
        query = (
            select(
                _report.strategy,
                func.count(_report.as_of.distinct()).label("n_checked"),
                func.count(_drifted(_report.as_of).distinct()).label("n_drifted"),
                func.max(_report.share).label("highest_share"),
            )
            .select_from(self._between(strategies, first, last, namespace))
            .group_by(_report.strategy)
        )
        with self.database.reading() as connection:
            return {row.strategy: mapped(StrategyDays, row) for row in connection.execute(query)}

    def drift_by_day(
        self, strategies: Sequence[str], first: date, last: date, *, namespace: str = LIVE
    ) -> list[DayStrategies]:
        """How many strategies were checked and drifted on each day, oldest first."""
        query = (
            select(
                _report.as_of,
                func.count(_report.strategy.distinct()).label("n_checked"),
                func.count(_drifted(_report.strategy).distinct()).label("n_drifted"),
            )
            .select_from(self._between(strategies, first, last, namespace))
            .group_by(_report.as_of)
            .order_by(_report.as_of)
        )
        with self.database.reading() as connection:
            return [mapped(DayStrategies, row) for row in connection.execute(query)]

    def failed_checks(self, first: date, last: date, *, namespace: str = LIVE) -> list[FailedCheck]:
        """Of all strategies, from `first` to `last`, oldest first; one query."""
        begin = datetime(first.year, first.month, first.day, tzinfo=UTC)
        end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)
        opened = and_(_run.as_of.is_(None), _run.created_at >= begin, _run.created_at < end)
        query = (
            select(_run.run_id, _run.strategy, _run.as_of, _run.created_at)
            .where(
                _run.namespace == namespace,
                _run.state.in_([state.value for state in FAILURES]),
                _run.kind.in_([Kind.CHECK.value, Kind.PIPELINE.value]),
                or_(_run.as_of.between(first, last), opened),
                ~select(_report.id).where(_report.run_id == _run.run_id).exists(),
            )
            .order_by(_run.created_at, _run.run_id)
        )
        with self.database.reading() as connection:
            return [
                FailedCheck(
                    run_id=row.run_id, strategy=row.strategy, day=row.as_of or row.created_at.astimezone(UTC).date()
                )
                for row in connection.execute(query)
            ]

    def _between(self, strategies: Sequence[str], first: date, last: date, namespace: str) -> FromClause:
        asked = as_rows(strategies)
        return asked.join(
            tables.drift_report,
            and_(
                _report.namespace == namespace,
                _report.strategy == asked.c.strategy,
                _report.as_of >= first,
                _report.as_of <= last,
            ),
        )


def _drifted(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """The value where the check said `drifted`, else NULL, which is not counted."""
    return case((_report.verdict == "drifted", value))
