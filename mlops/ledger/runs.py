"""Runs are accepted, confirmed as published, cancelled and brought back here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    exc,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from mlops.domain.errors import InvalidTransition, RunNotFound
from mlops.domain.records import (
    FIRST_STAGE,
    NEVER_BLOCKED,
    Accepted,
    Executor,
    Publication,
    RunRequest,
    RunState,
    Sent,
    StageState,
)
from mlops.domain.run_states import (
    ACTIVE,
    RunEvent,
    StageEvent,
    run_after,
    run_sources,
    run_target,
    stage_sources,
    stage_target,
)
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, after, now
from mlops.ledger.prepared import PREPARED
from mlops.ledger.publications import handed_out, publication_of
from mlops.ledger.repository import LedgerPart
from mlops.ledger.run_completion import close_run
from mlops.ledger.stages import birth_of, cancel_queued, new_stage, opening_after

_run = tables.run.c
_stage = tables.stage.c

_SENT = (
    update(tables.stage)
    .where(
        _stage.run_id == bindparam("of_run"),
        _stage.stage == bindparam("of_stage"),
        _stage.publish_no == bindparam("of_number"),
        _stage.state == StageState.QUEUED,
    )
    .values(
        queue=bindparam("by_queue"),
        task_id=bindparam("by_task"),
        published_at=now(),
        ring_at=after(_stage.ring_backoff_s),
    )
    .execution_options(**PREPARED)
)

_ASKED = (
    "run_id", "namespace", "strategy", "kind", "executor", "slot", "reason", "requested_by", "as_of", "policy",
    "params", "batch_id",
)  # fmt: skip


def _insertion() -> ReturningInsert[Any]:
    """A queued run, or nothing where another one is in the way; its parameters are those of `_new_run`."""
    values = {name: bindparam(f"run_{name}", type_=_run[name].type) for name in _ASKED}
    inserting = insert(tables.run).values(**values, state=RunState.QUEUED, created_at=now())
    return inserting.on_conflict_do_nothing().returning(_run.run_id)


def _new_run(columns: dict[str, Any]) -> dict[str, Any]:
    return {f"run_{name}": value for name, value in columns.items()}


#: The run and its first stage in one statement.
_ACCEPT = opening_after(_insertion().cte("created")).execution_options(**PREPARED)

_ACCEPT_TRIES = 5
"""The run that was in the way can end between two statements; five times in a row it does not."""


class Runs(LedgerPart):
    """The life of a run but for its stages' execution."""

    def accept(self, request: RunRequest) -> Accepted:
        """Insert run and first stage, or find the run that is there already.

        A request with an id of its own, as a start by message has, gets the same answer whenever it comes again: also
        after the run that it was answered with has ended, for as long as that is kept.
        """
        run_id = request.run_id or str(uuid.uuid4())
        if request.run_id is not None and (answered := self._answered(run_id)) is not None:
            return answered
        for _ in range(_ACCEPT_TRIES):
            first = self._opened(run_id, request)
            if first is not None:
                publication = publication_of(first)
                return Accepted(run_id=run_id, created=True, state=RunState.QUEUED, publication=publication)
            with self.database.reading() as connection:
                there = _run_in_the_way(connection, run_id, request)
                unsent = None if there is None or there.run_id != run_id else _unsent(connection, run_id)
            if there is None:
                continue
            if request.run_id is not None and there.run_id != run_id:
                self._note_answer(run_id, there.run_id)
            return Accepted(run_id=there.run_id, created=False, state=RunState(there.state), publication=unsent)
        raise InvalidTransition(
            f"{request.kind} of {request.strategy!r} met a run that ended {_ACCEPT_TRIES} times; ask again"
        )

    def _answered(self, task_id: str) -> Accepted | None:
        """What a start was answered with before; None for one that is new, or has a run of its own."""
        query = (
            select(_run.run_id, _run.state)
            .join(tables.answered_start, tables.answered_start.c.run_id == _run.run_id)
            .where(tables.answered_start.c.task_id == task_id)
        )
        with self.database.reading() as connection:
            there = connection.execute(query).one_or_none()
        if there is None:
            return None
        return Accepted(run_id=there.run_id, created=False, state=RunState(there.state), publication=None)

    def _note_answer(self, task_id: str, run_id: str) -> None:
        # Before it is given: a message whose worker dies in between comes again.
        noting = insert(tables.answered_start).values(task_id=task_id, run_id=run_id, created_at=now())
        with self.database.statement("ledger.answered") as connection:
            connection.execute(noting.on_conflict_do_nothing())

    def _opened(self, run_id: str, request: RunRequest) -> AnyRow | None:
        """The first stage of the new run; None where another run is in the way."""
        run = {
            "run_id": run_id,
            "namespace": request.namespace,
            "strategy": request.strategy,
            "kind": request.kind,
            "executor": request.executor,
            "slot": request.slot,
            "reason": request.reason,
            "requested_by": request.requested_by,
            "as_of": request.as_of,
            "policy": request.policy,
            "params": request.params,
            "batch_id": request.batch_id,
        }
        birth = birth_of(
            FIRST_STAGE[request.kind], strategy=request.strategy, policy=request.policy, executor=request.executor
        )
        with self.database.statement("ledger.accept") as connection:
            return connection.execute(_ACCEPT, {**_new_run(run), **new_stage(birth)}).one_or_none()

    def published(self, sent: Sequence[Sent]) -> None:
        """Note messages that were sent; nothing where the stage was claimed or a newer number handed out meanwhile."""
        if len(sent) > 1:
            sent = self._still_queued(sent)
        for one in sent:
            values = {
                "of_run": one.publication.run_id,
                "of_stage": one.publication.stage,
                "of_number": one.publication.publish_no,
                "by_queue": one.queue,
                "by_task": one.task_id,
            }
            with self.database.statement("ledger.published") as connection:
                connection.execute(_SENT, values)

    def _still_queued(self, sent: Sequence[Sent]) -> list[Sent]:
        """Where messages flow, most stages have been claimed a moment later: one look saves as many writes."""
        keys = [(one.publication.run_id, one.publication.stage) for one in sent]
        query = select(_stage.run_id, _stage.stage).where(
            tuple_(_stage.run_id, _stage.stage).in_(keys), _stage.state == StageState.QUEUED
        )
        with self.database.reading() as connection:
            queued = {(row.run_id, row.stage) for row in connection.execute(query)}
        return [one for one, key in zip(sent, keys, strict=True) if key in queued]

    def cancel(self, run_id: str, *, actor: str) -> RunState:
        """Cancel a queued run at once, ask a running one to stop. Raises RunNotFound, InvalidTransition."""
        with self.database.transaction("ledger.cancel") as connection:
            # stages before runs, here as everywhere: one order of locks, no deadlock
            waited = cancel_queued(connection, run_id)
            asked = connection.execute(
                update(tables.run)
                .where(_run.run_id == run_id, _run.state.in_(run_sources(RunEvent.CANCEL)))
                .values(cancel_requested=True)
                .returning(_run.state)
            ).one_or_none()
            if asked is None:
                run_after(_state_of(connection, run_id), RunEvent.CANCEL)
                raise RunNotFound(f"run {run_id} is not in the ledger")  # unreachable: the line above raises
            _audit(connection, actor, "run.cancel", run_id)
            if not waited:
                return RunState(asked.state)
            words = f"cancelled by {actor} before it ran"
            return close_run(connection, run_id, RunEvent.CANCEL, error=words).state

    def requeue(self, run_id: str, *, actor: str) -> Publication:
        """Bring a dead run back with fresh attempts. Raises RunNotFound, InvalidTransition."""
        try:
            with self.database.transaction("ledger.requeue") as connection:
                return self._requeue(connection, run_id, actor)
        except exc.IntegrityError as error:
            raise InvalidTransition(
                f"run {run_id} cannot be brought back while another run of its kind is active for the strategy; "
                "wait for it or cancel it"
            ) from error

    def _requeue(self, connection: Connection, run_id: str, actor: str) -> Publication:
        row = connection.execute(
            update(tables.stage)
            .where(_stage.run_id == run_id, _stage.state.in_(stage_sources(StageEvent.REQUEUE)))
            .values(
                state=stage_target(StageEvent.REQUEUE),
                executor=Executor.CELERY,  # an inline process is gone; the workers take it over
                attempt=1,
                publish_no=_stage.publish_no + 1,
                queued_at=now(),
                finished_at=None,
                **handed_out(),
            )
            .returning(tables.stage)
        ).one_or_none()
        revived = connection.execute(
            update(tables.run)
            .where(_run.run_id == run_id, _run.state.in_(run_sources(RunEvent.REQUEUE)))
            .values(
                state=run_target(RunEvent.REQUEUE),
                executor=Executor.CELERY,
                outcome=None,
                finished_at=None,
                cancel_requested=False,
            )
        )
        if row is None or revived.rowcount == 0:
            state = _state_of(connection, run_id)
            raise InvalidTransition(f"run {run_id} is {state}; only a dead run can be brought back")
        connection.execute(delete(tables.outbox).where(tables.outbox.c.run_id == run_id))
        _audit(connection, actor, "run.requeue", run_id)
        publication = publication_of(row)
        if publication is None:
            raise InvalidTransition(f"run {run_id} is inline and has no message")
        return publication


