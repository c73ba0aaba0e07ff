"""Runs are accepted, confirmed as published, cancelled, ended and brought back here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import (
    CTE,
    Connection,
    Date,
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
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.sql.dml import ReturningInsert

from mlops import tracing
from mlops.domain.errors import InvalidTransition, RunNotFound
from mlops.domain.records import (
    FIRST_STAGE,
    NEVER_BLOCKED,
    Accepted,
    Executor,
    OutcomeMessage,
    Publication,
    RunRequest,
    RunState,
    Sent,
    StageState,
)
from mlops.domain.run_states import (
    ACTIVE,
    SUCCESSES,
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
from mlops.ledger.engine import PREPARED, Repository
from mlops.ledger.stages import (
    birth_of,
    cancel_queued,
    found_results,
    handed_out,
    new_stage,
    opening_after,
    publication_of,
    results_of,
)

_run = tables.run.c

# ---- The end of a run: its state, its outcome, and the outcome's place in the outbox, in one transaction

_promotion = tables.promotion.c


_ABOUT = (
    select(
        _run.run_id, _run.strategy, _run.kind, _run.state, _run.reason, _run.params,
        _promotion.decision, _promotion.version, _promotion.reasons,
        *results_of("of_run"),
    )
    .outerjoin(tables.promotion, _promotion.run_id == _run.run_id)
    .where(_run.run_id == bindparam("of_run"))
    .execution_options(**PREPARED)
)  # fmt: skip
_CLOSE = {
    event: update(tables.run)
    .where(_run.run_id == bindparam("of_run"), _run.state.in_(run_sources(event)))
    .values(
        state=run_target(event),
        as_of=func.coalesce(_run.as_of, bindparam("by_as_of", type_=Date)),
        outcome=bindparam("by_outcome", type_=tables.run.c.outcome.type),
        finished_at=now(),
    )
    for event in RunEvent
}


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A run that has ended."""

    state: RunState
    outcome: OutcomeMessage


def close_run(
    connection: Connection,
    run_id: str,
    event: RunEvent,
    *,
    error: str | None = None,
    as_of: date | None = None,
) -> Closed:
    """End the run, whose stages have all ended already in this transaction. Raises InvalidTransition."""
    state = run_target(event)
    run = connection.execute(_ABOUT, {"of_run": run_id}).one()
    message = _message(run, found_results(run), state=state, error=error)
    closed = connection.execute(_CLOSE[event], {"of_run": run_id, "by_as_of": as_of, "by_outcome": message.body})
    if closed.rowcount == 0:
        raise InvalidTransition(f"run {run_id} is {run.state} and cannot {event}")
    connection.execute(_TO_OUTBOX, {"run_id": run_id, "state": message.state})
    return Closed(state=state, outcome=message)


def message_of(
    connection: Connection, run_id: str, results: Mapping[str, Mapping[str, Any]], *, state: RunState, error: str | None
) -> OutcomeMessage | None:
    """The outcome of a run that is about to end, with `results` beside those that are in the ledger already."""
    run = connection.execute(_ABOUT, {"of_run": run_id}).one_or_none()
    if run is None:
        return None
    return _message(run, {**found_results(run), **results}, state=state, error=error)


def _message(
    run: AnyRow, results: Mapping[str, Mapping[str, Any]], *, state: RunState, error: str | None
) -> OutcomeMessage:
    outcome = outcome_of(run, results, state=state, error=error)
    return OutcomeMessage(run_id=run.run_id, state="SUCCESS" if state in SUCCESSES else "FAILURE", body=outcome)


def into_outbox(*, after: CTE | None = None) -> Insert:
    """Pending, also where an earlier end of the run, before a requeue, was delivered already.

    Of the parameter `run_id`, or of the run that `after` gives, if any; with the parameter `state`.
    """
    state = bindparam("state", type_=tables.outbox.c.state.type)
    if after is None:
        adding = insert(tables.outbox).values(run_id=bindparam("run_id"), state=state, created_at=now())
    else:
        adding = insert(tables.outbox).from_select(
            ["run_id", "state", "created_at"], select(after.c.run_id, state, now())
        )
    return adding.on_conflict_do_update(
        index_elements=[tables.outbox.c.run_id],
        set_={"state": adding.excluded.state, "created_at": adding.excluded.created_at, "delivered_at": None},
    )


_TO_OUTBOX = into_outbox()


def outcome_of(
    run: AnyRow, results: Mapping[str, Mapping[str, Any]], *, state: RunState, error: str | None
) -> dict[str, Any]:
    """What `AsyncResult(run_id).get()` returns, or shows as the error.

    `version` and `reasons` come from the run's promotion, else from its stages' results.
    """
    found: dict[str, Any] = dict(run.params)
    for result in results.values():
        found.update({key: result[key] for key in ("version", "reasons") if result.get(key) is not None})
    decided = run.decision is not None
    return {
        "run_id": run.run_id,
        "strategy": run.strategy,
        "kind": run.kind,
        "state": state,
        "reason": run.reason,
        "stages": results,
        "version": run.version if decided else found.get("version"),
        "promoted": run.decision in {"promote", "override", "rollback"},
        "reasons": list(run.reasons if decided else found.get("reasons", ())),
        "error": error,
    }


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


class Runs(Repository):
    """The life of a run but for its stages' execution."""

    def accept(self, request: RunRequest) -> Accepted:
        """Insert run and first stage, or find the run that is there already.

        A request with an id of its own, as a start by message has, gets the same answer whenever it comes again: also
        after the run that it was answered with has ended, for as long as that is kept.
        """
        run_id = request.run_id or str(uuid.uuid4())
        if request.run_id is not None and (answered := self._answered(run_id)) is not None:
            return answered
        with tracing.traced("accept", run_id=run_id, strategy=request.strategy, kind_of_run=request.kind):
            return self._accepted(run_id, request)

    def _accepted(self, run_id: str, request: RunRequest) -> Accepted:
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
            FIRST_STAGE[request.kind],
            strategy=request.strategy,
            policy=request.policy,
            executor=request.executor,
            traceparent=tracing.traceparent(),
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
