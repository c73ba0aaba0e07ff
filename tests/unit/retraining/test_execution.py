"""How the end of a stage's work becomes one write in the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import structlog

from mlops.domain.errors import (
    EmptyWindow,
    InvalidTransition,
    LeaseLost,
    LedgerUnavailable,
    RegistryUnavailable,
    StageCancelled,
)
from mlops.domain.ports import Ledger
from mlops.domain.records import Finished, Grant, Renewal, RunState, Stage, StageOutcome, StageState
from mlops.runs.executor import RETRY_AFTER_CRASH_S, ended_badly, execute
from mlops.runs.lease import Drained, Holder, LeaseKeeper
from tests.unit.retraining.test_lease_keeper import GRANT, NOW

OUTCOME = StageOutcome(result={"version": "1"}, run_state=RunState.SUCCEEDED)
DONE = Finished(run_state=RunState.SUCCEEDED, stage_state=StageState.SUCCEEDED)


@dataclass
class RecordingLedger:
    """Keeps the call that ends a stage; may refuse it."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    error: Exception | None = None
    finish_error: Exception | None = None

    def _call(self, name: str, **what: Any) -> Finished:
        if self.error is not None:
            raise self.error
        self.calls.append((name, what))
        return DONE

    def finish(self, grant: Grant, outcome: StageOutcome) -> Finished:
        if self.finish_error is not None:
            raise self.finish_error
        return self._call("finish", state=outcome.run_state)

    def fail(self, grant: Grant, *, error: str, retry: bool, delay_s: float = 0.0, counts: bool = True) -> Finished:
        return self._call("fail", error=error, retry=retry, delay_s=delay_s, counts=counts)

    def release(self, grant: Grant, *, cause: str) -> Finished:
        return self._call("release", cause=cause)

    def renew(self, grant: Grant, **_: Any) -> Renewal:
        return Renewal(lease_until=NOW, cancel=False, drain=False)


def executed(ledger: RecordingLedger, error: BaseException | None = None) -> Finished | None:
    def work(grant: Grant, keeper: LeaseKeeper) -> StageOutcome:
        if error is not None:
            raise error
        return OUTCOME

    return execute(GRANT, {Stage.TRAIN: work}, cast("Ledger", ledger), Holder(worker="w1", lease_s=60.0, renew_s=10.0))


def test_work_that_ends_is_finished() -> None:
    ledger = RecordingLedger()
    assert executed(ledger) is DONE
    assert ledger.calls == [("finish", {"state": RunState.SUCCEEDED})]


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (
            RegistryUnavailable("MLflow answers 503", delay_s=30),
            ("fail", {"error": "MLflow answers 503", "retry": True, "delay_s": 30, "counts": False}),
        ),
        (
            EmptyWindow("no rows"),
            ("fail", {"error": "no rows", "retry": False, "delay_s": 0.0, "counts": True}),
        ),
        (
            ZeroDivisionError("division by zero"),
            (
                "fail",
                {
                    "error": "ZeroDivisionError: division by zero",
                    "retry": True,
                    "delay_s": RETRY_AFTER_CRASH_S,
                    "counts": True,
                },
            ),
        ),
        # It must not reach Celery: there it ends the worker's main process and with it all other tasks.
        (
            MemoryError(),
            ("fail", {"error": "MemoryError", "retry": True, "delay_s": RETRY_AFTER_CRASH_S, "counts": True}),
        ),
        (StageCancelled(), ("finish", {"state": RunState.CANCELLED})),
        (Drained("the worker stops"), ("release", {"cause": "the worker stops"})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_error_is_written_as_what_it_means(error: Exception, call: tuple[str, dict[str, Any]]) -> None:
    ledger = RecordingLedger()
    assert executed(ledger, error) is DONE
    assert ledger.calls == [call]


def test_a_lost_lease_writes_nothing() -> None:
    ledger = RecordingLedger()
    assert executed(ledger, LeaseLost()) is None
    assert ledger.calls == []


@pytest.mark.parametrize("work_error", [None, EmptyWindow(), RegistryUnavailable(), MemoryError(), StageCancelled()])
@pytest.mark.parametrize("ledger_error", [LedgerUnavailable(), LeaseLost()])
def test_an_end_that_cannot_be_written_is_none_and_the_lease_decides(
    work_error: Exception | None, ledger_error: Exception
) -> None:
    assert executed(RecordingLedger(error=ledger_error), work_error) is None


def test_a_ledger_that_refuses_the_end_is_no_crash_of_the_worker() -> None:
    assert executed(RecordingLedger(error=InvalidTransition("the run has ended"))) is None


def test_a_result_that_cannot_be_stored_is_a_crash_in_words() -> None:
    ledger = RecordingLedger(finish_error=ValueError("Out of range float values are not JSON compliant: nan"))
    executed(ledger)
    (call,) = ledger.calls
    assert call[0] == "fail"
    assert call[1]["error"] == "ValueError: Out of range float values are not JSON compliant: nan"
    assert (call[1]["retry"], call[1]["counts"]) == (True, True)


def test_log_lines_of_the_stage_carry_its_run_and_the_next_ones_do_not() -> None:
    executed(RecordingLedger(), ZeroDivisionError())
    assert not {"run_id", "stage", "strategy"} & set(structlog.contextvars.get_contextvars())


@pytest.mark.parametrize(
    ("state", "badly"),
    [
        (StageState.SUCCEEDED, False),
        (StageState.QUEUED, False),
        (StageState.CANCELLED, False),
        (StageState.FAILED, True),
        (StageState.DEAD, True),
    ],
)
def test_a_stage_that_waits_for_another_try_has_not_ended_badly(state: StageState, *, badly: bool) -> None:
    assert ended_badly(Finished(run_state=RunState.RUNNING, stage_state=state)) is badly
