"""The states of runs and stages, and every arrow between them. Pure; the only place that has them.

    run     queued → running → succeeded | refused | awaiting_approval | failed | cancelled | dead
            dead → queued (requeue); `skipped` is how a missed slot is born
    stage   queued → running → succeeded | failed | cancelled | dead
            running → queued (given back), running → running (reclaimed), dead → queued (requeue)

The SQL is generated from these tables: `sources(event)` is the WHERE of a transition, `target(event)` its SET.
"""

from __future__ import annotations

from enum import StrEnum

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import RunState, StageState


class StageEvent(StrEnum):
    """What can happen to a stage."""

    CLAIM = "claim"
    """A worker takes it: queued and due, or running with an expired lease."""
    COMPLETE = "complete"
    """It ended well, whatever it found."""
    GIVE_BACK = "give_back"
    """Back to the queue: a retry, a drain, a lost lease."""
    FAIL = "fail"
    """An error that asking again would not change, or an inline process that died."""
    EXHAUST = "exhaust"
    """The last attempt is used up."""
    CANCEL = "cancel"
    """Somebody asked for it."""
    REQUEUE = "requeue"
    """A person brings it back."""


class RunEvent(StrEnum):
    """What can happen to a run."""

    START = "start"
    """A stage of it was claimed."""
    SUCCEED = "succeed"
    REFUSE = "refuse"
    AWAIT_APPROVAL = "await_approval"
    FAIL = "fail"
    EXHAUST = "exhaust"
    CANCEL = "cancel"
    REQUEUE = "requeue"


STAGE_TRANSITIONS: dict[tuple[StageState, StageEvent], StageState] = {
    (StageState.QUEUED, StageEvent.CLAIM): StageState.RUNNING,
    (StageState.RUNNING, StageEvent.CLAIM): StageState.RUNNING,
    (StageState.RUNNING, StageEvent.COMPLETE): StageState.SUCCEEDED,
    (StageState.RUNNING, StageEvent.GIVE_BACK): StageState.QUEUED,
    (StageState.RUNNING, StageEvent.FAIL): StageState.FAILED,
    (StageState.QUEUED, StageEvent.FAIL): StageState.FAILED,
    (StageState.RUNNING, StageEvent.EXHAUST): StageState.DEAD,
    (StageState.RUNNING, StageEvent.CANCEL): StageState.CANCELLED,
    (StageState.QUEUED, StageEvent.CANCEL): StageState.CANCELLED,
    (StageState.DEAD, StageEvent.REQUEUE): StageState.QUEUED,
}

RUN_TRANSITIONS: dict[tuple[RunState, RunEvent], RunState] = {
    (RunState.QUEUED, RunEvent.START): RunState.RUNNING,
    (RunState.RUNNING, RunEvent.START): RunState.RUNNING,
    (RunState.RUNNING, RunEvent.SUCCEED): RunState.SUCCEEDED,
    (RunState.RUNNING, RunEvent.REFUSE): RunState.REFUSED,
    (RunState.RUNNING, RunEvent.AWAIT_APPROVAL): RunState.AWAITING_APPROVAL,
    (RunState.RUNNING, RunEvent.FAIL): RunState.FAILED,
    (RunState.QUEUED, RunEvent.FAIL): RunState.FAILED,
    (RunState.RUNNING, RunEvent.EXHAUST): RunState.DEAD,
    (RunState.RUNNING, RunEvent.CANCEL): RunState.CANCELLED,
    (RunState.QUEUED, RunEvent.CANCEL): RunState.CANCELLED,
    (RunState.DEAD, RunEvent.REQUEUE): RunState.QUEUED,
}

ACTIVE = (RunState.QUEUED, RunState.RUNNING)
"""States in which a run holds the place of its (namespace, strategy, kind)."""

TERMINAL = tuple(state for state in RunState if state not in ACTIVE)
"""States in which nothing happens any more, but for a requeue of `dead`."""

FAILURES = (RunState.FAILED, RunState.DEAD)
"""Terminal states of runs that ended by an error, which nobody asked for."""

SUCCESSES = (RunState.SUCCEEDED, RunState.REFUSED, RunState.AWAITING_APPROVAL, RunState.SKIPPED)
"""Terminal states that Celery calls SUCCESS: the question was answered."""

#: How a worker may end a run, and what that does to the run and to the stage.
ENDINGS: dict[RunState, tuple[RunEvent, StageEvent]] = {
    RunState.SUCCEEDED: (RunEvent.SUCCEED, StageEvent.COMPLETE),
    RunState.REFUSED: (RunEvent.REFUSE, StageEvent.COMPLETE),
    RunState.AWAITING_APPROVAL: (RunEvent.AWAIT_APPROVAL, StageEvent.COMPLETE),
    RunState.FAILED: (RunEvent.FAIL, StageEvent.FAIL),
    RunState.CANCELLED: (RunEvent.CANCEL, StageEvent.CANCEL),
}


def stage_after(state: StageState, event: StageEvent) -> StageState:
    """The stage's next state. Raises InvalidTransition."""
    try:
        return STAGE_TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(f"a stage that is {state} cannot {event}") from None


def run_after(state: RunState, event: RunEvent) -> RunState:
    """The run's next state. Raises InvalidTransition.

    >>> str(run_after(RunState.DEAD, RunEvent.REQUEUE))
    'queued'
    """
    try:
        return RUN_TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(f"a run that is {state} cannot {event}") from None


def stage_sources(event: StageEvent) -> tuple[StageState, ...]:
    """States from which a stage may take the event."""
    return tuple(state for state, taken in STAGE_TRANSITIONS if taken == event)


def run_sources(event: RunEvent) -> tuple[RunState, ...]:
    """States from which a run may take the event."""
    return tuple(state for state, taken in RUN_TRANSITIONS if taken == event)


def stage_target(event: StageEvent) -> StageState:
    """The state to which the event leads, from wherever it is allowed."""
    return next(target for (_, taken), target in STAGE_TRANSITIONS.items() if taken == event)


def run_target(event: RunEvent) -> RunState:
    """The state to which the event leads, from wherever it is allowed."""
    return next(target for (_, taken), target in RUN_TRANSITIONS.items() if taken == event)


def ending(run_state: RunState) -> tuple[RunEvent, StageEvent]:
    """Events by which a worker ends run and stage. Raises InvalidTransition for what it cannot end them in."""
    try:
        return ENDINGS[run_state]
    except KeyError:
        raise InvalidTransition(
            f"a worker cannot end a run as {run_state}; it ends one of: {', '.join(ENDINGS)}"
        ) from None
