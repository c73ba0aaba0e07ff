"""How a grant ends: finished, failed, given back, or lost with its process; and the attempts that it leaves."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Date,
    Executable,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert

from mlops import tracing
from mlops.domain.errors import InvalidTransition
from mlops.domain.records import Finished, Grant, RunState, Stage, StageOutcome, StageState
from mlops.domain.run_states import ENDINGS, RunEvent, StageEvent, ending, run_sources, run_target, stage_target
from mlops.ledger import tables
from mlops.ledger.columns import AnyRow, among, dump_json, now
from mlops.ledger.engine import PREPARED, Repository
from mlops.ledger.live.scores import store_live_findings
from mlops.ledger.reports import check_columns
from mlops.ledger.runs import close_run, into_outbox, message_of
from mlops.ledger.stages import (
    birth_of,
    ended_stage,
    ending_of_stage,
    handed_out,
    held_by,
    in_words,
    lease_lost,
    new_stage,
    opening_after,
    publication_of,
    to_be_sent_after,
)


def note_attempt(connection: Connection, before: AnyRow, *, error: str) -> None:
    """The grant that a stage had, from its row of before the change that took the grant away; in that transaction."""
    if before.claimed_at is None:  # claimed by an earlier version of this program
        return
    connection.execute(
        insert(tables.attempt).values(
            run_id=before.run_id,
            stage=before.stage,
            token=before.token,
            attempt=before.attempt,
            worker=before.worker,
            task_id=before.claimed_task_id,
            queued_at=before.queued_at,
            claimed_at=before.claimed_at,
            ended_at=now(),
            error=error,
        )
    )


_run = tables.run.c
_stage = tables.stage.c

is_cancelled = exists().where(_run.run_id == _stage.run_id, _run.cancel_requested.is_(True))
_is_last_attempt = _stage.attempt >= _stage.max_attempts

#: What a stage that comes back without success tells its run; a stage in the queue tells it nothing.
RUN_EVENT_OF = {StageState.DEAD: RunEvent.EXHAUST, StageState.CANCELLED: RunEvent.CANCEL}


def _going_on(*, dated: bool) -> Select[Any]:
    """End the stage well and open the next one of a run that nobody asked to stop.

    dated : the run gets `by_as_of` as its date. Parameters besides: those of `ended_stage` and of `new_stage`.
    """
    goes_on = exists().where(
        _run.run_id == _stage.run_id, _run.state == run_target(RunEvent.START), _run.cancel_requested.is_(False)
    )
    ending = ending_of_stage(StageEvent.COMPLETE).where(goes_on)
    ended = ending.returning(_stage.run_id, _stage.claimed_task_id).cte("ended")
    opened = opening_after(ended, parent_task_id=ended.c.claimed_task_id).cte("opened")
    going_on = select(*opened.c)
    if not dated:
        return going_on
    dating = update(tables.run).where(_run.run_id == ended.c.run_id).values(as_of=bindparam("by_as_of", type_=Date))
    return going_on.add_cte(dating.cte("dated"))


def _ending(run_event: RunEvent, stage_event: StageEvent) -> ReturningInsert[Any]:
    """End stage and run, and put the outcome into the outbox.

    Parameters: those of `ended_stage`, `by_as_of`, `by_outcome`, and `state`, Celery's word for the outcome.
    """
    may_end = exists().where(_run.run_id == _stage.run_id, among(_run.state, run_sources(run_event)))
    ended = ending_of_stage(stage_event).where(may_end).returning(_stage.run_id).cte("ended")
    closing = update(tables.run).where(_run.run_id == ended.c.run_id)
    closed = (
        closing.values(
            state=run_target(run_event),
            as_of=func.coalesce(_run.as_of, bindparam("by_as_of", type_=Date)),
            outcome=bindparam("by_outcome", type_=_run.outcome.type),
            finished_at=now(),
        )
        .returning(_run.run_id)
        .cte("closed")
    )
    return into_outbox(after=closed).returning(tables.outbox.c.run_id)


# What the end of a stage does is one statement, all or nothing: where the grant is lost, or the run has ended or is
# asked to stop, it finds no row to begin with, and a read says which it was. A stage's row is locked before its run's,
# here as everywhere; whoever ends a run ends its stage first, so the run's state stays what it was. A cancellation that
# is asked for in between is found by the next claim.
#: The next stage; by whether the run gets its date.
_GO_ON = {dated: _going_on(dated=dated).execution_options(**PREPARED) for dated in (False, True)}
#: A run that was asked to stop ends after a stage that ended well.
_STOPPED = (RunEvent.CANCEL, StageEvent.COMPLETE)
#: The run's end, by the events of run and stage.
_END = {events: _ending(*events).execution_options(**PREPARED) for events in (*ENDINGS.values(), _STOPPED)}


class StageCompletion(Repository):
    """The fenced writes of a worker that had the right to execute a stage."""

    def finish(self, grant: Grant, outcome: StageOutcome) -> Finished:
        """Write result, run state, next stage and outboxes. Raises LeaseLost."""
        if (outcome.run_state is None) == (outcome.next_stage is None):
            raise InvalidTransition(
                f"stage {grant.stage} of run {grant.run_id} must end the run or name the next stage; "
                f"it gave run_state={outcome.run_state}, next_stage={outcome.next_stage}"
            )
        if outcome.next_stage is not None:
            return self._go_on(grant, outcome, outcome.next_stage)
        return self._end(grant, outcome, outcome.run_state or RunState.FAILED)

    def _go_on(self, grant: Grant, outcome: StageOutcome, stage: Stage) -> Finished:
        birth = birth_of(
            stage,
            strategy=grant.strategy,
            policy=grant.policy,
            executor=grant.executor,
            traceparent=grant.traceparent or tracing.traceparent(),
        )
        dated = grant.as_of is None and outcome.as_of is not None
        values = {**ended_stage(grant, result=outcome.result, error=None), **new_stage(birth)}
        if dated:
            values["by_as_of"] = outcome.as_of
        opened = self._written(grant, outcome, _GO_ON[dated], values)
        if opened is None:
            run = self._run_of(grant)
            if not run.cancel_requested:
                raise InvalidTransition(f"run {grant.run_id} is {run.state} and cannot go on to {stage}")
            return self._close(grant, outcome, _STOPPED, error=f"cancelled after stage {grant.stage}", stage_error=None)
        return Finished(
            run_state=RunState.RUNNING,
            stage_state=StageState.SUCCEEDED,
            publication=publication_of(opened),
            result=outcome.result,
        )

    def _end(self, grant: Grant, outcome: StageOutcome, run_state: RunState) -> Finished:
        told = outcome.result.get("error")
        error = in_words(str(told)) if told else None
        if run_state == RunState.CANCELLED:
            error = error or "cancelled while it ran"
        return self._close(grant, outcome, ending(run_state), error=error, stage_error=error)

    def _close(
        self,
        grant: Grant,
        outcome: StageOutcome,
        events: tuple[RunEvent, StageEvent],
        *,
        error: str | None,
        stage_error: str | None,
    ) -> Finished:
        """End stage and run. Raises LeaseLost, InvalidTransition."""
        state, stored = run_target(events[0]), {grant.stage.value: json.loads(dump_json(outcome.result))}
        with self.database.reading() as connection:
            message = message_of(connection, grant.run_id, stored, state=state, error=error)
        if message is None:
            raise lease_lost(grant)
        values = {
            **ended_stage(grant, result=outcome.result, error=stage_error),
            "by_as_of": outcome.as_of,
            "by_outcome": message.body,
            "state": message.state,
        }
        if self._written(grant, outcome, _END[events], values) is None:
            raise InvalidTransition(f"run {grant.run_id} is {self._run_of(grant).state} and cannot {events[0]}")
        return Finished(
            run_state=state,
            stage_state=stage_target(events[1]),
            result=outcome.result,
            error=stage_error,
            outcome=message,
        )

    def _written(
        self, grant: Grant, outcome: StageOutcome, statement: Executable, values: dict[str, Any]
    ) -> AnyRow | None:
        """What the one statement gives, with the report beside it where there is one; None: nothing was written."""
        if outcome.drift_report is None and outcome.live is None:
            with self.database.statement("ledger.finish") as connection:
                return connection.execute(statement, values).one_or_none()
        with self.database.transaction("ledger.finish") as connection:
            row = connection.execute(statement, values).one_or_none()
            if row is not None and outcome.drift_report is not None:
                _store_report(connection, grant, outcome, outcome.drift_report)
            if row is not None and outcome.live is not None:
                store_live_findings(connection, grant, outcome.live, as_of=outcome.as_of or grant.as_of)
            return row

    def _run_of(self, grant: Grant) -> AnyRow:
        """State and cancellation of the run whose stage could not be ended. Raises LeaseLost where it is not held."""
        query = select(_run.state, _run.cancel_requested).join(tables.stage, _stage.run_id == _run.run_id)
        with self.database.reading() as connection:
            run = connection.execute(query.where(*held_by(grant))).one_or_none()
        if run is None:
            raise lease_lost(grant)
        return run

    def fail(self, grant: Grant, *, error: str, retry: bool, delay_s: float = 0.0, counts: bool = True) -> Finished:
        """The stage did not end well. Raises LeaseLost.

        Where the run was asked to stop meanwhile, it ends cancelled, retry or not.
        """
        words = in_words(error)
        with self.database.transaction("ledger.fail") as connection:
            if retry:
                back = self._give_back(connection, held_by(grant), error=words, delay_s=delay_s, counts=counts)
                if back is None:
                    raise lease_lost(grant)
                return back
            state = case((is_cancelled, stage_target(StageEvent.CANCEL)), else_=stage_target(StageEvent.FAIL))
            row = connection.execute(
                update(tables.stage)
                .where(*held_by(grant))
                .values(state=state, error=words, finished_at=now(), lease_until=None)
                .returning(tables.stage)
            ).one_or_none()
            if row is None:
                raise lease_lost(grant)
            stage_state = StageState(row.state)
            event = RUN_EVENT_OF.get(stage_state, RunEvent.FAIL)
            closed = close_run(connection, grant.run_id, event, error=words)
            return Finished(run_state=closed.state, stage_state=stage_state, error=words, outcome=closed.outcome)

    def release(self, grant: Grant, *, cause: str) -> Finished:
        """Give the lease back without using up an attempt (drain). Raises LeaseLost."""
        return self.fail(grant, error=cause, retry=True, counts=False)

    def worker_lost(self, run_id: str, stage: Stage, *, task_id: str, cause: str) -> Finished | None:
        """A pool process died while it ran this message: like `fail(retry=True)`; None if not held by it."""
        held = (
            _stage.run_id == run_id,
            _stage.stage == stage,
            _stage.claimed_task_id == task_id,
            _stage.state == StageState.RUNNING,
        )
        with self.database.transaction("ledger.worker_lost") as connection:
            return self._give_back(connection, held, error=in_words(cause), delay_s=0.0, counts=True)

    def _give_back(
        self,
        connection: Connection,
        held: tuple[ColumnElement[bool], ...],
        *,
        error: str,
        delay_s: float,
        counts: bool,
    ) -> Finished | None:
        due = to_be_sent_after(delay_s) if delay_s > 0 else handed_out()
        before = connection.execute(select(tables.stage).where(*held).with_for_update()).one_or_none()
        if before is None:
            return None
        row = connection.execute(
            update(tables.stage)
            .where(*held)
            .values(
                publish_no=_stage.publish_no + (0 if delay_s > 0 else 1),
                error=error,
                **returned(counts=counts),
                **due,
            )
            .returning(tables.stage)
        ).one()
        if row.state == StageState.QUEUED:
            note_attempt(connection, before, error=error)
        return self._after_return(connection, row, error=error, handed=delay_s <= 0)

    def _after_return(self, connection: Connection, row: AnyRow, *, error: str, handed: bool) -> Finished:
        state = StageState(row.state)
        event = RUN_EVENT_OF.get(state)
        if event is not None:
            closed = close_run(connection, row.run_id, event, error=error)
            return Finished(run_state=closed.state, stage_state=state, error=error, outcome=closed.outcome)
        return Finished(
            run_state=RunState.RUNNING,
            stage_state=state,
            publication=publication_of(row) if handed else None,
            error=error,
        )


def returned(*, counts: bool) -> dict[str, Any]:
    """Columns of a stage that leaves `running` without success: cancelled, dead, or queued again."""
    cancelled = (is_cancelled, stage_target(StageEvent.CANCEL))
    exhausted = (and_(_is_last_attempt), stage_target(StageEvent.EXHAUST))
    queued = stage_target(StageEvent.GIVE_BACK)
    ends = case(cancelled, exhausted, else_=queued) if counts else case(cancelled, else_=queued)
    is_over = is_cancelled | _is_last_attempt if counts else is_cancelled
    return {
        "state": ends,
        "attempt": _stage.attempt + (case((_is_last_attempt, 0), else_=1) if counts else 0),
        "finished_at": case((is_over, now()), else_=None),
        "queued_at": now(),
        "lease_until": None,
    }


def _store_report(connection: Connection, grant: Grant, outcome: StageOutcome, report: dict[str, Any]) -> None:
    connection.execute(
        insert(tables.drift_report).values(
            run_id=grant.run_id,
            namespace=grant.namespace,
            strategy=grant.strategy,
            as_of=outcome.as_of or grant.as_of,
            report=report,
            created_at=now(),
            **check_columns(report),
        )
    )
