"""How a grant ends: finished, failed, given back, or lost with its process."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, exists, insert, select, update

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import Finished, Grant, OutcomeMessage, RunState, Stage, StageOutcome, StageState
from mlops.domain.run_states import RunEvent, StageEvent, ending, stage_target
from mlops.ledger import tables
from mlops.ledger.attempts import note_attempt
from mlops.ledger.check_columns import check_columns
from mlops.ledger.columns import AnyRow, dump_json, now
from mlops.ledger.finishing import END, GO_ON
from mlops.ledger.publications import handed_out, publication_of, to_be_rung_after
from mlops.ledger.repository import LedgerPart
from mlops.ledger.run_completion import close_run, message_of
from mlops.ledger.stages import (
    birth_of,
    end_stage,
    ended_stage,
    held_by,
    in_words,
    lease_lost,
    new_stage,
    open_stage,
)

_run = tables.run.c
_stage = tables.stage.c

is_cancelled = exists().where(_run.run_id == _stage.run_id, _run.cancel_requested.is_(True))
is_last_attempt = _stage.attempt >= _stage.max_attempts

_DATED = update(tables.run).where(_run.run_id == bindparam("of_run")).values(as_of=bindparam("by_as_of"))
#: What a stage that comes back without success tells its run; a stage in the queue tells it nothing.
RUN_EVENT_OF = {StageState.DEAD: RunEvent.EXHAUST, StageState.CANCELLED: RunEvent.CANCEL}


class Endings(LedgerPart):
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

    def _writing(self, outcome: StageOutcome) -> AbstractContextManager[Connection]:
        """For the one statement of the usual course, and for the report where there is one."""
        if outcome.drift_report is None:
            return self.database.statement("ledger.finish")
        return self.database.transaction("ledger.finish")

    def _end(self, grant: Grant, outcome: StageOutcome, run_state: RunState) -> Finished:
        run_event, stage_event = ending(run_state)
        told = outcome.result.get("error")
        error = in_words(str(told)) if told else None
        if run_state == RunState.CANCELLED:
            error = error or "cancelled while it ran"
        message = self._ended_at_once(grant, outcome, run_state, error)
        if message is None:
            with self.database.transaction("ledger.finish") as connection:
                end_stage(connection, grant, stage_event, result=outcome.result, error=error)
                _store_report(connection, grant, outcome)
                closed = close_run(connection, grant.run_id, run_event, error=error, as_of=outcome.as_of)
                message = closed.outcome
        return Finished(
            run_state=run_state,
            stage_state=stage_target(stage_event),
            result=outcome.result,
            error=error,
            outcome=message,
        )

    def _ended_at_once(
        self, grant: Grant, outcome: StageOutcome, run_state: RunState, error: str | None
    ) -> OutcomeMessage | None:
        """None, and nothing written: it is not the usual course."""
        stored = {grant.stage.value: json.loads(dump_json(outcome.result))}
        with self.database.reading() as connection:
            message = message_of(connection, grant.run_id, stored, state=run_state, error=error)
        if message is None:
            return None
        values = {
            **ended_stage(grant, result=outcome.result, error=error),
            "by_as_of": outcome.as_of,
            "by_outcome": message.body,
            "state": message.state,
        }
        with self._writing(outcome) as connection:
            if connection.execute(END[run_state], values).one_or_none() is None:
                return None
            _store_report(connection, grant, outcome)
        return message

    def _go_on(self, grant: Grant, outcome: StageOutcome, stage: Stage) -> Finished:
        birth = birth_of(stage, strategy=grant.strategy, policy=grant.policy, executor=grant.executor)
        opened = self._gone_on_at_once(grant, outcome, birth)
        if opened is not None:
            return Finished(
                run_state=RunState.RUNNING,
                stage_state=StageState.SUCCEEDED,
                publication=publication_of(opened),
                result=outcome.result,
            )
        with self.database.transaction("ledger.finish") as connection:
            return self._go_on_or_stop(connection, grant, outcome, birth)

    def _gone_on_at_once(self, grant: Grant, outcome: StageOutcome, birth: dict[str, Any]) -> AnyRow | None:
        """The stage that follows. None, and nothing written: it is not the usual course."""
        dated = grant.as_of is None and outcome.as_of is not None
        values = {**ended_stage(grant, result=outcome.result, error=None), **new_stage(birth)}
        if dated:
            values["by_as_of"] = outcome.as_of
        with self._writing(outcome) as connection:
            opened = connection.execute(GO_ON[dated], values).one_or_none()
            if opened is not None:
                _store_report(connection, grant, outcome)
        return opened

    def _go_on_or_stop(
        self, connection: Connection, grant: Grant, outcome: StageOutcome, birth: dict[str, Any]
    ) -> Finished:
        ended = end_stage(connection, grant, StageEvent.COMPLETE, result=outcome.result, error=None)
        _store_report(connection, grant, outcome)
        if ended.run_as_of is None and outcome.as_of is not None:
            connection.execute(_DATED, {"of_run": grant.run_id, "by_as_of": outcome.as_of})
        if ended.run_cancel_requested:
            words = f"cancelled after stage {grant.stage}"
            closed = close_run(connection, grant.run_id, RunEvent.CANCEL, error=words)
            return Finished(
                run_state=closed.state,
                stage_state=StageState.SUCCEEDED,
                result=outcome.result,
                outcome=closed.outcome,
            )
        opened = open_stage(connection, birth, run_id=grant.run_id, parent_task_id=ended.claimed_task_id)
        return Finished(
            run_state=RunState(ended.run_state),
            stage_state=StageState.SUCCEEDED,
            publication=publication_of(opened),
            result=outcome.result,
        )

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
        bell = to_be_rung_after(delay_s) if delay_s > 0 else handed_out()
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
                **bell,
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
    exhausted = (and_(is_last_attempt), stage_target(StageEvent.EXHAUST))
    queued = stage_target(StageEvent.GIVE_BACK)
    ends = case(cancelled, exhausted, else_=queued) if counts else case(cancelled, else_=queued)
    is_over = is_cancelled | is_last_attempt if counts else is_cancelled
    return {
        "state": ends,
        "attempt": _stage.attempt + (case((is_last_attempt, 0), else_=1) if counts else 0),
        "finished_at": case((is_over, now()), else_=None),
        "queued_at": now(),
        "lease_until": None,
    }


def _store_report(connection: Connection, grant: Grant, outcome: StageOutcome) -> None:
    if outcome.drift_report is None:
        return
    connection.execute(
        insert(tables.drift_report).values(
            run_id=grant.run_id,
            namespace=grant.namespace,
            strategy=grant.strategy,
            as_of=outcome.as_of or grant.as_of,
            report=outcome.drift_report,
            created_at=now(),
            **check_columns(outcome.drift_report),
        )
    )
