"""The right to execute a stage: taken, extended, and lost."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, case, func, or_, select, update

from mlops.errors import InvalidTransition
from mlops.ledger import tables
from mlops.ledger.attempts import note_attempt
from mlops.ledger.bells import LOST_AFTER_S
from mlops.ledger.closing import close_run
from mlops.ledger.columns import AnyRow, after, earlier, now
from mlops.ledger.endings import RUN_EVENT_OF, is_cancelled
from mlops.ledger.part import LedgerPart
from mlops.ledger.records import FIRST_STAGE, Executor, Grant, Kind, Renewal, Stage, StageState
from mlops.ledger.stages import held_by, lease_lost
from mlops.ledger.states import RunEvent, StageEvent, run_sources, run_target, stage_sources, stage_target

_run = tables.run.c
_stage = tables.stage.c

#: A stage that may be reclaimed; whoever holds it has been silent for a lease's length, or hangs past its deadline.
is_expired = and_(_stage.state == StageState.RUNNING, _stage.lease_until < now())
is_due = and_(_stage.state == StageState.QUEUED, or_(_stage.not_before.is_(None), _stage.not_before <= now()))


class Leases(LedgerPart):
    """Claims and renewals, each one compare-and-swap."""

    def claim(
        self,
        run_id: str,
        stage: Stage,
        *,
        worker: str,
        publish_no: int | None = None,
        task_id: str | None = None,
    ) -> Grant | None:
        """The stage, when it is queued and due or its lease has expired; else None.

        An expired lease was a crash and uses up an attempt; where it was the last, the run is dead and the
        answer None. The number of the message plays no part: any bell may wake a due stage.
        """
        with self.database.transaction("ledger.claim") as connection:
            held = self._swap(connection, run_id, stage, worker=worker, task_id=task_id)
            if held is None:
                self._close_unclaimable(connection, run_id, stage)
                return None
            note_attempt(connection, held)
            run = connection.execute(
                update(tables.run)
                .where(_run.run_id == run_id, _run.state.in_(run_sources(RunEvent.START)))
                .values(state=run_target(RunEvent.START))
                .returning(tables.run)
            ).one_or_none()
            if run is None:
                raise InvalidTransition(f"run {run_id} has ended, but its stage {stage} was still to be done")
            return _grant(held, run, inputs=_earlier_results(connection, run, stage), publish_no=publish_no)

    def _swap(
        self, connection: Connection, run_id: str, stage: Stage, *, worker: str, task_id: str | None
    ) -> AnyRow | None:
        reclaimable = and_(is_expired, _stage.attempt < _stage.max_attempts, _stage.executor == Executor.CELERY)
        crashed = case((_stage.state == StageState.RUNNING, 1), else_=0)
        return connection.execute(
            update(tables.stage)
            .where(_stage.run_id == run_id, _stage.stage == stage)
            .where(_stage.state.in_(stage_sources(StageEvent.CLAIM)), or_(is_due, reclaimable), ~is_cancelled)
            .values(
                state=stage_target(StageEvent.CLAIM),
                token=_stage.token + 1,
                attempt=_stage.attempt + crashed,
                lease_until=earlier(after(self.lease_s), after(_stage.deadline_s)),
                deadline_at=after(_stage.deadline_s),
                worker=worker,
                claimed_task_id=task_id,
                started_at=func.coalesce(_stage.started_at, now()),
                ring_backoff_s=LOST_AFTER_S,
                not_before=None,
                progress=None,
            )
            .returning(tables.stage)
        ).one_or_none()

    def _close_unclaimable(self, connection: Connection, run_id: str, stage: Stage) -> None:
        """End the run whose stage nobody may claim: its last attempt expired, or it was asked to stop."""
        is_exhausted = and_(is_expired, _stage.attempt >= _stage.max_attempts, _stage.executor == Executor.CELERY)
        is_stopped = and_(is_cancelled, or_(_stage.state == StageState.QUEUED, is_expired))
        row = connection.execute(
            update(tables.stage)
            .where(_stage.run_id == run_id, _stage.stage == stage, or_(is_exhausted, is_stopped))
            .values(
                state=case((is_cancelled, stage_target(StageEvent.CANCEL)), else_=stage_target(StageEvent.EXHAUST)),
                finished_at=now(),
                lease_until=None,
            )
            .returning(tables.stage)
        ).one_or_none()
        if row is None:
            return
        event = RUN_EVENT_OF[StageState(row.state)]
        error = silence(row) if event == RunEvent.EXHAUST else "cancelled before it ran again"
        connection.execute(
            update(tables.stage).where(_stage.run_id == run_id, _stage.stage == stage).values(error=error)
        )
        close_run(self.database, connection, run_id, event, error=error)

    def renew(self, grant: Grant, *, progress: dict[str, Any] | None = None, worker: str | None = None) -> Renewal:
        """Extend the lease. Raises LeaseLost, also once the stage's deadline has passed.

        `worker`: the one whose drain flag is read; by default the one that claimed.
        """
        cancel = select(_run.cancel_requested).where(_run.run_id == grant.run_id).scalar_subquery()
        drain = (
            select(tables.worker.c.draining)
            .where(tables.worker.c.name == (worker if worker is not None else _stage.worker))
            .scalar_subquery()
        )
        values: dict[str, Any] = {"lease_until": earlier(after(self.lease_s), _stage.deadline_at)}
        if progress is not None:
            values["progress"] = progress
        with self.database.transaction("ledger.renew") as connection:
            row = connection.execute(
                update(tables.stage)
                .where(*held_by(grant), _stage.deadline_at > now())
                .values(values)
                .returning(_stage.lease_until, cancel.label("cancel"), drain.label("drain"))
            ).one_or_none()
        if row is None:
            raise lease_lost(grant)
        return Renewal(lease_until=row.lease_until, cancel=bool(row.cancel), drain=bool(row.drain))

    def save_checkpoint(self, grant: Grant, checkpoint: dict[str, Any]) -> None:
        """Name what a later grant of this stage may resume from. Raises LeaseLost."""
        with self.database.transaction("ledger.save_checkpoint") as connection:
            named = connection.execute(update(tables.stage).where(*held_by(grant)).values(checkpoint=checkpoint))
            if named.rowcount == 0:
                raise lease_lost(grant)


def silence(row: AnyRow) -> str:
    """What is known of a worker that stopped renewing."""
    words = (
        f"worker {row.worker} stopped renewing the lease of stage {row.stage} "
        f"in attempt {row.attempt} of {row.max_attempts}: it died, hung past the deadline, or lost the ledger"
    )
    return f"{words}; before that: {row.error}" if row.error else words


def _earlier_results(connection: Connection, run: AnyRow, stage: Stage) -> dict[str, dict[str, Any]]:
    if FIRST_STAGE[Kind(run.kind)] == stage:
        return {}
    rows = connection.execute(
        select(_stage.stage, _stage.result).where(
            _stage.run_id == run.run_id, _stage.stage != stage, _stage.result.is_not(None)
        )
    )
    return {row.stage: row.result for row in rows}


def _grant(held: AnyRow, run: AnyRow, *, inputs: dict[str, dict[str, Any]], publish_no: int | None) -> Grant:
    return Grant(
        run_id=held.run_id,
        stage=Stage(held.stage),
        token=held.token,
        attempt=held.attempt,
        publish_no=held.publish_no if publish_no is None else publish_no,
        lease_until=held.lease_until,
        deadline=held.deadline_at,
        strategy=run.strategy,
        kind=Kind(run.kind),
        namespace=run.namespace,
        as_of=run.as_of,
        policy=run.policy,
        params=run.params,
        reason=run.reason,
        requested_by=run.requested_by,
        executor=Executor(held.executor),
        inputs=inputs,
        checkpoint=held.checkpoint,
    )
