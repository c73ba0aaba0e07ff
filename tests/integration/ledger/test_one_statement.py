"""On PostgreSQL the usual course is one statement a step, which the server plans once a connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event, text

from mlops.domain.errors import LedgerUnavailable
from mlops.domain.records import Grant, RunState, Stage, StageOutcome
from mlops.ledger.engine import PREPARED
from mlops.ledger.ledger import SqlLedger, open_ledger
from mlops.ledger.schema import migrate
from tests.support.at_once import at_once
from tests.support.ended_connections import end_other_connections
from tests.support.ledgers import accepted_and_sent, granted, request_for

ON = StageOutcome(result={"share": 0.4}, run_state=None, next_stage=Stage.TRAIN)
OVER = StageOutcome(result={"share": 0.1}, run_state=RunState.SUCCEEDED)


@pytest.fixture
def ledger(postgres_url: str) -> Iterator[SqlLedger]:
    migrate(postgres_url)
    opened = open_ledger(postgres_url)
    yield opened
    opened.close()


@pytest.fixture
def two_ledgers(postgres_url: str) -> Iterator[list[SqlLedger]]:
    migrate(postgres_url)
    pair = [open_ledger(postgres_url) for _ in range(2)]
    yield pair
    for one in pair:
        one.close()


@contextmanager
def counted(ledger: SqlLedger) -> Iterator[list[str]]:
    """What is sent meanwhile."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    engine = ledger.database._engine
    event.listen(engine, "after_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "after_cursor_execute", note)


def test_each_step_of_the_usual_course_is_one_statement(ledger: SqlLedger) -> None:
    with counted(ledger) as sent:
        run_id = ledger.accept(request_for()).run_id
        assert len(sent) == 1
        drift = granted(ledger, run_id)
        assert len(sent) == 2
        ledger.finish(drift, ON)
        assert len(sent) == 3
        train = granted(ledger, run_id, Stage.TRAIN)
        assert len(sent) == 4
        ledger.finish(train, OVER)
        assert len(sent) == 6, "what the outcome is made of is read before"
    assert all(statement.startswith("EXECUTE") for statement in sent)
    assert ledger.run(run_id).state is RunState.SUCCEEDED


def test_what_was_prepared_goes_with_its_connection(ledger: SqlLedger, postgres_url: str) -> None:
    for _ in range(2):
        granted_and_ended(ledger)
        end_other_connections(postgres_url)
    granted_and_ended(ledger)


def test_what_was_prepared_stays_where_its_transaction_is_rolled_back(ledger: SqlLedger) -> None:
    statement = text("SELECT :word || '%' || :word, 7 % 4, '%(word)s'").execution_options(**PREPARED)

    def fail() -> None:
        with ledger.database.transaction() as connection:
            assert connection.execute(statement, {"word": "a%b"}).one() == ("a%b%a%b", 3, "%(word)s")
            raise ArithmeticError

    for _ in range(2):
        with pytest.raises(ArithmeticError):
            fail()
    with ledger.database.reading() as connection:
        assert connection.execute(statement, {"word": "it's"}).one() == ("it's%it's", 3, "%(word)s")


def test_a_pooler_that_mixes_connections_is_named(ledger: SqlLedger) -> None:
    granted_and_ended(ledger)
    with ledger.database.statement("test.pooler") as connection:
        connection.execute(text("DEALLOCATE ALL"))
    with pytest.raises(LedgerUnavailable, match="pooler that hands its connections out by transaction"):
        ledger.accept(request_for())
    granted_and_ended(ledger)


def test_a_connection_whose_preparation_was_interrupted_is_replaced(ledger: SqlLedger) -> None:
    granted_and_ended(ledger)
    with ledger.database.statement("test.interrupted") as connection:
        connection.info["acis_prepared"].clear()  # what a soft time limit between PREPARE and its note leaves
    with pytest.raises(LedgerUnavailable, match="already exists"):
        ledger.accept(request_for())
    granted_and_ended(ledger)


def test_a_plan_for_a_column_of_another_type_is_given_up(ledger: SqlLedger, postgres_url: str) -> None:
    granted_and_ended(ledger)
    run_id = accepted_and_sent(ledger).run_id
    with ledger.database.transaction() as connection:
        connection.execute(text("ALTER TABLE mlops_stage ALTER COLUMN stage TYPE varchar(17)"))
    with pytest.raises(LedgerUnavailable, match="cached plan"):
        granted(ledger, run_id)
    assert granted(ledger, run_id).token == 1


def test_a_run_of_a_kind_that_this_program_does_not_know_is_left_to_a_newer_one(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    with ledger.database.transaction() as connection:
        connection.execute(text("UPDATE mlops_run SET kind = 'of tomorrow'"))
    with pytest.raises(ValueError, match="of tomorrow"):
        granted(ledger, run_id)
    with ledger.database.reading() as connection:
        assert connection.execute(text("SELECT state, token FROM mlops_stage")).one() == ("queued", 0)


def test_a_cancellation_and_a_stages_end_at_once_leave_nothing_that_goes_on(two_ledgers: list[SqlLedger]) -> None:
    pair = two_ledgers
    for _ in range(20):
        run_id = accepted_and_sent(pair[0]).run_id
        grant = granted(pair[0], run_id)

        def act(ledger: SqlLedger, run_id: str = run_id, grant: Grant = grant) -> object:
            return ledger.cancel(run_id, actor="anna") if ledger is pair[0] else ledger.finish(grant, ON)

        at_once(pair, act)
        assert pair[0].claim(run_id, Stage.TRAIN, worker="w") is None
        assert pair[0].run(run_id).state is RunState.CANCELLED


def granted_and_ended(ledger: SqlLedger) -> None:
    run_id = accepted_and_sent(ledger).run_id
    ledger.finish(granted(ledger, run_id), OVER)
    assert ledger.run(run_id).state is RunState.SUCCEEDED
