"""Where every strategy stands, in a few queries however many strategies and runs there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import and_, func, select

from mlops.domain.records import LIVE, Kind, RunState
from mlops.ledger import tables
from mlops.ledger.champions import champion_date, same_model
from mlops.ledger.columns import AnyRow, Line, as_rows, columns_of, mapped
from mlops.ledger.engine import Repository
from mlops.ledger.queries.checks import CheckLine, CheckPoint, check_line, check_line_columns, newest_check_of_each

_run = tables.run.c
_stage = tables.stage.c
_report = tables.drift_report.c
_promotion = tables.promotion.c
_champion = tables.champion.c


@dataclass(frozen=True, kw_only=True)
class LastRun:
    """The newest run of a strategy."""

    run_id: str
    kind: Kind
    state: RunState
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class ChampionLine:
    """What is in production, and since when."""

    version: str | None
    as_of: date | None
    """As of when the version was trained."""
    changed_at: datetime


@dataclass(frozen=True, kw_only=True)
class StrategyStatus:
    """One strategy's line."""

    champion: ChampionLine | None
    """None: there never was one."""
    check: CheckLine | None
    run: LastRun | None


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that waits or works, with its current stage."""

    run_id: str
    strategy: str
    kind: Kind
    state: RunState
    reason: str
    requested_by: str
    created_at: datetime
    cancel_requested: bool
    stage: str | None
    stage_state: str | None
    attempt: int | None
    worker: str | None
    queue: str | None
    queued_at: datetime | None
    started_at: datetime | None
    not_before: datetime | None
    progress: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Awaiting:
    """A decision that waits for a person."""

    run_id: str
    strategy: str
    version: str
    created_at: datetime
    reasons: tuple[str, ...]
    evidence_digest: str


class StrategyStatusQueries(Repository):
    """What an overview shows."""

    def standings(self, strategies: Sequence[str], *, namespace: str = LIVE) -> dict[str, StrategyStatus]:
        """By strategy, each with champion, newest check and newest run; three queries."""
        if not strategies:
            return {}
        asked = as_rows(strategies)
        champions = (
            select(_champion.strategy, *columns_of(ChampionLine, _champion, as_of=champion_date))
            .select_from(asked)
            .join(tables.champion, and_(_champion.namespace == namespace, _champion.strategy == asked.c.strategy))
            .outerjoin(tables.promotion, _promotion.id == _champion.promotion_id)
        )
        checks = newest_check_of_each(asked, namespace)
        newest_run = (
            select(_run.run_id)
            .where(_run.namespace == namespace, _run.strategy == asked.c.strategy)
            .order_by(_run.created_at.desc(), _run.run_id.desc())
            .limit(1)
            .correlate(asked)
            .scalar_subquery()
        )
        runs = (
            select(_run.strategy, *columns_of(LastRun, _run))
            .select_from(asked)
            .join(tables.run, _run.run_id == newest_run)
        )
        with self.database.reading() as connection:
            champion_of = {row.strategy: mapped(ChampionLine, row) for row in connection.execute(champions)}
            check_of = {row.strategy: check_line(row) for row in connection.execute(checks)}
            run_of = {row.strategy: _with_words(LastRun, row) for row in connection.execute(runs)}
        return {
            name: StrategyStatus(champion=champion_of.get(name), check=check_of.get(name), run=run_of.get(name))
            for name in strategies
        }

    def recent_checks(
        self, strategies: Sequence[str], *, limit: int = 30, namespace: str = LIVE
    ) -> dict[str, list[CheckLine]]:
        """The newest checks of each, oldest first, one query; where several share the oldest date, some more."""
        found: dict[str, list[CheckLine]] = defaultdict(list)
        for row in self._recent(strategies, check_line_columns(), limit=limit, namespace=namespace):
            found[row.strategy].append(check_line(row))
        for lines in found.values():
            lines.sort(key=lambda line: (line.as_of or date.min, line.id))
        return dict(found)

    def recent_points(
        self, strategies: Sequence[str], *, limit: int = 30, namespace: str = LIVE
    ) -> dict[str, list[CheckPoint]]:
        """Of the same checks what a small picture needs, in half the time."""
        found: dict[str, list[CheckPoint]] = defaultdict(list)
        columns = (_report.strategy, _report.as_of, _report.id, _report.verdict, _report.p_value)
        for strategy, *point in self._recent(strategies, columns, limit=limit, namespace=namespace):
            found[strategy].append(CheckPoint(*point))
        for points in found.values():
            points.sort(key=lambda point: (point.as_of or date.min, point.id))
        return dict(found)

    def _recent(
        self, strategies: Sequence[str], columns: Sequence[Any], *, limit: int, namespace: str
    ) -> Sequence[AnyRow]:
        if not strategies:
            return []
        asked = as_rows(strategies)
        oldest = (
            select(_report.as_of)
            .where(_report.namespace == namespace, _report.strategy == asked.c.strategy)
            .order_by(_report.as_of.desc())
            .offset(limit - 1)
            .limit(1)
            .correlate(asked)
            .scalar_subquery()
        )
        query = (
            select(*columns)
            .select_from(asked)
            .join(
                tables.drift_report,
                and_(
                    _report.namespace == namespace,
                    _report.strategy == asked.c.strategy,
                    _report.as_of >= func.coalesce(oldest, date(1, 1, 1)),
                ),
            )
        )
        with self.database.reading() as connection:
            return connection.execute(query).all()

    def checks_between(
        self, strategies: Sequence[str], first: date, last: date, *, namespace: str = LIVE
    ) -> list[CheckLine]:
        """Checks as of the days from `first` to `last`, oldest first."""
        query = (
            select(*check_line_columns())
            .where(
                _report.namespace == namespace,
                _report.strategy.in_(list(strategies)),
                _report.as_of >= first,
                _report.as_of <= last,
            )
            .order_by(_report.as_of, _report.id)
        )
        with self.database.reading() as connection:
            return [check_line(row) for row in connection.execute(query)]

    def open_runs(self, *, namespace: str | None = LIVE, run_id: str | None = None) -> list[OpenRun]:
        """Runs that wait or work, oldest first, each with the stage that it is at."""
        query = (
            select(*columns_of(OpenRun, _run, _stage, stage_state=_stage.state))
            .outerjoin(tables.stage, and_(_stage.run_id == _run.run_id, _stage.state.in_(["queued", "running"])))
            .where(_run.state.in_(["queued", "running"]))
            .order_by(_run.created_at)
        )
        if namespace is not None:
            query = query.where(_run.namespace == namespace)
        if run_id is not None:
            query = query.where(_run.run_id == run_id)
        with self.database.reading() as connection:
            return [_with_words(OpenRun, row) for row in connection.execute(query)]

    def awaiting(self, *, strategy: str = "", namespace: str = LIVE) -> list[Awaiting]:
        """Decisions that wait for a person: the newest about their version, oldest first."""
        later = tables.promotion.alias()
        is_answered = (
            select(later.c.id)
            .where(
                later.c.namespace == _promotion.namespace,
                later.c.strategy == _promotion.strategy,
                same_model(later.c, _promotion),
                later.c.id > _promotion.id,
            )
            .exists()
        )
        query = (
            select(*columns_of(Awaiting, _promotion))
            .where(_promotion.decision == "await_approval", _promotion.namespace == namespace, ~is_answered)
            .order_by(_promotion.id)
        )
        if strategy:
            query = query.where(_promotion.strategy == strategy)
        with self.database.reading() as connection:
            return [mapped(Awaiting, row, reasons=tuple(row.reasons)) for row in connection.execute(query)]


def _with_words(line: type[Line], row: AnyRow) -> Line:
    return mapped(line, row, kind=Kind(row.kind), state=RunState(row.state))
