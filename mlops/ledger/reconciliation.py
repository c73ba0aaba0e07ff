"""What the reconciler asks of the ledger: messages that are missing, leases that ran out, dead inline runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from math import inf
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, or_, select, true, tuple_, update

from mlops.domain.records import AHEAD_S, Executor, OutcomeMessage, Publication, StageState
from mlops.domain.run_states import RunEvent, StageEvent, stage_sources, stage_target
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, after, now
from mlops.ledger.engine import SILENT_SHARE, Repository
from mlops.ledger.leases import is_due, is_expired, silence
from mlops.ledger.runs import close_run
from mlops.ledger.stage_completion import RUN_EVENT_OF, is_cancelled, note_attempt, returned
from mlops.ledger.stages import LOST_AFTER_MAX_S, LOST_AFTER_S, handed_out, publication_of, to_be_rung

_stage = tables.stage.c
_is_rung = _stage.executor == Executor.CELERY
_is_queued = _stage.state == StageState.QUEUED
_is_running = _stage.state == StageState.RUNNING
_keeps_its_place = or_(_stage.token > 0, _stage.ring_backoff_s > LOST_AFTER_S)
"""As `Publication.keeps_its_place`."""

PASS_LIMIT = 1000
"""Messages of one pass: a broker that was away for a day is filled in portions."""


class Reconciling(Repository):
    """Makes whole what a crash, a lost message or an absent broker left."""

    def try_reconcile_lock(self) -> AbstractContextManager[bool]:
        """True inside where this process is the one that reconciles now."""
        return self.database.try_lock()

    def due_publications(
        self, queue_lengths: Mapping[str, int] | None = None, *, at_once: bool = False
    ) -> list[Publication]:
        """Stages whose message is missing: never published for 5 s, lease expired, due again, or lost.

        Each is handed out with a new number, so two reconcilers never send the same message. A queue that
        `queue_lengths` does not name counts as empty. `at_once`: the broker is known to have lost messages, so that
        none is waited for.
        """
        with self.database.transaction("ledger.due_publications") as connection:
            self._return_expired(connection)
            self._cancel_asked(connection)
            lost = [] if queue_lengths is None else _lost(connection, queue_lengths, at_once=at_once)
            rows = [*_ring(connection, _unconfirmed(connection)), *lost]
        return [publication for row in rows if (publication := publication_of(row)) is not None]

    def due_after_s(self) -> float:
        """Seconds until a pass may find something: a lease that ran out or falls silent, a stage that waited so long.

        Infinite where nothing of the kind is ahead. A worker that lives renews before its lease falls silent, so that
        it is asked for again and again, and never found.
        """
        unsilent_s = self.lease_s * (1 - SILENT_SHARE)
        queries = (
            (select(func.min(_stage.lease_until)).where(_is_running, _stage.lease_until > _from_now(0.0)), 0.0),
            (
                select(func.min(_stage.lease_until)).where(_is_running, _stage.lease_until > _from_now(unsilent_s)),
                unsilent_s,
            ),
            (
                select(func.min(_stage.not_before)).where(_is_queued, _is_rung, _stage.not_before > _from_now(0.0)),
                0.0,
            ),
        )
        with self.database.reading() as connection:
            ahead = [(connection.scalar(query), earlier_s) for query, earlier_s in queries]
            at = connection.execute(select(now())).scalar_one()
        return min(((then - at).total_seconds() - earlier_s for then, earlier_s in ahead if then), default=inf)

    def reroute(self, queue: str) -> int:
        """Take back the messages of `auto` stages that wait in a queue nobody serves any more; how many.

        The next `due_publications` hands them out again, and routing sends them elsewhere, before those that wait there
        for their first turn.
        """
        with self.database.transaction("ledger.reroute") as connection:
            taken = connection.execute(
                update(tables.stage)
                .where(_is_queued, _is_rung, _stage.queue == queue, _stage.device == "auto")
                .where(_stage.published_at.is_not(None))
                .values(**to_be_rung(), ring_backoff_s=_doubled_backoff())
            )
        return taken.rowcount

    def set_leases_back(self) -> int:
        """Leases, deadlines and pauses that a clock gave which was ahead begin now; how many stages.

        A clock that has gone back by an hour would keep a dead worker's stage for that hour. None of them is ever given
        for longer than what is looked for here; a worker that lives renews its lease within seconds.
        """
        pause = and_(_is_queued, _stage.ring_at > _from_now(LOST_AFTER_MAX_S + AHEAD_S))
        lease = and_(_is_running, _stage.lease_until > _from_now(10 * self.lease_s + AHEAD_S))
        deadline = and_(_is_running, _stage.deadline_at > after(_stage.deadline_s + AHEAD_S))
        with self.database.reading() as connection:
            # Two questions, each of an index over some of the rows.
            if not connection.scalar(select(or_(exists().where(pause), exists().where(or_(lease, deadline))))):
                return 0
        begun = {"lease_until": after(self.lease_s), "deadline_at": after(_stage.deadline_s)}
        with self.database.transaction("ledger.set_leases_back") as connection:
            n_held = connection.execute(update(tables.stage).where(or_(lease, deadline)).values(begun)).rowcount
            n_waiting = connection.execute(update(tables.stage).where(pause).values(to_be_rung())).rowcount
        return n_held + n_waiting

    def fail_lost_inline(self) -> int:
        """Fail inline runs whose process stopped renewing, or never claimed; how many."""
        unclaimed = and_(_is_queued, _stage.ring_at < after(-self.lease_s))
        error = "the process that ran it inline stopped; start it again"
        with self.database.transaction("ledger.fail_lost_inline") as connection:
            rows = connection.execute(
                update(tables.stage)
                .where(_stage.executor == Executor.INLINE, or_(is_expired, unclaimed))
                .where(_stage.state.in_(stage_sources(StageEvent.FAIL)))
                .values(state=stage_target(StageEvent.FAIL), error=error, finished_at=now(), lease_until=None)
                .returning(_stage.run_id)
            ).all()
            for row in rows:
                close_run(connection, row.run_id, RunEvent.FAIL, error=error)
        return len(rows)

    def _return_expired(self, connection: Connection) -> None:
        """An expired lease was a crash: back to the queue, or dead with its run."""
        expired = connection.execute(
            select(tables.stage).where(is_expired, _is_rung).with_for_update(skip_locked=True)
        ).all()
        for before in expired:
            error = silence(before)
            row = connection.execute(
                update(tables.stage)
                .where(_key_of(before), _stage.token == before.token, is_expired)
                .values(error=error, **returned(counts=True), **to_be_rung())
                .returning(_stage.run_id, _stage.state)
            ).one_or_none()
            event = None if row is None else RUN_EVENT_OF.get(StageState(row.state))
            if event is not None:
                close_run(connection, before.run_id, event, error=error)
            elif row is not None:
                note_attempt(connection, before, error=error)

    def _cancel_asked(self, connection: Connection) -> None:
        """A cancellation that met a stage on its way back to the queue."""
        rows = connection.execute(
            update(tables.stage)
            .where(_is_queued, is_cancelled)
            .values(state=stage_target(StageEvent.CANCEL), finished_at=now())
            .returning(_stage.run_id)
        ).all()
        for row in rows:
            close_run(connection, row.run_id, RunEvent.CANCEL, error="cancelled before it ran again")


def _from_now(seconds: float) -> ColumnElement[Any]:
    """As a query of its own: an index is not searched for a clock that may tick between two rows."""
    return select(after(seconds)).scalar_subquery()


def _unconfirmed(connection: Connection) -> list[AnyRow]:
    """Due stages whose newest message is not known to be sent, in the order of their runs' age."""
    return list(
        connection.execute(
            select(_stage.run_id, _stage.stage)
            .join(tables.run, tables.run.c.run_id == _stage.run_id)
            .where(_is_queued, _is_rung, _stage.published_at.is_(None), _stage.ring_at <= now())
            .order_by(tables.run.c.created_at)
            .limit(PASS_LIMIT)
            .with_for_update(of=tables.stage, skip_locked=True)
        )
    )


