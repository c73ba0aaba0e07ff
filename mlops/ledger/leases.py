"""The right to execute a stage: taken, extended, and lost."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, Float, String, and_, bindparam, case, exists, func, or_, select, update

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import Executor, Grant, Kind, Renewal, Stage, StageState
from mlops.domain.run_states import RunEvent, StageEvent, run_sources, run_target, stage_target
from mlops.ledger import tables
from mlops.ledger.attempts import note_attempt
from mlops.ledger.columns import AnyRow, after, among, earlier, now
from mlops.ledger.prepared import PREPARED
from mlops.ledger.publications import LOST_AFTER_S
from mlops.ledger.repository import LedgerPart
from mlops.ledger.run_completion import close_run
from mlops.ledger.stage_completion import RUN_EVENT_OF, is_cancelled
from mlops.ledger.stages import found_results, held_by, is_grant, lease_lost, results_of

_run = tables.run.c
_stage = tables.stage.c

#: A stage that may be reclaimed; whoever holds it has been silent for a lease's length, or hangs past its deadline.
is_expired = and_(_stage.state == StageState.RUNNING, _stage.lease_until < now())
is_due = and_(_stage.state == StageState.QUEUED, or_(_stage.not_before.is_(None), _stage.not_before <= now()))
#: Or it was granted to this very claim before, of which the answer was lost; nobody has worked under that grant.
_is_claimable = or_(is_due, and_(_stage.state == StageState.RUNNING, _stage.grant_key == bindparam("by_key")))

_is_reclaimable = and_(
    is_expired, _stage.attempt < _stage.max_attempts, _stage.executor == Executor.CELERY, ~is_cancelled
)
#: Of a run that goes on, and that this program knows how to do, as a condition on its stage.
_is_wanted = exists().where(
    _run.run_id == _stage.run_id,
    among(_run.state, run_sources(RunEvent.START)),
    _run.cancel_requested.is_(False),
    among(_run.kind, Kind),
)
_is_it = and_(_stage.run_id == bindparam("of_run"), _stage.stage == bindparam("of_stage"))
_GRANTED: dict[str, Any] = {
    "state": stage_target(StageEvent.CLAIM),
    "token": _stage.token + 1,
    "grant_key": bindparam("by_key"),
    "lease_until": earlier(after(bindparam("for_s", type_=Float)), after(_stage.deadline_s)),
    "deadline_at": after(_stage.deadline_s),
    "worker": bindparam("by_worker"),
    "claimed_task_id": bindparam("by_task"),
    "queue": func.coalesce(bindparam("by_queue", type_=String), _stage.queue),
    "started_at": func.coalesce(_stage.started_at, now()),
    "claimed_at": now(),
    "ring_backoff_s": LOST_AFTER_S,
    "not_before": None,
    "progress": None,
}

_HELD = (
    _stage.run_id, _stage.stage, _stage.token, _stage.attempt, _stage.publish_no, _stage.lease_until,
    _stage.deadline_at, _stage.executor, _stage.checkpoint, _stage.grant_key,
)  # fmt: skip
_SWAP = update(tables.stage).where(_is_it, _is_claimable, ~is_cancelled).values(_GRANTED).returning(*_HELD)
_SILENT = select(tables.stage).where(_is_it, _is_reclaimable).with_for_update()
_RESWAP = (
    update(tables.stage)
    .where(_is_it, _is_reclaimable)
    .values({**_GRANTED, "attempt": _stage.attempt + 1})
    .returning(*_HELD)
)
_START = (
    update(tables.run)
    .where(_run.run_id == bindparam("of_run"), _run.state.in_(run_sources(RunEvent.START)))
    .values(state=run_target(RunEvent.START))
)
_OF_RUN = (
    _run.strategy, _run.kind, _run.namespace, _run.as_of, _run.policy, _run.params, _run.reason, _run.requested_by,
    *results_of("of_run"),
)  # fmt: skip
_ABOUT = select(_run.state, *_OF_RUN).where(_run.run_id == bindparam("of_run"))
_AT_ONCE = update(tables.stage).where(_is_it, _is_claimable, _is_wanted).values(_GRANTED).returning(*_HELD).cte("held")
_STARTED = (
    update(tables.run)
    .where(_run.run_id == _AT_ONCE.c.run_id, _run.state != run_target(RunEvent.START))
    .values(state=run_target(RunEvent.START))
    .cte("started")
)
#: A due stage of a run that goes on, in one statement (PostgreSQL alone). The stage's row is locked before the run's.
_CLAIM = (
    select(*_AT_ONCE.c, *_OF_RUN)
    .join_from(_AT_ONCE, tables.run, _run.run_id == _AT_ONCE.c.run_id)
    .add_cte(_STARTED)
    .execution_options(**PREPARED)
)
_RENEW = (
    update(tables.stage)
    .where(
        _stage.run_id == bindparam("of_run"),
        _stage.stage == bindparam("of_stage"),
        _stage.token == bindparam("of_token"),
        is_grant(bindparam("of_key", type_=String)),
        _stage.state == StageState.RUNNING,
        _stage.deadline_at > now(),
    )
    .values(
        lease_until=earlier(after(bindparam("for_s", type_=Float)), _stage.deadline_at),
        progress=func.coalesce(bindparam("by_progress", type_=_stage.progress.type), _stage.progress),
    )
    .returning(
        _stage.lease_until,
        select(_run.cancel_requested).where(_run.run_id == bindparam("of_run")).scalar_subquery().label("cancel"),
        select(tables.worker.c.draining)
        .where(tables.worker.c.name == func.coalesce(bindparam("of_worker", type_=String), _stage.worker))
        .scalar_subquery()
        .label("drain"),
    )
    .execution_options(**PREPARED)
)


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
        queue: str | None = None,
        key: str | None = None,
    ) -> Grant | None:
        """The stage, when it is queued and due or its lease has expired; else None.

        key : of `new_key`, the same for each try of one claim: a try whose answer was lost is granted again. None: one
        of its own

        An expired lease was a crash and uses up an attempt; where it was the last, the run is dead and the
        answer None. The number of the message plays no part: any bell may wake a due stage.
        """
        values = {
            "of_run": run_id,
            "of_stage": stage,
            "for_s": self.lease_s,
            "by_worker": worker,
            "by_task": task_id,
            "by_queue": queue,
            "by_key": new_key() if key is None else key,
        }
        with self.database.statement("ledger.claim") as connection:
            claimed = connection.execute(_CLAIM, values).one_or_none()
        if claimed is not None:
            return _grant(claimed, claimed, publish_no=publish_no)
        with self.database.transaction("ledger.claim") as connection:
            held = connection.execute(_SWAP, values).one_or_none() or self._reclaimed(connection, values)
            if held is None:
                self._close_unclaimable(connection, run_id, stage)
                return None
            run = connection.execute(_ABOUT, {"of_run": run_id}).one()
            if run.state not in run_sources(RunEvent.START):
                raise InvalidTransition(f"run {run_id} has ended, but its stage {stage} was still to be done")
            if run.state != run_target(RunEvent.START):
                connection.execute(_START, {"of_run": run_id})
            return _grant(held, run, publish_no=publish_no)

    def _reclaimed(self, connection: Connection, values: dict[str, Any]) -> AnyRow | None:
        """The stage of a worker that was silent for a lease's length; None where there is none."""
        key = {"of_run": values["of_run"], "of_stage": values["of_stage"]}
        before = connection.execute(_SILENT, key).one_or_none()
        if before is None:
            return None
        taken = connection.execute(_RESWAP, values).one_or_none()
        if taken is not None:  # else it was cancelled in between
            note_attempt(connection, before, error=silence(before))
        return taken

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
        close_run(connection, run_id, event, error=error)

    def renew(self, grant: Grant, *, progress: dict[str, Any] | None = None, worker: str | None = None) -> Renewal:
        """Extend the lease. Raises LeaseLost, also once the stage's deadline has passed.

        `worker`: the one whose drain flag is read; by default the one that claimed.
        """
        with self.database.statement("ledger.renew") as connection:
            row = connection.execute(
                _RENEW,
                {
                    "of_run": grant.run_id,
                    "of_stage": grant.stage,
                    "of_token": grant.token,
                    "of_key": grant.key,
                    "for_s": self.lease_s,
                    "by_progress": progress,
                    "of_worker": worker,
                },
            ).one_or_none()
        if row is None:
            raise lease_lost(grant)
        return Renewal(lease_until=row.lease_until, cancel=bool(row.cancel), drain=bool(row.drain))

    def save_checkpoint(self, grant: Grant, checkpoint: dict[str, Any]) -> None:
        """Name what a later grant of this stage may resume from. Raises LeaseLost."""
        with self.database.statement("ledger.save_checkpoint") as connection:
            named = connection.execute(update(tables.stage).where(*held_by(grant)).values(checkpoint=checkpoint))
            if named.rowcount == 0:
                raise lease_lost(grant)


def new_key() -> str:
    """What tells a claim from every other one."""
    return secrets.token_hex(8)


def silence(row: AnyRow) -> str:
    """What is known of a worker that stopped renewing."""
    words = (
        f"worker {row.worker} stopped renewing the lease of stage {row.stage} "
        f"in attempt {row.attempt} of {row.max_attempts}: it died, hung past the deadline, or lost the ledger"
    )
    return f"{words}; before that: {row.error}" if row.error else words


def _grant(held: AnyRow, run: AnyRow, *, publish_no: int | None) -> Grant:
    """From a row that has `_HELD` and one that has `_OF_RUN`."""
    return Grant(
        run_id=held.run_id,
        stage=Stage(held.stage),
        token=held.token,
        key=held.grant_key,
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
        inputs={name: result for name, result in found_results(run).items() if name != held.stage},
        checkpoint=held.checkpoint,
    )
