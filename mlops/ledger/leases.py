"""The right to execute a stage: taken, extended, and lost."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, Float, String, and_, bindparam, case, exists, func, or_, select, update

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import Executor, Grant, Kind, Renewal, Stage, StageState
from mlops.domain.run_states import RunEvent, StageEvent, run_sources, run_target, stage_target
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, after, among, earlier, now
from mlops.ledger.engine import PREPARED, Repository
from mlops.ledger.runs import close_run
from mlops.ledger.stage_completion import RUN_EVENT_OF, is_cancelled, note_attempt
from mlops.ledger.stages import LOST_AFTER_S, found_results, held_by, is_grant, lease_lost, results_of

_run = tables.run.c
_stage = tables.stage.c

#: A stage that may be reclaimed; whoever holds it has been silent for a lease's length, or hangs past its deadline.
is_expired = and_(_stage.state == StageState.RUNNING, _stage.lease_until < now())
is_due = and_(_stage.state == StageState.QUEUED, or_(_stage.not_before.is_(None), _stage.not_before <= now()))
#: It was granted to this very claim before, of which the answer was lost; nobody has worked under that grant.
_is_ours = and_(_stage.state == StageState.RUNNING, _stage.grant_key == bindparam("by_key"))
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
    _stage.deadline_at, _stage.executor, _stage.checkpoint, _stage.grant_key, _stage.traceparent,
)  # fmt: skip
_OF_RUN = (
    _run.strategy, _run.kind, _run.namespace, _run.as_of, _run.policy, _run.params, _run.reason, _run.requested_by,
    *results_of("of_run"),
)  # fmt: skip
_AT_ONCE = (
    update(tables.stage).where(_is_it, or_(is_due, _is_ours), _is_wanted).values(_GRANTED).returning(*_HELD).cte("held")
)
_STARTED = (
    update(tables.run)
    .where(_run.run_id == _AT_ONCE.c.run_id, _run.state != run_target(RunEvent.START))
    .values(state=run_target(RunEvent.START))
    .cte("started")
)
#: A due stage of a run that goes on, in one statement. The stage's row is locked before the run's.
_CLAIM = (
    select(*_AT_ONCE.c, *_OF_RUN)
    .join_from(_AT_ONCE, tables.run, _run.run_id == _AT_ONCE.c.run_id)
    .add_cte(_STARTED)
    .execution_options(**PREPARED)
)
_GIVE_BACK = (
    update(tables.stage).where(_is_it).values(state=stage_target(StageEvent.GIVE_BACK), attempt=_stage.attempt + 1)
)
_is_silent = and_(
    is_expired, _stage.executor == Executor.CELERY, _stage.grant_key.is_distinct_from(bindparam("by_key"))
)
#: Why there was none to claim: its worker fell silent, the run is to stop, or it could be claimed after all.
_UNCLAIMED = (
    select(tables.stage, is_cancelled.label("is_cancelled"), _is_silent.label("is_silent"))
    .where(
        _is_it,
        case(
            (is_cancelled, or_(_stage.state == StageState.QUEUED, is_expired)),
            else_=or_(is_due, _is_ours, _is_silent),
        ),
    )
    .with_for_update()
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


class Leases(Repository):
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
        answer None. The number of the message plays no part: any may wake a due stage.
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
            return _grant(claimed, publish_no=publish_no)
        with self.database.transaction("ledger.claim") as connection:
            return self._unclaimed(connection, values, publish_no=publish_no)

    def _unclaimed(self, connection: Connection, values: dict[str, Any], *, publish_no: int | None) -> Grant | None:
        """What the usual course does not claim: a silent worker's stage is granted anew, that of a run to stop ends."""
        before = connection.execute(_UNCLAIMED, values).one_or_none()
        if before is None:
            return None
        if before.is_cancelled:
            _close(connection, before, StageEvent.CANCEL, error="cancelled before it ran again")
            return None
        if before.is_silent and before.attempt >= before.max_attempts:
            _close(connection, before, StageEvent.EXHAUST, error=silence(before))
            return None
        if before.is_silent:
            note_attempt(connection, before, error=silence(before))
            connection.execute(_GIVE_BACK, {"of_run": before.run_id, "of_stage": before.stage})
        claimed = connection.execute(_CLAIM, values).one_or_none()
        if claimed is None:
            query = select(_run.state, _run.kind, _run.cancel_requested).where(_run.run_id == before.run_id)
            run = connection.execute(query).one()
            if run.cancel_requested:  # since the look
                return self._unclaimed(connection, values, publish_no=publish_no)
            raise InvalidTransition(
                f"{Kind(run.kind)} {before.run_id} is {run.state}, but its stage {before.stage} was still to be done"
            )
        return _grant(claimed, publish_no=publish_no)

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


def _close(connection: Connection, stage: AnyRow, event: StageEvent, *, error: str) -> None:
    """End the stage that nobody may claim, and its run."""
    state = stage_target(event)
    connection.execute(
        update(tables.stage)
        .where(_stage.run_id == stage.run_id, _stage.stage == stage.stage)
        .values(state=state, finished_at=now(), lease_until=None, error=error)
    )
    close_run(connection, stage.run_id, RUN_EVENT_OF[state], error=error)


def _grant(held: AnyRow, *, publish_no: int | None) -> Grant:
    """From a row of `_CLAIM`."""
    return Grant(
        run_id=held.run_id,
        stage=Stage(held.stage),
        token=held.token,
        key=held.grant_key,
        attempt=held.attempt,
        publish_no=held.publish_no if publish_no is None else publish_no,
        lease_until=held.lease_until,
        deadline=held.deadline_at,
        strategy=held.strategy,
        kind=Kind(held.kind),
        namespace=held.namespace,
        as_of=held.as_of,
        policy=held.policy,
        params=held.params,
        reason=held.reason,
        requested_by=held.requested_by,
        executor=Executor(held.executor),
        inputs={name: result for name, result in found_results(held).items() if name != held.stage},
        checkpoint=held.checkpoint,
        traceparent=held.traceparent,
    )