def _run_in_the_way(connection: Connection, run_id: str, request: RunRequest) -> AnyRow | None:
    """The run with this id, else of this slot, else the active one."""
    same_kind = and_(_run.namespace == request.namespace, _run.strategy == request.strategy, _run.kind == request.kind)
    # a request without a slot has none in common with the other runs that have none
    in_slot = _run.slot == request.slot if request.slot is not None else false()
    active = and_(same_kind, _run.state.in_(ACTIVE), literal(request.kind not in NEVER_BLOCKED))
    return connection.execute(
        select(_run.run_id, _run.state)
        .where(or_(_run.run_id == run_id, and_(same_kind, in_slot), active))
        .order_by((_run.run_id == run_id).desc(), func.coalesce(in_slot, False).desc())
        .limit(1)
    ).one_or_none()


def _unsent(connection: Connection, run_id: str) -> Publication | None:
    """The message of a run that nobody confirmed as sent: a redelivered start task rings again."""
    row = connection.execute(
        select(tables.stage)
        .join(tables.run, _run.run_id == _stage.run_id)
        .where(
            _stage.run_id == run_id,
            _run.state == RunState.QUEUED,
            _stage.state.in_(stage_sources(StageEvent.CLAIM)),
            _stage.token == 0,
            _stage.published_at.is_(None),
        )
    ).one_or_none()
    return None if row is None else publication_of(row)


def _state_of(connection: Connection, run_id: str) -> RunState:
    state = connection.scalar(select(_run.state).where(_run.run_id == run_id))
    if state is None:
        raise RunNotFound(f"run {run_id} is not in the ledger; `acis runs` lists those that are")
    return RunState(state)


def _audit(connection: Connection, actor: str, action: str, subject: str) -> None:
    connection.execute(insert(tables.audit).values(actor=actor, action=action, subject=subject, created_at=now()))
