from __future__ import annotations

from itertools import product

import pytest

from mlops.domain.errors import InvalidTransition
from mlops.domain.records import RunState, StageState
from mlops.domain.run_states import (
    ACTIVE,
    SUCCESSES,
    TERMINAL,
    RunEvent,
    StageEvent,
    ending,
    run_after,
    run_sources,
    run_target,
    stage_after,
    stage_sources,
    stage_target,
)

# Written out from the design's words, not from the code's table: "state event next".
STAGE_ARROWS = """
    queued  claim     running
    running claim     running
    running complete  succeeded
    running give_back queued
    running fail      failed
    queued  fail      failed
    running exhaust   dead
    running cancel    cancelled
    queued  cancel    cancelled
    dead    requeue   queued
"""
RUN_ARROWS = """
    queued  start          running
    running start          running
    running succeed        succeeded
    running refuse         refused
    running await_approval awaiting_approval
    running fail           failed
    queued  fail           failed
    running exhaust        dead
    running cancel         cancelled
    queued  cancel         cancelled
    dead    requeue        queued
"""


def arrows(table: str) -> dict[tuple[str, str], str]:
    return {(state, event): target for state, event, target in (line.split() for line in table.strip().splitlines())}


@pytest.mark.parametrize(("state", "event"), list(product(StageState, StageEvent)))
def test_a_stage_takes_exactly_the_events_of_the_table(state: StageState, event: StageEvent) -> None:
    expected = arrows(STAGE_ARROWS).get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{state} cannot {event}"):
            stage_after(state, event)
    else:
        assert stage_after(state, event) == expected


@pytest.mark.parametrize(("state", "event"), list(product(RunState, RunEvent)))
def test_a_run_takes_exactly_the_events_of_the_table(state: RunState, event: RunEvent) -> None:
    expected = arrows(RUN_ARROWS).get((state, event))
    if expected is None:
        with pytest.raises(InvalidTransition, match=f"{state} cannot {event}"):
            run_after(state, event)
    else:
        assert run_after(state, event) == expected


@pytest.mark.parametrize("event", StageEvent)
def test_a_stage_event_leads_to_one_state_from_wherever_it_is_allowed(event: StageEvent) -> None:
    assert {stage_after(state, event) for state in stage_sources(event)} == {stage_target(event)}


@pytest.mark.parametrize("event", RunEvent)
def test_a_run_event_leads_to_one_state_from_wherever_it_is_allowed(event: RunEvent) -> None:
    assert {run_after(state, event) for state in run_sources(event)} == {run_target(event)}


def test_a_run_is_active_or_terminal_and_never_both() -> None:
    assert {*ACTIVE, *TERMINAL} == set(RunState)
    assert not {*ACTIVE} & {*TERMINAL}


def test_failed_cancelled_and_dead_are_the_failures() -> None:
    assert {*TERMINAL} - {*SUCCESSES} == {RunState.FAILED, RunState.CANCELLED, RunState.DEAD}


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, RunState.DEAD, RunState.SKIPPED])
def test_a_worker_cannot_end_a_run_in_a_state_that_is_not_its_to_give(state: RunState) -> None:
    with pytest.raises(InvalidTransition, match=f"cannot end a run as {state}"):
        ending(state)


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.REFUSED, RunState.AWAITING_APPROVAL])
def test_an_answer_ends_the_stage_well(state: RunState) -> None:
    run_event, stage_event = ending(state)
    assert run_after(RunState.RUNNING, run_event) == state
    assert stage_after(StageState.RUNNING, stage_event) == StageState.SUCCEEDED