def _lost(connection: Connection, queue_lengths: Mapping[str, int], *, at_once: bool) -> list[AnyRow]:
    """Sent messages that the broker cannot have any more, per queue at most as many as it lacks.

    Those first that a worker would have got first.
    """
    is_sent = and_(_is_queued, _is_rung, is_due, _stage.published_at.is_not(None))
    counts = connection.execute(
        select(_stage.queue, func.count().label("due")).where(is_sent).group_by(_stage.queue)
    ).all()
    rows: list[AnyRow] = []
    for queue, due in counts:
        lacking = min(due - queue_lengths.get(queue, 0), PASS_LIMIT)
        if lacking <= 0:
            continue
        oldest = connection.execute(
            select(_stage.run_id, _stage.stage)
            .where(is_sent, _stage.queue == queue, true() if at_once else _stage.ring_at <= now())
            .order_by(_keeps_its_place.desc(), _stage.published_at)
            .limit(lacking)
            .with_for_update(skip_locked=True)
        ).all()
        rows += _ring(connection, list(oldest), backoff=_doubled_backoff())
    return rows


def _ring(connection: Connection, keys: list[AnyRow], *, backoff: ColumnElement[float] | None = None) -> list[AnyRow]:
    """Hand out the next message of each stage."""
    if not keys:
        return []
    values: dict[str, Any] = {"publish_no": _stage.publish_no + 1, **handed_out()}
    if backoff is not None:
        values["ring_backoff_s"] = backoff
    rung = connection.execute(
        update(tables.stage)
        .where(tuple_(_stage.run_id, _stage.stage).in_([(key.run_id, key.stage) for key in keys]), _is_queued)
        .values(values)
        .returning(tables.stage)
    ).all()
    order = {(key.run_id, key.stage): place for place, key in enumerate(keys)}
    return sorted(rung, key=lambda row: order[row.run_id, row.stage])


