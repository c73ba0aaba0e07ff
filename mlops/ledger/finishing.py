"""What the end of a stage does in the usual course, in one statement each.

Each does all or nothing: where the grant is lost, or the run has ended or is asked to stop, it finds no row to begin
with, and the caller's transaction finds out which it was. A stage's row is locked before its run's, here as everywhere;
whoever ends a run ends its stage first, so the run's state stays what it was. A cancellation that is asked for in
between is found by the next claim.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Date, Select, bindparam, exists, func, select, update
from sqlalchemy.sql.dml import ReturningInsert

from mlops.domain.records import RunState
from mlops.domain.run_states import ENDINGS, RunEvent, StageEvent, run_sources, run_target
from mlops.ledger import tables
from mlops.ledger.columns import among, now
from mlops.ledger.prepared import PREPARED
from mlops.ledger.run_completion import into_outbox
from mlops.ledger.stages import ending_of_stage, opening_after

_run = tables.run.c
_stage = tables.stage.c


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


def _ending(run_state: RunState) -> ReturningInsert[Any]:
    """End stage and run, and put the outcome into the outbox.

    Parameters: those of `ended_stage`, `by_as_of`, `by_outcome`, and `state`, Celery's word for the outcome.
    """
    run_event, stage_event = ENDINGS[run_state]
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


#: The next stage; by whether the run gets its date.
GO_ON = {dated: _going_on(dated=dated).execution_options(**PREPARED) for dated in (False, True)}
#: The run's end, by its state.
END = {run_state: _ending(run_state).execution_options(**PREPARED) for run_state in ENDINGS}
