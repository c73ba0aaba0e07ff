"""Runs as lines of a list, page by page, and how long earlier ones took; a whole run is `readers.run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select

from mlops.domain.errors import RunNotFound
from mlops.domain.promotion.records import ModelIdentity, Promotion
from mlops.domain.records import LIVE, Kind, RunState
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, columns_of, mapped, older_than, pairs_as_rows, within
from mlops.ledger.engine import Repository

# ---- A run as a line of a list: the columns that it is read from, and the line


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in a list."""

    run_id: str
    strategy: str
    kind: Kind
    state: RunState
    as_of: date | None
    reason: str
    requested_by: str
    created_at: datetime
    finished_at: datetime | None
    version: str | None
    verdict: str | None
    error: str | None


def _run_line_columns() -> list[ColumnElement[Any]]:
    """What a `RunLine` is read from; no policy, no result and no outcome as a whole."""
    return columns_of(RunLine, _run, **_outcome_columns())


def _outcome_columns() -> dict[str, ColumnElement[Any]]:
    """What came of a run, in short."""
    return {
        "version": _run.outcome["version"].as_string(),
        "verdict": _run.outcome[("stages", "drift", "verdict")].as_string(),
        "error": _run.outcome["error"].as_string(),
    }


def _run_line(row: AnyRow) -> RunLine:
    """A row with those columns."""
    return mapped(RunLine, row, kind=Kind(row.kind), state=RunState(row.state))


_run = tables.run.c
_stage = tables.stage.c
_promotion = tables.promotion.c


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long a training took."""

    strategy: str
    run_s: float
    is_incremental: bool
    n_trials: int
    """Of a tuning; 0: none."""


class RunList(Repository):
    """Reads no policy, no result and no outcome as a whole."""

    def run_lines(
        self,
        *,
        strategy: str = "",
        strategies: Sequence[str] | None = None,
        states: Sequence[str] = (),
        kinds: Sequence[str] = (),
        before: tuple[datetime, str] | None = None,
        since: datetime | None = None,
        limit: int = 50,
        namespace: str = LIVE,
    ) -> list[RunLine]:
        """Newest first. `before`: time and id of the last line of the page before, so that any page is as quick.

        strategies : of these alone; None: of all
        """
        query = (
            select(*_run_line_columns())
            .where(_run.namespace == namespace)
            .order_by(_run.created_at.desc(), _run.run_id.desc())
            .limit(limit)
        )
        if strategy:
            query = query.where(_run.strategy == strategy)
        if strategies is not None:
            query = query.where(_run.strategy.in_(list(strategies)))
        if states:
            query = query.where(_run.state.in_(list(states)))
        if kinds:
            query = query.where(_run.kind.in_(list(kinds)))
        if since is not None:
            query = query.where(_run.created_at >= since)
        if before is not None:
            query = query.where(older_than(before, _run.created_at, _run.run_id))
        with self.database.reading() as connection:
            return [_run_line(row) for row in connection.execute(query)]

    def state_counts(self, *, within_s: float, namespace: str = LIVE) -> dict[str, int]:
        """How many runs of the last so many seconds are in each state."""
        # The time as a query of its own: an index is not searched for a clock that may tick between two rows.
        query = (
            select(_run.state, func.count().label("n"))
            .where(_run.namespace == namespace, within(_run.created_at, within_s))
            .group_by(_run.state)
        )
        with self.database.reading() as connection:
            return {row.state: row.n for row in connection.execute(query)}

    def newest_trainings(self, *, limit: int = 500) -> list[Training]:
        """Of all strategies, newest first: what an estimate rests on."""
        query = (
            select(
                _stage.strategy,
                _stage.started_at,
                _stage.finished_at,
                _run.params["incremental"].as_boolean().label("incremental"),
                _run.params["tune"].as_integer().label("tune"),
            )
            .join(tables.run, _run.run_id == _stage.run_id)
            .where(_stage.stage == "train", _stage.state == "succeeded", _stage.started_at.is_not(None))
            .order_by(_stage.finished_at.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            Training(
                strategy=row.strategy,
                run_s=(row.finished_at - row.started_at).total_seconds(),
                is_incremental=bool(row.incremental),
                n_trials=int(row.tune or 0),
            )
            for row in rows
        ]

    def newest_run(self, strategy: str, kind: Kind, params: dict[str, Any], *, namespace: str = LIVE) -> str | None:
        """Id of the newest run of a kind that was asked for with these parameters, of the last hundred; or None."""
        query = (
            select(_run.run_id, _run.params)
            .where(_run.namespace == namespace, _run.strategy == strategy, _run.kind == kind)
            .order_by(_run.created_at.desc())
            .limit(100)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return next((row.run_id for row in rows if params.items() <= row.params.items()), None)

    def newest_tested(self, strategy: str, first: str, second: str, *, namespace: str = LIVE) -> str | None:
        """Run of the newest decision that rests on a paired test of the two versions, whichever was the champion."""
        champion = _promotion.evidence[("champion", "version")].as_string()
        pairs = ((first, second), (second, first))
        query = (
            select(_promotion.run_id)
            .where(
                _promotion.namespace == namespace,
                _promotion.strategy == strategy,
                _promotion.run_id.is_not(None),
                or_(*(and_(champion == one, _promotion.version == other) for one, other in pairs)),
                _promotion.evidence[("test", "metric")].as_string().is_not(None),
            )
            .order_by(_promotion.id.desc())
            .limit(1)
        )
        with self.database.reading() as connection:
            return connection.scalar(query)

    def decisions(
        self, *, strategy: str = "", before: int | None = None, limit: int = 50, namespace: str = LIVE
    ) -> list[Promotion]:
        """Promotions without their evidence, newest first; `before`: the id of the last of the page before."""
        columns = [column for column in _promotion if column.name != "evidence"]
        query = select(*columns).where(_promotion.namespace == namespace).order_by(_promotion.id.desc()).limit(limit)
        if strategy:
            query = query.where(_promotion.strategy == strategy)
        if before is not None:
            query = query.where(_promotion.id < before)
        with self.database.reading() as connection:
            return [
                mapped(
                    Promotion,
                    row,
                    reasons=tuple(row.reasons),
                    evidence={},
                    identity=ModelIdentity(sha256=row.model_sha256, made_by=row.made_by),
                )
                for row in connection.execute(query)
            ]


# ---- What somebody started together: the runs of one batch


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


class StartList(Repository):
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
            select(*columns_of(StartedLine, _run, _stage, stage_state=_stage.state, **_outcome_columns()))
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


# ---- What became of the timetable's lines: the newest run that each of them opened


class JobList(Repository):
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
        query = select(*_run_line_columns()).select_from(asked).join(tables.run, _run.run_id == newest)
        with self.database.reading() as connection:
            found = [_run_line(row) for row in connection.execute(query)]
        return {(line.strategy, line.kind): line for line in found}