def _doubled_backoff() -> ColumnElement[float]:
    doubled = _stage.ring_backoff_s * 2
    return case((doubled < LOST_AFTER_MAX_S, doubled), else_=LOST_AFTER_MAX_S)


def _key_of(row: AnyRow) -> ColumnElement[bool]:
    return and_(_stage.run_id == row.run_id, _stage.stage == row.stage)


# ---- Outcomes on their way to the result backend

_outbox = tables.outbox.c


class Outboxes(Repository):
    """Written with the run's end, emptied by whoever comes first: the worker, or the reconciler."""

    def pending_outcomes(self, *, limit: int = 100) -> list[OutcomeMessage]:
        """Outcomes not yet in the result backend, oldest first."""
        query = (
            select(_outbox.run_id, _outbox.state, tables.run.c.outcome)
            .join(tables.run, tables.run.c.run_id == _outbox.run_id)
            .where(_outbox.delivered_at.is_(None))
            .order_by(_outbox.id)
            .limit(limit)
        )
        with self.database.reading() as connection:
            return [
                OutcomeMessage(run_id=row.run_id, state=row.state, body=row.outcome)
                for row in connection.execute(query)
            ]

    def n_pending_outcomes(self, *, older_than_s: float) -> int:
        """Outcomes that have not been in the result backend for so long."""
        query = select(func.count()).where(_outbox.delivered_at.is_(None), _outbox.created_at < after(-older_than_s))
        with self.database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    def outcomes_delivered(self, run_ids: Sequence[str]) -> None:
        """They are there now."""
        with self.database.statement("ledger.outcomes_delivered") as connection:
            connection.execute(
                update(tables.outbox)
                .where(_outbox.run_id.in_(run_ids), _outbox.delivered_at.is_(None))
                .values(delivered_at=now())
            )

    def redeliver_outcomes(self, *, within_s: float) -> int:
        """Make pending again what was delivered within so many seconds (the result backend was emptied); how many."""
        with self.database.transaction("ledger.redeliver_outcomes") as connection:
            again = connection.execute(
                update(tables.outbox).where(_outbox.delivered_at >= after(-within_s)).values(delivered_at=None)
            )
        return again.rowcount

    def redeliver_outcome(self, run_id: str) -> OutcomeMessage | None:
        """Make one pending again, and give it; None where the run has none."""
        with self.database.transaction("ledger.redeliver_outcome") as connection:
            again = update(tables.outbox).where(_outbox.run_id == run_id).values(delivered_at=None)
            state = connection.execute(again.returning(_outbox.state)).scalar_one_or_none()
            if state is None:
                return None
            query = select(tables.run.c.outcome).where(tables.run.c.run_id == run_id)
            return OutcomeMessage(run_id=run_id, state=state, body=connection.execute(query).scalar_one())
