"""What PostgreSQL did before its answer was lost is done once, however often it is asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from sqlalchemy.engine import make_url

from mlops.domain.errors import LeaseLost, LedgerUnavailable
from mlops.domain.records import Kind, RunState, Stage, StageOutcome
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.chaos.proxy import FaultyProxy
from tests.chaos.servers import through
from tests.support.ledgers import accepted_and_sent, granted, request_for

COMMIT = b"COMMIT\0"
"""As a statement of its own: `READ COMMITTED` holds the word too."""


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[FaultyProxy]:
    migrate(postgres_url)
    with FaultyProxy(int(make_url(postgres_url).port or 0)) as running:
        yield running


@pytest.fixture
def ledger(postgres_url: str, proxy: FaultyProxy) -> Iterator[SqlLedger]:
    opened = open_ledger(through(postgres_url, proxy))
    yield opened
    opened.close()


def test_a_start_is_one_run(ledger: SqlLedger, proxy: FaultyProxy) -> None:
    ledger.accept(request_for("value"))  # its connection knows the statement from now on
    proxy.lose_answers(1, to=b"EXECUTE acis_")
    with pytest.raises(LedgerUnavailable):
        ledger.accept(request_for(run_id="task-1"))
    again = ledger.accept(request_for(run_id="task-1"))
    assert (proxy.n_lost, again.run_id, again.created) == (1, "task-1", False)
    assert again.publication is not None  # nobody has sent it
    assert [run.run_id for run in ledger.runs(strategy="growth")] == ["task-1"]


def test_a_start_that_was_answered_with_another_run_has_that_answer(ledger: SqlLedger, proxy: FaultyProxy) -> None:
    active = ledger.accept(request_for())
    proxy.lose_answers(1, to=b"INSERT INTO mlops_answered_start")
    with pytest.raises(LedgerUnavailable):
        ledger.accept(request_for(run_id="task-1"))
    ledger.cancel(active.run_id, actor="test")
    assert (proxy.n_lost, ledger.accept(request_for(run_id="task-1")).run_id) == (1, active.run_id)


@pytest.mark.parametrize("request_", [b"mlops_drift_report", COMMIT])
def test_a_stages_end_is_one_end(ledger: SqlLedger, proxy: FaultyProxy, request_: bytes) -> None:
    run_id = accepted_and_sent(ledger, request_for(kind=Kind.CHECK)).run_id
    grant = granted(ledger, run_id)
    outcome = StageOutcome(
        result={"verdict": "stable"}, run_state=RunState.SUCCEEDED, drift_report={"summary": {"drift_detected": False}}
    )
    proxy.lose_answers(1, to=request_)
    with pytest.raises(LedgerUnavailable):
        ledger.finish(grant, outcome)
    assert proxy.n_lost == 1
    # It was committed, and this grant is over; or it was not, and the same grant ends it now.
    with pytest.raises(LeaseLost) if request_ == COMMIT else nullcontext():
        ledger.finish(grant, outcome)
    view = ledger.run(run_id)
    assert (view.state, len(view.stages)) == (RunState.SUCCEEDED, 1)
    assert ledger.unlogged_reports() == [run_id]


def test_a_report_keeps_the_run_that_was_noted_first(ledger: SqlLedger, proxy: FaultyProxy) -> None:
    run_id = accepted_and_sent(ledger, request_for(kind=Kind.CHECK)).run_id
    report = StageOutcome(result={}, run_state=RunState.SUCCEEDED, drift_report={"x": 1})
    ledger.finish(granted(ledger, run_id, Stage.DRIFT), report)
    proxy.lose_answers(1, to=COMMIT)
    with pytest.raises(LedgerUnavailable):
        ledger.report_logged(run_id, registry_run_id="first", url=None)
    assert ledger.report_logged(run_id, registry_run_id="second", url=None) is False
    assert ledger.stored_report(run_id).registry_run_id == "first"
