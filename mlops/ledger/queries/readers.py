"""What a page, a command or a backend reads of runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select

from mlops.domain.drift.episodes import CheckedDay
from mlops.domain.errors import RunNotFound
from mlops.domain.records import LIVE, Executor, Kind, RunState, RunView, Stage, StageState, StageView
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, now
from mlops.ledger.engine import Repository

_run = tables.run.c
_stage = tables.stage.c
_report = tables.drift_report.c
#: States in which a run with a training has come to its end.
_TRAINED = (RunState.SUCCEEDED, RunState.REFUSED, RunState.AWAITING_APPROVAL)
#: Runs that an error names.
_NAMED = 4


class RunQueries(Repository):
    """Views; none of them waits for a writer."""

    def now(self) -> datetime:
        """The database's clock."""
        with self.database.reading() as connection:
            return connection.execute(select(now())).scalar_one()

    def run(self, run_id: str) -> RunView:
        """Raises RunNotFound."""
        with self.database.reading() as connection:
            row = connection.execute(select(tables.run).where(_run.run_id == run_id)).one_or_none()
            if row is None:
                raise RunNotFound(f"run {run_id} is not in the ledger; `acis runs` lists those that are")
            return _run_view(row, _stages_of(connection, [run_id])[run_id])

    def full_run_id(self, written: str) -> str:
        """The id of the one run that has it, or whose id begins with it as lists show it. Raises RunNotFound."""
        beginning = _run.run_id.startswith(written, autoescape=True)
        query = select(_run.run_id).where(beginning).order_by(_run.created_at.desc()).limit(_NAMED + 1)
        with self.database.reading() as connection:
            exact = connection.execute(select(_run.run_id).where(_run.run_id == written)).scalar_one_or_none()
            found = [exact] if exact is not None else list(connection.execute(query).scalars()) if written else []
        if len(found) == 1:
            return str(found[0])
        if not found:
            raise RunNotFound(f"no run's id is or begins with {written!r}; `acis runs` lists those that are there")
        named = ", ".join(found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise RunNotFound(f"{written!r} is the beginning of several runs' ids; give more of it: {named}")

    def runs(
        self,
        *,
        strategy: str | None = None,
        strategies: Sequence[str] | None = None,
        states: Sequence[RunState] = (),
        kinds: Sequence[str] = (),
        namespace: str | None = LIVE,
        limit: int = 50,
    ) -> list[RunView]:
        """Newest first."""
        query = select(tables.run).order_by(_run.created_at.desc(), _run.run_id).limit(limit)
        if strategy is not None:
            query = query.where(_run.strategy == strategy)
        if strategies is not None:
            query = query.where(_run.strategy.in_(list(strategies)))
        if namespace is not None:
            query = query.where(_run.namespace == namespace)
        if states:
            query = query.where(_run.state.in_(states))
        if kinds:
            query = query.where(_run.kind.in_(kinds))
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
            stages = _stages_of(connection, [row.run_id for row in rows])
        return [_run_view(row, stages[row.run_id]) for row in rows]

    def longest_wait_s(self) -> float | None:
        """Seconds since the oldest stage that is due went into the queue; None where none waits."""
        query = select(func.min(_stage.queued_at), now()).where(
            _stage.state == StageState.QUEUED, or_(_stage.not_before.is_(None), _stage.not_before <= now())
        )
        with self.database.reading() as connection:
            oldest, asked_at = connection.execute(query).one()
        return None if oldest is None else float((asked_at - oldest).total_seconds())

    def drift_reports(self, strategy: str, *, limit: int = 90, namespace: str = LIVE) -> list[dict[str, Any]]:
        """Reports as they were stored, newest as-of date first, with `run_id` and `as_of` (ISO text) added."""
        query = (
            select(_report.run_id, _report.as_of, _report.report)
            .where(_report.namespace == namespace, _report.strategy == strategy)
            .order_by(_report.as_of.desc(), _report.id.desc())
            .limit(limit)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [
            {**row.report, "run_id": row.run_id, "as_of": row.as_of.isoformat() if row.as_of else None} for row in rows
        ]

    def checked_days(self, strategy: str, *, since: date, before: date, namespace: str = LIVE) -> list[CheckedDay]:
        """Verdicts of the checks as of these dates, oldest first, of several of one date the newest last.

        Reads no whole report, but for those of an older version whose columns are not filled in yet.
        """
        # An old report has its verdict inside alone.
        verdict = func.coalesce(_report.verdict, _report.report["verdict"]["verdict"].as_string())
        query = (
            select(_report.as_of, verdict.label("verdict"), _report.p_value)
            .where(
                _report.namespace == namespace,
                _report.strategy == strategy,
                _report.as_of >= since,
                _report.as_of < before,
            )
            .order_by(_report.as_of, _report.id)
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
        return [CheckedDay(as_of=row.as_of, verdict=row.verdict, p_value=row.p_value) for row in rows if row.verdict]

    def retrained_days(self, strategy: str, *, until: date, without_run: str, namespace: str = LIVE) -> list[date]:
        """As-of dates of the other runs that trained and came to their end, promoted or not, oldest first."""
        query = (
            select(_run.as_of)
            .distinct()
            .where(*_other_trained(strategy, until=until, without_run=without_run, namespace=namespace))
            .order_by(_run.as_of)
        )
        with self.database.reading() as connection:
            return list(connection.execute(query).scalars())

    def trained_for_labels(
        self, strategy: str, *, until: date, without_run: str, namespace: str = LIVE
    ) -> list[RunView]:
        """Those of these runs whose training the check of newly known labels opened, newest as-of date first."""
        opened = exists().where(
            _stage.run_id == _run.run_id,
            _stage.stage == Stage.DRIFT,
            _stage.result["retrain_reason"].as_string() == "labels",
        )
        query = (
            select(tables.run)
            .where(*_other_trained(strategy, until=until, without_run=without_run, namespace=namespace), opened)
            .order_by(_run.as_of.desc(), _run.created_at.desc())
        )
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
            stages = _stages_of(connection, [row.run_id for row in rows])
        return [_run_view(row, stages[row.run_id]) for row in rows]


def _other_trained(strategy: str, *, until: date, without_run: str, namespace: str) -> tuple[ColumnElement[bool], ...]:
    trained = exists().where(_stage.run_id == _run.run_id, _stage.stage == Stage.TRAIN, _stage.result.is_not(None))
    return (
        _run.namespace == namespace,
        _run.strategy == strategy,
        _run.state.in_(_TRAINED),
        _run.as_of <= until,
        _run.run_id != without_run,
        trained,
    )


def _stages_of(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[StageView]]:
    stages: dict[str, list[StageView]] = defaultdict(list)
    if run_ids:
        rows = connection.execute(select(tables.stage).where(_stage.run_id.in_(run_ids)))
        for row in rows:
            stages[row.run_id].append(_stage_view(row))
    order = list(Stage)
    for views in stages.values():
        views.sort(key=lambda view: order.index(view.stage))
    return stages


def _run_view(row: AnyRow, stages: Sequence[StageView]) -> RunView:
    return RunView(
        run_id=row.run_id,
        namespace=row.namespace,
        strategy=row.strategy,
        kind=Kind(row.kind),
        state=RunState(row.state),
        slot=row.slot,
        reason=row.reason,
        requested_by=row.requested_by,
        executor=Executor(row.executor),
        as_of=row.as_of,
        policy=row.policy,
        params=row.params,
        outcome=row.outcome,
        cancel_requested=row.cancel_requested,
        created_at=row.created_at,
        finished_at=row.finished_at,
        stages=tuple(stages),
    )


def _stage_view(row: AnyRow) -> StageView:
    return StageView(
        stage=Stage(row.stage),
        state=StageState(row.state),
        attempt=row.attempt,
        token=row.token,
        publish_no=row.publish_no,
        worker=row.worker,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        not_before=row.not_before,
        progress=row.progress,
        result=row.result,
        error=row.error,
        task_id=row.claimed_task_id or row.task_id,
        claimed_at=row.claimed_at,
    )
